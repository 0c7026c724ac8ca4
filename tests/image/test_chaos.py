"""Chaos with the image's own Python and package: with limits, a root that is read-only, another user, and in gVisor."""

from __future__ import annotations

import os
import re

import pytest

from tests.support.control import ROOT
from tests.support.docker import docker

SECONDS = float(os.environ.get("CHAOS_S", "15"))
PYTHON = "/opt/moltis-supervisor/bin/python"
TMP = ("--tmpfs", "/tmp:exec")
# What a container takes for a pid namespace of its own in it, so that the supervisor is process 1 there.
UNSHARING = ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined")
WAYS = {
    "root": UNSHARING,
    "limits": ("--memory", "400m", "--pids-limit", "400", "--cpus", "0.5"),
    "read-only": ("--read-only", *TMP),
    "user": ("--user", "1000", "--cap-drop", "ALL"),
    "read-only user": ("--read-only", *TMP, "--user", "1000", "--cap-drop", "ALL"),
    "gvisor": (),
    "gvisor user": ("--user", "1000"),
}


@pytest.fixture(params=WAYS)
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options for each kind of container."""
    sandbox: tuple[str, ...] = request.getfixturevalue("gvisor") if "gvisor" in request.param else ()
    return (*sandbox, *WAYS[request.param])


def test_nothing_breaks_in_it(image: str, options: tuple[str, ...]) -> None:
    """Some lives of a fresh seed, without a violation; the runner is in the container too."""
    words = ("-m", "tests.chaos", "--flavours", "plain,process-1,drop", "--seconds", str(SECONDS), "--no-shrink")
    done = docker(
        *("run", "--rm", "--network", "none", "--volume", f"{ROOT}/tests:/tests:ro", "--workdir", "/"),
        *("--env", "PYTHONDONTWRITEBYTECODE=1", "--entrypoint", PYTHON, *options, image, *words, "--no-table"),
        timeout_s=SECONDS + 200,
        may_fail=True,
    )
    found = re.search(r"(\d+) rounds", done.stdout)
    assert done.status == 0, done.stdout + done.stderr
    assert found is not None
    assert int(found[1]) >= 5
    print(done.stdout.splitlines()[-1])
