"""Code that runs as the app's user cannot get at the key, tailscaled, the supervisor, or root."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.image.conftest import HERE, KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

SCRIPT = ("--volume", f"{HERE / 'escape.py'}:/escape.py:ro")
GO = "/tmp/go"
# The app, and an intruder's code started by it.
BROKEN_INTO = f"moltis --bind 127.0.0.2 --port 13131 --no-tls & python3 -I /escape.py {GO}; wait"
# Trying each port is slow in the sandbox.
BROKEN_INTO_SLOWLY = BROKEN_INTO.replace(GO, f"{GO} 14000")


@pytest.fixture
def key_file(tmp_path: Path, login: dict[str, str]) -> dict[str, str]:
    """Return the variables for a login whose key is in a file of root's, and in no variable."""
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o400)
    return {name: text for name, text in login.items() if name != "TS_AUTHKEY"} | {"TS_AUTHKEY_FILE": "/secret"}


@pytest.fixture
def keyed(tmp_path: Path, run: Run, key_file: dict[str, str]) -> Run:
    """Return a function that runs the image with that file."""
    mounted = (*SCRIPT, "--volume", f"{tmp_path / 'key'}:/secret:ro")

    def run_keyed(*command: str, options: tuple[str, ...] = (), **env: str) -> AbstractContextManager[Container]:
        return run(*command, options=(*mounted, *options), **key_file, **env)

    return run_keyed


def from_the_app(box: Container) -> dict[str, Any]:
    """Let the app's child try, and return the ways out that it found."""
    box.settled()
    box.address()
    box.execute("touch", GO)
    line = next(line for line in box.wait_log("ESCAPE {", 200).splitlines() if "ESCAPE {" in line)
    told = json.loads(line.partition("ESCAPE ")[2])
    assert told["uid"] == 1000
    found: dict[str, Any] = told["found"]
    return found


def _from_outside(box: Container, user: str) -> dict[str, Any]:
    """Let `docker exec` try as a user, ignoring the container's variables, which Docker itself passes to it."""
    told = json.loads(box.execute("python3", "-I", "/escape.py", user=user).stdout.partition("ESCAPE ")[2])
    found: dict[str, Any] = told["found"]
    found["told"] = [way for way in found.get("told", []) if not way.endswith("own environment")]
    return {name: ways for name, ways in found.items() if ways}


def test_a_child_of_the_app_finds_no_way(run: Run, login: dict[str, str]) -> None:
    """With the key in the environment, a process of the app finds nothing: files, /proc, sockets, ports, sudo."""
    with run("sh", "-c", BROKEN_INTO, options=SCRIPT, **login) as box:
        assert from_the_app(box) == {}


def test_docker_exec_as_the_app_finds_no_way_and_as_root_finds_them(keyed: Run) -> None:
    """A process that Docker starts as the app's user finds nothing either; root finds much, so the script works."""
    with keyed() as box:
        box.settled()
        box.address()
        assert _from_outside(box, "moltis") == {}
        open_to_root = _from_outside(box, "root")
        assert {"processes", "files", "sockets"} <= set(open_to_root)
        assert "the key in /secret" in open_to_root["files"]
        assert any("POST /api/tailscale/disconnect on control.sock" in way for way in open_to_root["sockets"])


def test_under_gvisor_a_child_of_the_app_finds_no_way(run: Run, login: dict[str, str], gvisor: tuple[str, ...]) -> None:
    """The sandbox that App Platform is said to use denies the same as Linux."""
    with run("sh", "-c", BROKEN_INTO_SLOWLY, options=(*SCRIPT, *gvisor), **login) as box:
        found = from_the_app(box)
        # It lists the numbers of descriptors and the namespaces to anyone, but not what they refer to.
        assert {re.sub(r"(ns/mnt) \S+", r"\1", way) for way in found.pop("processes", ())} <= {
            f"{way} of {name}" for way in ("the list fdinfo", "ns/mnt") for name in ("supervisor", "tailscaled")
        }
        assert found == {}
