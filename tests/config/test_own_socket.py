"""Where tailscaled's own socket may be: where it destroys nothing, and where the app does not reach it."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from supervisor.core.process import User
from supervisor.errors import ConfigError
from tests.config.machine import BARE, IMAGE, MOLTIS, TAILSCALE, Machine, plan


def problems(environ: dict[str, str], machine: Machine = IMAGE) -> tuple[str, ...]:
    """Return the problems with these settings; none if it would start."""
    try:
        plan(environ, machine)
    except ConfigError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "pipe", "socket", "nothing"])
@pytest.mark.parametrize("machine", [IMAGE, BARE], ids=["image", "one user"])
def test_what_is_at_the_path_of_tailscaleds_socket_is_not_deleted(tmp_path: Path, kind: str, machine: Machine) -> None:
    """tailscaled deletes what it finds there: only a socket may be left of a former run."""
    path = tmp_path / "it"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as former:
            former.bind(str(path))
    found = problems({"TS_SOCKET": str(path)}, machine)
    assert problems({"TS_SOCKET": str(path), "SUPERVISOR_TAILSCALE": "attach"}, machine) == ()
    if kind in {"socket", "nothing"}:
        assert found == ()
    else:
        assert len(found) == 1
        assert f"{path}: a {kind} is there, which it would delete; move it away" in found[0]


@pytest.mark.parametrize("name", ["run/control.sock", "run/http", "run/supervisor.lock", "state/tailscaled.state"])
@pytest.mark.parametrize("by", ["{folder}/{name}", "{folder}/link/../{name}", "{folder}/link/{name}"])
def test_tailscaleds_socket_has_no_name_of_another_file(tmp_path: Path, name: str, by: str) -> None:
    """They may not exist yet: at the first start the socket would be where the device's identity belongs."""
    (tmp_path / "link").symlink_to(tmp_path)
    folders = {"SUPERVISOR_RUN_DIR": f"{tmp_path}/run", "TS_STATE_DIR": f"{tmp_path}/state"}
    (problem,) = problems({**folders, "TS_SOCKET": by.format(folder=tmp_path, name=name)})
    assert "would replace a file of the supervisor or of tailscaled" in problem
    for free in ("run/ts.sock", "state/tailscaled.sock", "state/tailscale/tailscaled.sock", "other/control.sock"):
        assert problems({**folders, "TS_SOCKET": f"{tmp_path}/{free}"}) == ()


@pytest.mark.parametrize("setting", ["SUPERVISOR_TAILSCALE_USER", "SUPERVISOR_APP_USER"])
def test_tailscaleds_socket_is_closed_to_the_app(setting: str) -> None:
    """Everyone who reaches it can dial into the tailnet: a folder that exists has to be closed already."""
    machine = Machine(users=(MOLTIS, TAILSCALE, User("root", 0, 0, "/root")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = {"TS_SOCKET": f"{folder}/tailscaled.sock"}
        assert problems(environ, machine) == ()
        for mode in (0o711, 0o1777):
            folder.chmod(mode)
            (problem,) = problems(environ, machine)
            assert "the app's user moltis reaches it there" in problem
            assert "name a folder that does not exist yet" in problem
        assert problems({"TS_SOCKET": f"{folder}/new/tailscaled.sock"}, machine) == ()
        # Where root runs one of them: nothing can be closed to root, and tailscaled's is still closed to the app.
        assert len(problems({**environ, setting: "root"}, machine)) == (setting == "SUPERVISOR_TAILSCALE_USER")
        assert problems({**environ, setting: "root", "SUPERVISOR_APP": "off"}, machine) == ()
        # The supervisor closes its own folders at the start.
        assert problems({**environ, "TS_STATE_DIR": str(folder)}, machine) == ()
        assert problems({**environ, "SUPERVISOR_TAILSCALE": "attach"}, machine) == ()
        assert problems(environ, Machine(uid=1000)) == ()
