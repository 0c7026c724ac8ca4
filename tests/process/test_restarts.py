"""What follows an exit: another start, a wait, an exit code, or the end of the supervisor."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import sys
import tempfile
from pathlib import Path

import pytest

from tests.client.calling import call
from tests.incidents.looking import story
from tests.process.running import running

FOR_EVER = "exec sleep 300"


def test_a_crash_is_told_and_followed_by_another_start() -> None:
    """Start, exit with its last lines, wait, and next start have one structured record each."""
    script = "echo one; echo two >&2; exit 3"
    with running("sh", "-c", script, env={"SUPERVISOR_GIVE_UP": "never"}) as run:
        first = run.wait_for("started", child="moltis")
        exited = run.wait_for("exited", child="moltis")
        run.wait_for("will be restarted", child="moltis", failures=1)
        run.wait_count(3, "started", child="moltis")
        assert (exited["code"], exited["pid"], exited["level"]) == (3, first["pid"], "error")
        assert exited["uptime_s"] >= 0
        assert sorted(exited["last_lines"]) == ["one", "two"]
        assert run.stop() == 0


def test_all_exit_codes_are_told_as_they_are(tmp_path: Path) -> None:
    """Each of the 256 possible exit codes is reported."""
    script = 'n=$(cat "$0" 2>/dev/null || echo 0); [ "$n" -ge 256 ] && exec sleep 300; echo $((n+1)) >"$0"; exit "$n"'
    env = {"SUPERVISOR_GIVE_UP": "never", "SUPERVISOR_BACKOFF_INITIAL": "1ms", "SUPERVISOR_BACKOFF_MAX": "1ms"}
    with running("sh", "-c", script, str(tmp_path / "count"), env=env) as run:
        run.wait_count(256, "exited", deadline_s=60)
        assert [record["code"] for record in run.all("exited")] == list(range(256))
        assert run.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_signal_from_outside_is_a_failure_with_its_name(number: signal.Signals) -> None:
    """The log names the signal that killed a process, and the process is restarted."""
    with running("sh", "-c", FOR_EVER) as run:
        started = run.wait_for("started", child="moltis")
        import os

        os.kill(started["pid"], number)
        assert run.wait_for("exited", child="moltis")["signal"] == number.name
        run.wait_count(2, "started", child="moltis")


@pytest.mark.parametrize(
    ("script", "restart", "status"),
    [
        ("exit 0", "never", 0),
        ("exit 7", "never", 7),
        ("exit 255", "never", 255),
        ("kill -9 $$", "never", 137),
        ("kill -15 $$", "never", 143),
        ("exit 0", "on-failure", 0),
    ],
)
def test_an_app_that_runs_once_speaks_for_itself(script: str, restart: str, status: int) -> None:
    """The supervisor exits with the app's exit code, as tini would."""
    with running("sh", "-c", script, options=("--restart", restart)) as run:
        assert run.wait() == status
        assert run.stderr == ""
        assert run.wait_for("exited")["level"] == ("error" if status else "info")


def test_an_app_that_runs_once_also_speaks_for_itself_after_term() -> None:
    """After a stop by signal, the app's exit code is passed on if it is not to be restarted."""
    with running(
        "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done", options=("--restart=never",)
    ) as run:
        run.wait_for("ready")
        assert run.stop() == 5


def test_exit_0_is_a_failure_for_one_that_should_stay() -> None:
    """A server that exits with 0 is restarted too."""
    with running("true") as run:
        run.wait_for("will be restarted", child="moltis")
        run.wait_count(2, "started", child="moltis")


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("missing", 127, "no such file"),
        ("mode", 126, "not executable"),
        ("processor", 126, "another processor"),
        ("garbage", 126, "neither a program nor a script"),
        ("empty", 126, "it is empty"),
        ("interpreter", 127, "names /no/such/interpreter, which does not exist"),
    ],
)
def test_what_cannot_be_started_is_an_event_like_a_crash(tmp_path: Path, kind: str, status: int, words: str) -> None:
    """A program that is missing or cannot run is reported with the reason; the exit code is 126 or 127."""
    program = tmp_path / "program"
    if kind != "missing":
        program.write_bytes(
            {
                "mode": b"#!/bin/sh\n",
                "processor": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x15\0" + bytes(44),
                "garbage": b"hello\n",
                "empty": b"",
                "interpreter": b"#!/no/such/interpreter\n",
            }[kind]
        )
        program.chmod(0o644 if kind == "mode" else 0o755)
    with running(str(program), options=("--restart", "never")) as run:
        assert run.wait() == status
        said = [record.get("why", "") for record in run.records if record.get("child") == "moltis"]
        assert any(words in why for why in said), said
        assert "Traceback" not in run.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to set capabilities")
def test_a_file_with_capabilities_that_the_container_lacks_is_told() -> None:
    """Some servers' files have capabilities for ports below 1024; the kernel reports only "operation not permitted"."""
    sys_time = 1 << 25
    prefix = ("setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time")
    env = {"SUPERVISOR_APP_USER": "nobody"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        program = shutil.copy("/bin/true", folder)
        # capabilities(7): version 2, effective.
        os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, sys_time, 0, 0, 0))
        with running(program, env=env, options=("--restart", "never"), prefix=prefix) as run:
            assert run.wait() == 126
            assert "--cap-add" in run.wait_for("exited", child="moltis")["why"]


def test_a_program_that_appears_later_is_found(tmp_path: Path) -> None:
    """A spawn that failed is retried."""
    program = tmp_path / "appears"
    with running("sh", "-c", FOR_EVER, toml=f'[process.late]\ncommand = ["{program}"]\n') as run:
        run.wait_for("cannot start", child="late")
        run.wait_for("will be restarted", child="late")
        assert run.all("started", child="late") == []
        # Renamed into place: a file that is still open for writing cannot be executed.
        (tmp_path / "new").write_text("#!/bin/sh\necho found\nexec sleep 300\n")
        (tmp_path / "new").chmod(0o755)
        (tmp_path / "new").rename(program)
        run.wait_for("started", child="late")
        run.wait_for("found", process="late")
        assert len(run.all("started", child="moltis")) == 1
        assert run.stop() == 0


def test_a_critical_process_that_fails_for_good_ends_everything() -> None:
    """After the given number of failures the last message says why, and the exit code is 70."""
    with running("sh", "-c", "echo broken; exit 9", env={"SUPERVISOR_GIVE_UP": "3/1m"}) as run:
        assert run.wait() == 70
        assert len(run.all("exited", child="moltis", code=9)) == 3
        given_up = run.wait_for("given up", child="moltis")
        assert (given_up["failures"], given_up["last_failure"]) == (3, "exit code 9")
        stopping = run.wait_for("stopping")
        assert "moltis" in stopping["why"]
        assert "exit code 9" in stopping["why"]
        assert (run.records[-1]["message"], run.records[-1]["why"]) == ("stopped", stopping["why"])


def test_one_that_loops_does_not_disturb_another() -> None:
    """Processes are independent, and one that is not critical is restarted without limit."""
    toml = '[process.broken]\ncommand = ["false"]\n'
    env = {"SUPERVISOR_GIVE_UP": "3/1m", "SUPERVISOR_BACKOFF_MAX": "10ms"}
    with running("sh", "-c", FOR_EVER, toml=toml, env=env) as run:
        run.wait_count(20, "exited", child="broken")
        assert run.all("exited", child="moltis") == []
        assert len(run.all("started", child="moltis")) == 1
        assert run.stop() == 0


def test_further_processes_wait_for_those_they_come_after(tmp_path: Path) -> None:
    """`after` holds a process back until the other is ready, by its probe if it has one."""
    server = (
        "import http.server,sys,os,time\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
        "http.server.HTTPServer((os.environ['HOST'],int(os.environ['PORT'])),http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    toml = '[process.second]\ncommand = ["sh", "-c", "echo second runs; exec sleep 300"]\nafter = ["moltis"]\n'
    env = {"SUPERVISOR_APP_HEALTH_URL": "/", "SUPERVISOR_APP_PORT": "0"}
    with running(sys.executable, "-c", server, toml=toml, env=env) as run:
        run.wait_for("started", child="moltis")
        run.wait_for("waits until others are ready", child="second")
        assert run.find("started", child="second") is None
        # In the table and in the health part.
        assert call(run.run_dir, "status").out.count("it waits for moltis") == 2
        (tmp_path / "go").touch()
        run.wait_for("second runs", process="second")
        assert "it waits for" not in call(run.run_dir, "status").out
        assert run.stop() == 0
        ended = [record["child"] for record in run.all("exited")]
        assert ended == ["second", "moltis"]


def test_an_order_is_carried_out_though_it_comes_while_a_failure_is_cleaned_up() -> None:
    """Ending what a crash left behind takes two seconds: a start ordered meanwhile was lost."""
    left = "trap '' TERM; echo left; touch $HOME/left; while :; do sleep 0.05; done"
    app = f'[ -e $HOME/left ] && exec sleep 300; setsid sh -c "{left}" & '
    app += "while [ ! -e $HOME/left ]; do sleep 0.05; done; exit 3"
    env = {"SUPERVISOR_BACKOFF_INITIAL": "1h", "SUPERVISOR_BACKOFF_MAX": "1h"}
    with running("sh", "-c", app, env=env) as run:
        run.wait_for("left", process="moltis")
        run.wait_for("exited", child="moltis")
        assert call(run.run_dir, "start", "moltis").code == 0
        run.wait_count(2, "started", child="moltis")
        assert story(run, "crash")["done"].startswith("it was started again after ")


def test_one_that_has_done_its_work_is_waited_for_no_longer() -> None:
    """A process with `after` that was started again waited forever for one that had finished with success."""
    toml = (
        '[process.first]\ncommand = ["true"]\nrestart = "never"\n'
        '[process.second]\ncommand = ["sh", "-c", "echo second runs; exec sleep 300"]\nafter = ["first"]\n'
    )
    with running("sh", "-c", FOR_EVER, toml=toml) as run:
        run.wait_for("exited", child="first")
        run.wait_for("second runs", process="second")
        assert call(run.run_dir, "stop", "second").code == 0
        assert call(run.run_dir, "start", "second").code == 0
        run.wait_count(2, "second runs", process="second")
        assert run.stop() == 0


def test_no_pause_at_all_leaves_room_for_others() -> None:
    """A process that cannot start is retried without a pause; others keep running, and a stop is handled."""
    env = {"SUPERVISOR_BACKOFF_INITIAL": "0s", "SUPERVISOR_BACKOFF_MAX": "0s"}
    with running(
        "sh", "-c", "echo ready; exec sleep 300", toml='[process.broken]\ncommand = ["nosuch"]\n', env=env
    ) as run:
        run.wait_for("ready", process="moltis")
        run.wait_count(20, "cannot start", child="broken")
        assert run.stop() == 0
