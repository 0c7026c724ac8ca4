"""Committed files contain nothing about the machine on which they were written."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conventions.tree import ROOT, read, tracked

# Composed here, so that this file does not match itself.
REGISTRIES = tuple(
    name.replace("|", ".")
    for name in (
        "pypi|org",
        "pythonhosted|org",
        "proxy|golang|org",
        "sum|golang|org",
        "registry|npmjs|org",
        "crates|io/",
        "repo1|maven|org",
        "deb|debian|org",
        "index|docker|io",
    )
)
HOMES = re.compile(r"(?<![\w.}$])/(?:home|Users)/[a-z][\w-]*/\w")
TEXT = tuple(path for path in tracked() if not path.endswith((".png", ".ico", ".woff2")))
# A checkout near the root, such as /src, has a name that occurs in other contexts too.
FEWEST_PARTS = 3


def test_no_registry_is_named() -> None:
    """The registry for packages is chosen by whoever installs them."""
    assert not {path for path in TEXT if any(host in read(path) for host in REGISTRIES)}


def test_no_path_of_a_machine_is_named() -> None:
    """No file contains the path of a checkout or of a home folder."""
    own = [str(folder) for folder in (ROOT, Path.home()) if len(folder.parts) >= FEWEST_PARTS]
    assert not {path for path in TEXT if HOMES.search(read(path)) or any(folder in read(path) for folder in own)}


def test_locks_have_hashes() -> None:
    """Each locked package has hashes, and no lock names an index."""
    locks = [path for path in tracked() if path.startswith("requirements/") and path.endswith(".txt")]
    assert {"requirements/run.txt", "requirements/build.txt", "requirements/dev.txt"} <= set(locks)
    for text in map(read, locks):
        packages = re.findall(r"^[A-Za-z0-9][\w.-]*==.*$", text, re.MULTILINE)
        assert packages
        assert all(line.endswith("\\") for line in packages)
        assert "--hash=sha256:" in text
        assert "index-url" not in text
        assert "find-links" not in text
