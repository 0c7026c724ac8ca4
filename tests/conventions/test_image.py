"""The image names its parts in one place each, and is built from what the repository has."""

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
    """Also of an image that nobody gave a version."""
    assert f"\nARG VERSION={__version__}\n" in read("Dockerfile.embedded")


def test_the_page_tells_what_the_arguments_are_by_default() -> None:
    """One that differs would be looked for in vain."""
    given = dict(re.findall(r"^ARG ((?:MOLTIS|TAILSCALE)_\w+)=(.*)$", read("Dockerfile.embedded"), re.MULTILINE))
    told: dict[str, str] = {}
    for names, values in re.findall(
        r"^\| (`(?:MOLTIS|TAILSCALE)_.*?) \| (.*?) \|", read("docs/reference/image.md"), re.MULTILINE
    ):
        values = values.replace("empty", "``")  # noqa: PLW2901
        told |= dict(zip(re.findall(r"`(.*?)`", names), re.findall(r"`(.*?)`", values), strict=True))
    assert told == given


def test_process_1_is_the_interpreter() -> None:
    """entrypoint.sh replaces itself, searches no folder for modules, and hands on the command word for word."""
    last = read("entrypoint.sh").splitlines()[-1]
    assert re.fullmatch(r'cd / && exec \S+/python -I -m supervisor run -- "\$@"', last)


def test_root_looks_for_no_program_in_a_path_that_others_made() -> None:
    """What the image runs as root begins with an interpreter's own path, and PATH is the image's own."""
    for name in ("entrypoint.sh", "healthcheck"):
        assert re.match(r"#!/bin/\w+( -p)?\n", read(name)), name
    assert f"\nENV PATH={DEFAULT_PATH}\n" in read("Dockerfile.embedded")


def test_what_the_image_copies_is_there_and_may_be_run() -> None:
    """Classic builders know no --chmod: the modes are those of the repository."""
    for name in ("entrypoint.sh", "healthcheck", "scripts/test-engine"):
        assert os.access(ROOT / name, os.X_OK), name
