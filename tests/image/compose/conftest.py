"""What the compose tests share: both deployments as their files describe them, in the tests' tailnet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.image.compose.project import droplet_images, project
from tests.image.conftest import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.image.compose.project import Project
    from tests.support.control import Control

MOLTIS_UID = 1000


@pytest.fixture
def single(tmp_path: Path, image: str, control: Control) -> Iterator[Project]:
    """deploy/docker, not yet started."""
    with project(tmp_path, "docker", {"moltis": image}, "moltis", KEY, control) as found:
        yield found


@pytest.fixture
def droplet(tmp_path: Path, image: str, control: Control) -> Iterator[Project]:
    """deploy/droplet, not yet started; the password's file is Moltis' user's, as cloud-init makes it."""
    with project(tmp_path, "droplet", droplet_images(image), "panel", KEY, control) as found:
        os.chown(found.folder / "secrets/moltis-password", MOLTIS_UID, MOLTIS_UID)
        yield found
