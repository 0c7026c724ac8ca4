"""The image for arm64, under emulation where this machine is another: `make test-image-arm`."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.conventions.tree import read
from tests.image.conftest import KEY
from tests.support.control import ROOT
from tests.support.docker import container, docker, unique

if TYPE_CHECKING:
    from collections.abc import Iterator

# Emulation is ten times as slow, and more.
PATIENCE_S = 240.0

pytestmark = [
    pytest.mark.skipif(os.environ.get("TEST_ENGINE_ARCH") != "arm64", reason="takes `make test-image-arm`"),
    pytest.mark.timeout(1800),
]


def default(name: str) -> str:
    """Return a build argument's default."""
    found = re.search(rf"^ARG {name}=(.*)$", read("Dockerfile.embedded"), re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def arm_image() -> Iterator[str]:
    """The single image for arm64, with stand-ins for what it begins with."""
    name = f"moltis-embedded:{unique('arm64')}"
    docker(
        *("buildx", "build", "--load", "--quiet", "--platform", "linux/arm64", "--tag", name),
        *("--build-arg", f"MOLTIS_IMAGE=test-engine-arm64/{default('MOLTIS_IMAGE')}"),
        *("--build-arg", "TAILSCALE_IMAGE=test-engine-arm64/tailscale/tailscale"),
        *("--file", str(ROOT / "Dockerfile.embedded"), str(ROOT)),
        timeout_s=1500,
    )
    yield name
    docker("image", "rm", "--force", name)


def test_every_program_is_for_arm64(arm_image: str) -> None:
    """What is in the image says so, and each of its own programs and libraries too; `--version` runs all of it."""
    assert docker("image", "inspect", "--format", "{{.Architecture}}", arm_image).stdout.strip() == "arm64"
    run = ("run", "--rm", "--platform", "linux/arm64", "--entrypoint")
    said = docker(*run, "moltis-supervisor", arm_image, "--version", timeout_s=PATIENCE_S).stdout
    assert f"tailscaled  {default('TAILSCALE_TAG').removeprefix('v')}" in said
    assert "restic      0." in said
    script = "find /opt/moltis-supervisor -name '*.so' -exec od -An -tx1 -j18 -N2 {} ';' | sort -u"
    kinds = docker(*run, "sh", arm_image, "-c", script, timeout_s=PATIENCE_S).stdout
    assert kinds.split() == ["b7", "00"]


def test_check_finds_nothing_wrong(arm_image: str) -> None:
    """As on any other processor."""
    run = ("run", "--rm", "--platform", "linux/arm64", "--entrypoint", "moltis-supervisor")
    plan = json.loads(docker(*run, arm_image, "check", "--json", timeout_s=PATIENCE_S).stdout)
    assert plan["problems"] == []
    assert [process["name"] for process in plan["processes"]] == ["tailscaled", "moltis"]


def test_it_starts_and_stops(arm_image: str) -> None:
    """Supervisor, app and tailscaled run, each as its user; health is answered, and a stop ends them in order."""
    env = {
        "TS_AUTHKEY": KEY,
        # Nobody is there: how far it gets without a control server is what counts.
        "TS_EXTRA_ARGS": "--login-server=http://127.0.0.1:9",
        "TS_DISABLE_PORTMAPPER": "1",
        "TS_NO_LOGS_NO_SUPPORT": "1",
        "SUPERVISOR_STOP_TIMEOUT": "60s",
    }
    with container(arm_image, options=("--platform", "linux/arm64"), env=env) as started:
        started.settled("/readyz", deadline_s=PATIENCE_S)
        started.wait_log("health is warn", PATIENCE_S)
        status = json.loads(started.execute("moltis-supervisor", "status", "--json").stdout)
        assert [process["state"] for process in status["processes"]] == ["running", "running"]
        assert status["tailnet"]["version"] == default("TAILSCALE_TAG").removeprefix("v")
        assert started.execute("healthcheck").status == 0
        started.stop(90)
        assert started.wait_end() == 0
        assert "stopped status=0" in started.logs()
