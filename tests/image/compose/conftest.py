"""What the compose tests share: both deployments as their files describe them, in the tests' tailnet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.image.compose.project import project
from tests.image.conftest import KEY
from tests.support.control import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.image.compose.project import Project
    from tests.support.control import Control

MOLTIS_UID = 1000


def moltis_image() -> str:
    """Return the name that Moltis' stand-in has here: that of the Dockerfile's base image."""
    given = dict(
        line.removeprefix("ARG ").split("=", 1)
        for line in (ROOT / "Dockerfile.embedded").read_text().splitlines()
        if line.startswith("ARG ") and "=" in line
    )
    return f"{given['MOLTIS_IMAGE']}:{given['MOLTIS_TAG']}"


@pytest.fixture
def single(tmp_path: Path, image: str, control: Control) -> Iterator[Project]:
    """deploy/docker, not yet started."""
    with project(tmp_path, "docker", {"moltis": image}, "moltis", KEY, control) as found:
        yield found


@pytest.fixture
def droplet(tmp_path: Path, image: str, control: Control) -> Iterator[Project]:
    """deploy/droplet, not yet started; the password's file is Moltis' user's, as cloud-init makes it."""
    tailscale = "docker.io/tailscale/tailscale:v1.102.5"
    services = {"tailscale": tailscale, "moltis": moltis_image(), "panel": image}
    with project(tmp_path, "droplet", services, "panel", KEY, control) as found:
        os.chown(found.folder / "secrets/moltis-password", MOLTIS_UID, MOLTIS_UID)
        yield found
