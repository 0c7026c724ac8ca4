"""Fixtures of the tests of backups: buckets, and repositories of each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.backups import Bucket, bucket
from tests.support.flaky import flaky

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.flaky import Flaky


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bucket]:
    """A bucket."""
    with bucket(tmp_path / "s3") as running:
        yield running


@pytest.fixture
def way(server: Bucket) -> Iterator[Flaky]:
    """A proxy in front of the bucket that only one instance uses."""
    with flaky(server.port) as found:
        yield found


@pytest.fixture(params=["folder", "bucket"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a repository of each kind."""
    if request.param == "folder":
        return str(tmp_path / "repository")
    running: Bucket = request.getfixturevalue("server")
    return running.repository
