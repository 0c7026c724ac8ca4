"""Whatever prevents a start is reported at once, with what to do, and no process is started."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.process.running import Run, running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

FOR_EVER = ("sh", "-c", "echo ready; exec sleep 300")


def refused(run: Run) -> str:
    """Return what a run reported that exited with 78 before it started anything."""
    assert run.wait() == 78
    assert run.records == []
    assert "Traceback" not in run.stderr
    return run.stderr


def test_all_problems_are_told_at_once() -> None:
    """Three invalid settings are all reported."""
    env = {"SUPERVISOR_STOP_TIMEOUT": "soon", "SUPERVISOR_GIVE_UP": "x", "SUPERVISOR_LOG_FORMAT": "xml"}
    with running(*FOR_EVER, env=env) as run:
        said = refused(run)
        assert "there are 3 problems" in said
        assert all(name in said for name in env)


def test_a_port_in_use() -> None:
    """The message names the port and the setting."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running(*FOR_EVER, env={"PORT": port}) as run:
            said = refused(run)
            assert port in said
            assert "set PORT to another port" in said


@pytest.mark.parametrize("name", ["control.sock", "supervisor.lock", "http"])
def test_something_else_at_the_place_of_a_file(tmp_path: Path, name: str) -> None:
    """The remedy is to remove it, not to choose another disk or file system."""
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "run" / name).mkdir()
    with running(*FOR_EVER, env={"SUPERVISOR_RUN_DIR": str(tmp_path / "run")}) as run:
        said = refused(run)
        assert f"{tmp_path}/run/{name}: " in said
        assert "remove what is at that path" in said


def test_a_file_at_the_place_of_the_control_socket_stays(tmp_path: Path) -> None:
    """Only a socket can be left of a former run, so a file there is somebody else's."""
    (tmp_path / "run").mkdir(mode=0o700)
    file = tmp_path / "run/control.sock"
    file.write_text("precious")
    with running(*FOR_EVER, env={"SUPERVISOR_RUN_DIR": str(tmp_path / "run")}) as run:
        assert "remove what is at that path" in refused(run)
    assert file.read_text() == "precious"


def test_a_second_supervisor_on_one_run_folder() -> None:
    """The first keeps running, its folder unchanged; the second exits with 78."""
    with running(*FOR_EVER) as first:
        first.wait_for("ready")
        # As for a tailscaled that runs as another user.
        first.run_dir.chmod(0o710)
        with running(*FOR_EVER, env={"SUPERVISOR_RUN_DIR": str(first.run_dir)}) as second:
            assert "another supervisor runs there" in refused(second)
        assert first.run_dir.stat().st_mode & 0o777 == 0o710
        assert first.stop() == 0


def test_a_run_folder_that_is_a_link(tmp_path: Path) -> None:
    """Root does not follow a symbolic link that someone put there."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with running(*FOR_EVER, env={"SUPERVISOR_RUN_DIR": str(tmp_path / "link")}) as run:
        assert "it is a link" in refused(run)


@pytest.mark.parametrize("setting", ["SUPERVISOR_RUN_DIR", "TS_STATE_DIR"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, setting: str) -> None:
    """If there is a file in place of a folder, the message names the path and the setting."""
    (tmp_path / "file").write_text("")
    env = {setting: str(tmp_path / "file" / "folder"), "SUPERVISOR_TAILSCALE": "embedded"}
    with running(*FOR_EVER, env=env) as run:
        said = refused(run)
        assert str(tmp_path) in said
        assert setting in said


def test_both_folders_are_told_of_at_once(tmp_path: Path) -> None:
    """If only one were reported, the user would learn of the other only at the next start."""
    (tmp_path / "file").write_text("")
    folders = {"SUPERVISOR_RUN_DIR": str(tmp_path / "file" / "run"), "TS_STATE_DIR": str(tmp_path / "file" / "state")}
    with running(*FOR_EVER, env={"SUPERVISOR_TAILSCALE": "embedded", **folders}) as run:
        said = refused(run)
        assert all(folder in said for folder in folders.values())


def test_a_toml_file_with_an_error() -> None:
    """The message names the line."""
    with running(*FOR_EVER, toml="[settings]\nPORT = \n") as run:
        said = refused(run)
        assert "line 2" in said


def test_a_secret_file_that_cannot_be_read() -> None:
    """The message names the path."""
    with running(*FOR_EVER, env={"SUPERVISOR_TOKEN_FILE": "/no/such/file"}) as run:
        assert "/no/such/file" in refused(run)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """If the run folder has no space left, the message says that the disk is full."""
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=4k,nr_inodes=3 none {tmp_path}") != 0:  # noqa: S605
        pytest.skip("this machine does not let us mount a small file system")
    try:
        (tmp_path / "full").write_bytes(bytes(4096))
        with running(*FOR_EVER, env={"SUPERVISOR_RUN_DIR": str(tmp_path / "run")}) as run:
            assert "disk is full" in refused(run)
    finally:
        os.system(f"umount {tmp_path}")  # noqa: S605


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
def test_root_that_cannot_hand_folders_over(tmp_path: Path) -> None:
    """The message names the dropped capability."""
    env = {
        "SUPERVISOR_TAILSCALE": "embedded",
        "SUPERVISOR_TAILSCALE_USER": "nobody",
        "TS_STATE_DIR": str(tmp_path / "state"),
    }
    with running(*FOR_EVER, env=env, prefix=("setpriv", "--bounding-set", "-chown")) as run:
        assert "CHOWN" in refused(run)


def test_a_run_folder_that_became_read_only(tmp_path: Path) -> None:
    """If the folder exists but is read-only, the message says so."""
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs none {tmp_path}") != 0:  # noqa: S605
        pytest.skip("this machine does not let us mount a file system")
    try:
        (tmp_path / "run").mkdir()
        os.system(f"mount -o remount,ro {tmp_path}")  # noqa: S605
        with running(*FOR_EVER, env={"SUPERVISOR_RUN_DIR": str(tmp_path / "run")}) as run:
            said = refused(run)
            assert "Read-only file system; mount a volume or a tmpfs there" in said
            assert str(tmp_path / "run") in said
    finally:
        os.system(f"umount {tmp_path}")  # noqa: S605


def test_a_command_that_is_not_text_is_told_to_programs() -> None:
    """Status and panel work even if a path contains bytes that are invalid UTF-8."""
    with running(os.fsdecode(b"/opt/\xe9"), env={"SUPERVISOR_GIVE_UP": "never"}) as run:
        run.wait_for("cannot start")
        wait_until((run.run_dir / "http").exists)
        words = [sys.executable, "-I", "-m", "supervisor", "status", "--json"]
        done = subprocess.run(words, env=run.env, capture_output=True, text=True, check=False)
        assert "cannot run /opt/\\udce9: no such file" in json.loads(done.stdout)["processes"][0]["exits"][-1]["reason"]
        assert run.stop() == 0


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["run", "--no-such-option"], 64),
        (["run", "--restart"], 64),
        (["run", "--restart", "sometimes"], 64),
        (["rum"], 64),
        ([], 64),
        (["check", "surplus"], 64),
        (["--help"], 0),
        (["run", "--help"], 0),
        (["--version"], 0),
    ],
)
def test_arguments(words: list[str], status: int, capfd: pytest.CaptureFixture[str]) -> None:
    """An invalid command line exits with 64 and a message on standard error only."""
    from supervisor.cli import main

    assert main(words) == status
    out, err = capfd.readouterr()
    assert (out == "") is bool(status)
    assert (err == "") is not bool(status)
