"""cloud-init's script for a Droplet that nobody logs in to, run for real beside the compose file it carries."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.image.compose.conftest import MOLTIS_UID
from tests.image.compose.project import overlaid
from tests.image.conftest import KEY
from tests.support.control import ROOT, controlling
from tests.support.docker import PATIENCE_S, docker, unique
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.control import Control

URL = re.compile(r"http://\S+/auth/\S+")


@pytest.fixture(params=["key", "no key"])
def with_key(request: pytest.FixtureRequest) -> bool:
    """Whether somebody has put a key into the user data."""
    return bool(request.param == "key")


@pytest.fixture
def tailnet(gateway: str, with_key: bool) -> Iterator[Control]:  # noqa: FBT001 - a fixture's name
    """A tailnet that takes the key, or a person."""
    flags = ("-authkey", KEY) if with_key else ("-auth",)
    with controlling("-listen", f"{gateway}:0", *flags) as control:
        yield control


def unpack(folder: Path) -> None:
    """Write the files that cloud-init writes below /opt/moltis."""
    for file in yaml.safe_load((ROOT / "deploy/droplet/cloud-init.yaml").read_text())["write_files"]:
        if file["path"].startswith("/opt/moltis/"):
            path = folder / file["path"].removeprefix("/opt/moltis/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(file["content"])
            path.chmod(int(file.get("permissions", "0644"), 8))


def environment(folder: Path) -> dict[str, str]:
    """Return what leads the script to another screen, and past systemd."""
    stub = folder / "bin/systemctl"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" >>{folder}/asked\n')
    stub.chmod(0o755)
    return os.environ | {
        "PATH": f"{stub.parent}:{os.environ['PATH']}",
        "COMPOSE_PROJECT_NAME": unique("first"),
        "SCREEN": str(folder / "screen"),
        "PAUSE": "1",
    }


def test_until_it_is_in_the_tailnet(tmp_path: Path, image: str, tailnet: Control, with_key: bool) -> None:  # noqa: FBT001
    """A key logs it in, or a person by the link on the screen; then no key is left, and the screen says what next."""
    unpack(tmp_path)
    overlaid(tmp_path / "compose.yaml", image, tailnet)
    key = tmp_path / "secrets/ts-authkey"
    if with_key:
        key.chmod(0o600)
        key.write_text(f"{KEY}\n")
    env = environment(tmp_path)
    screen = tmp_path / "screen"
    script = subprocess.Popen([str(tmp_path / "first-start")], env=env)
    try:
        if not with_key:
            wait_until(lambda: screen.exists() and URL.search(screen.read_text()), PATIENCE_S, "a link on the screen")
            found = URL.search(screen.read_text())
            assert found is not None
            tailnet.order("complete-auth", url=found[0])
        assert script.wait(PATIENCE_S * 2) == 0
        assert not key.exists()
        assert not (tmp_path / "compose.override.yaml").exists()
        assert (tmp_path / "asked").read_text() == "disable moltis-first-start.service\n"
        for name, owner in (("supervisor-token", 0), ("moltis-password", MOLTIS_UID)):
            secret = tmp_path / "secrets" / name
            assert secret.stat().st_mode & 0o777 == 0o400
            assert secret.stat().st_uid == owner
            assert secret.read_text().strip() in screen.read_text()
        panel = docker(
            "compose", "--project-name", env["COMPOSE_PROJECT_NAME"], "ps", "--quiet", "panel"
        ).stdout.strip()
        assert "ts-authkey" not in docker("inspect", panel).stdout
    finally:
        script.kill()
        script.wait()
        docker("compose", "--project-name", env["COMPOSE_PROJECT_NAME"], "down", "--volumes", "--timeout", "1")
