"""The steps of a release on a copy of the tree; docker, cosign and gh only record their arguments."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from supervisor import __version__
from tests.support.control import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NEW = "41.42.43"
DIGEST = "sha256:" + "0a" * 32
TAKES_DOWN = '#!/bin/sh\necho "$(basename "$0") $*" >>"$TAKEN"; [ "$(basename "$0")" != gh ] || cat >>"$TAKEN"\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that a release changes, with something to release."""
    copy = tmp_path / "tree"
    for name in ("deploy", "docs", ".do", "supervisor"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Dockerfile.embedded", "README.md"):
        shutil.copy(ROOT / name, copy)
    with (copy / "docs/reference/versions.md").open("a") as page:
        page.write(f"| {NEW} | nothing | yes |\n")
    log = (ROOT / "CHANGELOG.md").read_text()
    (copy / "CHANGELOG.md").write_text(log.replace("## [Unreleased]\n", "## [Unreleased]\n\n- What is new.\n", 1))
    for name in ("docker", "cosign", "gh"):
        (tmp_path / name).write_text(TAKES_DOWN)
        (tmp_path / name).chmod(0o755)
    subprocess.run(["git", "init", "-q", copy], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "Begin"], cwd=copy, check=True)
    return copy


def release(tree: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run one step."""
    path = f"{tree.parent}:{os.environ['PATH']}"
    return subprocess.run(
        [ROOT / "scripts/release", *words],
        env={"PATH": path, "RELEASE_ROOT": str(tree), "TAKEN": str(tree.parent / "taken"), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_version_goes_wherever_it_is_written(tree: Path) -> None:
    """Package, changelog and deploy files have it: the tag's check passes, and the old version is nowhere left."""
    assert release(tree, "prepare", NEW).returncode == 0
    assert f'__version__ = "{NEW}"' in (tree / "supervisor/__init__.py").read_text()
    assert f"\nARG VERSION={NEW}\n" in (tree / "Dockerfile.embedded").read_text()
    assert re.search(rf"## \[Unreleased\]\n\n## \[{NEW}\] - \d{{4}}-\d\d-\d\d\n", (tree / "CHANGELOG.md").read_text())
    # The list of packages is that of the old image.
    words = [
        "grep",
        "-rnE",
        "--exclude=sbom.json",
        f"moltis-embedded:{__version__}|[tT]ag: {__version__}|tags/v{__version__}",
    ]
    assert subprocess.run(words, cwd=tree, stdout=subprocess.PIPE, check=False).stdout == b""
    for name in ("deploy/kubernetes/kustomization.yaml", "deploy/app-platform/app.yaml", ".do/deploy.template.yaml"):
        assert f"ag: {NEW}" in (tree / name).read_text()
    assert release(tree, "check", TAG=f"v{NEW}").returncode == 0


def test_what_is_still_called_unpublished_is_told(tree: Path) -> None:
    """After the push it would be forgotten; the list of packages stays that of the image it was made from."""
    listed = (tree / "docs/reference/sbom.json").read_bytes()
    said = release(tree, "prepare", NEW).stdout
    assert "README.md" in said
    assert "docs/tutorial/droplet.md" in said
    assert (tree / "docs/reference/sbom.json").read_bytes() == listed


def test_a_version_without_upgrade_notes_is_not_prepared(tree: Path) -> None:
    """Users have to know what to do for an upgrade, and whether they can go back."""
    done = release(tree, "prepare", "41.42.44")
    assert done.returncode == 1
    assert "no upgrade note" in done.stderr
    assert f'__version__ = "{__version__}"' in (tree / "supervisor/__init__.py").read_text()


@pytest.mark.parametrize("version", ["", "1.2", "v1.2.3", "1.2.3; true"])
def test_what_is_no_version_changes_nothing(tree: Path, version: str) -> None:
    """The error says what to use."""
    done = release(tree, "prepare", version)
    assert done.returncode == 1
    assert "use VERSION=1.2.3" in done.stderr
    assert f'__version__ = "{__version__}"' in (tree / "supervisor/__init__.py").read_text()


@pytest.mark.parametrize("tag", ["", "v9.9.9", NEW])
def test_another_tag_than_the_version_is_not_released(tree: Path, tag: str) -> None:
    """The error has the package's version."""
    release(tree, "prepare", NEW)
    done = release(tree, "check", TAG=tag)
    assert done.returncode == 1
    assert f"the package's version is {NEW}" in done.stderr


def test_a_tag_without_a_section_is_not_released(tree: Path) -> None:
    """Its release notes would be empty."""
    log = tree / "CHANGELOG.md"
    log.write_text(log.read_text().replace(f"## [{__version__}]", "## [0.0.0]"))
    assert "has no section" in release(tree, "check", TAG=f"v{__version__}").stderr


def test_what_is_signed_is_what_was_pushed(tree: Path) -> None:
    """The image is signed by its digest, for both architectures; the release notes are the version's section only."""
    release(tree, "prepare", NEW)
    assert "run make release-image first" in release(tree, "sign").stderr
    assert release(tree, "image").returncode == 0
    (tree / ".release/image.json").write_text(f'{{\n  "containerimage.digest": "{DIGEST}",\n  "x": {{}}\n}}\n')
    assert release(tree, "sign").returncode == 0
    assert release(tree, "notes", TAG=f"v{NEW}").returncode == 0
    built, signed, noted, *notes = (tree.parent / "taken").read_text().splitlines()
    assert "--platform linux/amd64,linux/arm64" in built
    assert f"--tag ghcr.io/moltis-org/moltis-embedded:{NEW} ." in built
    assert signed == f"cosign sign --yes ghcr.io/moltis-org/moltis-embedded@{DIGEST}"
    assert noted.startswith(f"gh release create v{NEW} --verify-tag")
    assert "- What is new." in notes
    assert not [line for line in notes if line.startswith("## ")]
