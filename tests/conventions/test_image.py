"""The versions in the image's files are consistent, and the image is built from the files of the repository."""

from __future__ import annotations

import os
import re

from supervisor import __version__
from supervisor.config.plan import DEFAULT_PATH
from tests.conventions.tree import ROOT, read


def test_the_image_has_the_pinned_tailscale() -> None:
    """The Dockerfile's tag is the version of scripts/tailscaled.pin."""
    pinned = re.search(r"^TAILSCALE_VERSION=(.+)$", read("scripts/tailscaled.pin"), re.MULTILINE)
    tagged = re.search(r"^ARG TAILSCALE_TAG=v(.+)$", read("Dockerfile.embedded"), re.MULTILINE)
    assert pinned
    assert tagged
    assert pinned[1] == tagged[1]


def test_the_label_is_the_package_s_version() -> None:
    """This holds even if the build sets no version."""
    assert f"\nARG VERSION={__version__}\n" in read("Dockerfile.embedded")


def test_the_page_tells_what_the_arguments_are_by_default() -> None:
    """Each argument's default on the page is that in the Dockerfile."""
    given = dict(re.findall(r"^ARG ((?:MOLTIS|TAILSCALE)_\w+)=(.*)$", read("Dockerfile.embedded"), re.MULTILINE))
    told: dict[str, str] = {}
    for names, values in re.findall(
        r"^\| (`(?:MOLTIS|TAILSCALE)_.*?) \| (.*?) \|", read("docs/reference/image.md"), re.MULTILINE
    ):
        values = values.replace("empty", "``")  # noqa: PLW2901
        told |= dict(zip(re.findall(r"`(.*?)`", names), re.findall(r"`(.*?)`", values), strict=True))
    assert told == given


def test_process_1_is_the_interpreter() -> None:
    """entrypoint.sh replaces itself, uses no folder for modules, and passes on the command unchanged."""
    last = read("entrypoint.sh").splitlines()[-1]
    assert re.fullmatch(r'cd / && exec \S+/python -I -m supervisor run -- "\$@"', last)


def test_root_looks_for_no_program_in_a_path_that_others_made() -> None:
    """Scripts that the image runs as root start with an absolute path to the interpreter, and PATH is the image's."""
    for name in ("entrypoint.sh", "healthcheck"):
        assert re.match(r"#!/bin/\w+( -p)?\n", read(name)), name
    assert f"\nENV PATH={DEFAULT_PATH}\n" in read("Dockerfile.embedded")


def test_what_the_image_copies_is_there_and_may_be_run() -> None:
    """The classic builder has no --chmod: the modes are those of the repository."""
    for name in ("entrypoint.sh", "healthcheck", "scripts/test-engine"):
        assert os.access(ROOT / name, os.X_OK), name
