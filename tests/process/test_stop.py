"""The stop: in order, within its time limit, and with no process alive afterwards."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import sys
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.process.running import running
from tests.support.processes import alive, freeze
from tests.support.waiting import wait_until

FOR_EVER = "echo ready; exec sleep 300"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
GRANDCHILD = (
    "import os,subprocess,sys,time\n"
    "child=subprocess.Popen(['sh','-c',\"trap '' TERM HUP; echo up; while :; do sleep 0.05; done\"],"
    "start_new_session=True,stdout=subprocess.PIPE)\n"
    "child.stdout.readline()\n"
    "print('grandchild',child.pid,flush=True)\n"
    "time.sleep(300)"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_by_signal_ends_with_0(number: signal.Signals) -> None:
    """TERM and INT stop everything in order; the exit code is 0, as this was asked for."""
    with running("sh", "-c", "echo ready; exec sleep 300") as run:
        run.wait_for("ready")
        run.send(number)
        assert run.wait() == 0
        assert number.name in run.wait_for("stopping")["why"]
        assert run.records[-1]["message"] == "stopped"
        assert not (run.run_dir / "http").exists()


def test_what_was_counted_is_told_before_the_end() -> None:
    """Wrong credentials are logged once a minute: a stop within that minute does not lose the others."""
    with running("sleep", "300", env={"SUPERVISOR_TOKEN": "an-admin-token-of-some-length"}) as run:
        port = wait_until(lambda: int((run.run_dir / "http").read_text().split()[1]))
        for _ in range(9):
            with pytest.raises(HTTPError, match="401"):
                urlopen(Request(f"http://127.0.0.1:{port}/api/processes", headers={"Authorization": "Bearer wrong"}))
        assert run.stop() == 0
        assert [record["count"] for record in run.all("wrong credentials")] == [1, 8]
        assert run.records[-1]["message"] == "stopped"


def test_one_that_ignores_term_is_killed_in_time() -> None:
    """SIGKILL is sent at the end of the time limit, and the exit code is still 0."""
    with running("sh", "-c", STUBBORN, env={"SUPERVISOR_STOP_TIMEOUT": "700ms"}) as run:
        run.wait_for("ready")
        begin_s = time.monotonic()
        assert run.stop() == 0
        # Without the setting it would be killed after 8 s; a crowded machine takes some of that.
        assert 0.6 <= time.monotonic() - begin_s < 7
        run.wait_for("killed", child="moltis")
        assert run.wait_for("exited", child="moltis")["signal"] == "SIGKILL"


def test_what_a_stubborn_one_leaves_behind_gets_no_time_of_its_own() -> None:
    """The stop's time is over with the process: what it started is killed too, in its own session and ignoring TERM."""
    app = f"trap '' TERM; {sys.executable} -c \"$GRANDCHILD\"; while :; do sleep 0.05; done"
    env = {"SUPERVISOR_STOP_TIMEOUT": "700ms", "GRANDCHILD": GRANDCHILD}
    with running("sh", "-c", app, env=env) as run:
        wait_until(lambda: any(record["message"].startswith("grandchild") for record in run.records))
        pid = int(next(r["message"].split()[1] for r in run.records if r["message"].startswith("grandchild")))
        assert run.stop_net_s() < 0.7 + 1.2
        assert run.wait() == 0
        assert not alive(pid)


def test_a_second_int_hurries() -> None:
    """The app is killed at once if the user presses Ctrl-C again."""
    with running("sh", "-c", STUBBORN, env={"SUPERVISOR_STOP_TIMEOUT": "60s"}) as run:
        run.wait_for("ready")
        run.send(signal.SIGINT)
        run.wait_for("asked to end", child="moltis")
        run.send(signal.SIGINT)
        assert run.wait() == 0
        run.wait_for("forcing the stop")


def test_a_second_term_changes_nothing() -> None:
    """Wrappers and platforms repeat TERM: the app can finish saving, and one INT among them is not a second one."""
    saving = "trap 'saving=1' TERM; echo ready; while [ -z \"$saving\" ]; do sleep 0.05; done; "
    saving += 'while [ ! -e "$HOME/go" ]; do sleep 0.05; done; echo saved'
    with running("sh", "-c", saving, env={"SUPERVISOR_STOP_TIMEOUT": "60s"}) as run:
        run.wait_for("ready")
        run.send(signal.SIGTERM)
        run.wait_for("asked to end", child="moltis")
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            before = len(run.all(f"{number.name} changes nothing"))
            run.send(number)
            run.wait_count(before + 1, f"{number.name} changes nothing")
        (run.folder / "go").touch()
        assert run.wait() == 0
        run.wait_for("saved", process="moltis")
        assert run.wait_for("exited", child="moltis")["code"] == 0
        assert not run.all("forcing the stop")


def test_a_second_int_also_kills_an_app_whose_turn_has_not_come() -> None:
    """What was started after the app stops before it: a hurried stop kills both."""
    toml = f'[process.second]\ncommand = ["sh", "-c", {json.dumps(STUBBORN)}]\nafter = ["moltis"]\n'
    with running("sh", "-c", STUBBORN, toml=toml, env={"SUPERVISOR_STOP_TIMEOUT": "60s"}) as run:
        run.wait_for("ready", process="moltis")
        run.wait_for("ready", process="second")
        run.send(signal.SIGINT)
        run.wait_for("asked to end", child="second")
        run.send(signal.SIGINT)
        assert run.wait() == 0
        assert [record["child"] for record in run.all("exited")] == ["second", "moltis"]


def test_one_that_does_not_end_leaves_time_to_the_app_that_it_depends_on() -> None:
    """Each turn gets an equal share of the time left: the app was sent TERM and killed at the same moment."""
    toml = f'[process.second]\ncommand = ["sh", "-c", {json.dumps(STUBBORN)}]\nafter = ["moltis"]\n'
    saving = "trap 'sleep 0.3; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    with running("sh", "-c", saving, toml=toml, env={"SUPERVISOR_STOP_TIMEOUT": "10s"}) as run:
        run.wait_for("ready", process="moltis")
        run.wait_for("ready", process="second")
        assert run.stop() == 0
        assert run.wait_for("exited", child="second")["signal"] == "SIGKILL"
        assert run.wait_for("exited", child="moltis")["code"] == 7


def test_the_stop_keeps_to_a_process_own_limit() -> None:
    """`stop_timeout` is the time that a process has to exit, also when everything is stopped."""
    table = f'command = ["sh", "-c", {json.dumps(STUBBORN)}]\nafter = ["moltis"]\nstop_timeout = "200ms"\n'
    with running(
        "sh", "-c", FOR_EVER, toml=f"[process.second]\n{table}", env={"SUPERVISOR_STOP_TIMEOUT": "60s"}
    ) as run:
        run.wait_for("ready", process="second")
        begin_s = time.monotonic()
        assert run.stop() == 0
        assert time.monotonic() - begin_s < 25
        assert run.wait_for("exited", child="second")["signal"] == "SIGKILL"
        assert run.wait_for("exited", child="moltis")["signal"] == "SIGTERM"


def test_a_stopped_process_takes_its_term_at_once() -> None:
    """A process stopped by SIGSTOP cannot handle TERM: CONT follows it, and no time is lost."""
    with running("sh", "-c", FOR_EVER, env={"SUPERVISOR_STOP_TIMEOUT": "60s"}) as run:
        pid = run.wait_for("started")["pid"]
        run.wait_for("ready")
        freeze(pid)
        assert run.stop() == 0
        assert run.wait_for("exited", child="moltis")["signal"] == "SIGTERM"


def test_nothing_is_left_of_another_session() -> None:
    """A grandchild in its own session that ignores TERM does not outlive the stop."""
    with running(sys.executable, "-c", GRANDCHILD, env={"SUPERVISOR_STOP_TIMEOUT": "4s"}) as run:
        wait_until(lambda: any(record["message"].startswith("grandchild") for record in run.records), what="grandchild")
        line = next(record["message"] for record in run.records if record["message"].startswith("grandchild"))
        pid = int(line.split()[1])
        assert alive(pid)
        assert run.stop() == 0
        assert not alive(pid)
        ended = run.find("ended what it left behind") or run.wait_for("ended everything else")
        assert ended["count"] >= 1


def test_what_ends_in_the_last_moment_is_told_too() -> None:
    """The app is killed at its time limit: what it started exits on the TERM sent then, and the log reports it."""
    child = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
    app = f"trap '' TERM; setsid sh -c {shlex.quote(child)} & while :; do sleep 0.05; done"
    with running("sh", "-c", app, env={"SUPERVISOR_STOP_TIMEOUT": "300ms"}) as run:
        run.wait_for("up")
        assert run.stop() == 0
        ended = run.find("ended what it left behind") or run.wait_for("ended everything else")
        assert "sh" in ended["names"]


def test_a_stop_in_the_first_moment() -> None:
    """After TERM as soon as the handlers are installed, whatever was started is ended, and the exit code is 0."""
    with running("sh", "-c", STUBBORN, env={"SUPERVISOR_STOP_TIMEOUT": "1s"}) as run:
        wait_until(lambda: _catches_term(run.pid), what="handlers")
        assert run.stop() == 0


def _catches_term(pid: int) -> bool:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_stop_during_the_wait_for_a_restart() -> None:
    """A process in backoff is not started again during a stop, and does not delay it."""
    env = {"SUPERVISOR_BACKOFF_INITIAL": "10m", "SUPERVISOR_BACKOFF_MAX": "10m", "SUPERVISOR_STOP_TIMEOUT": "60s"}
    with running("false", env=env) as run:
        run.wait_for("will be restarted")
        begin_s = time.monotonic()
        assert run.stop() == 0
        assert time.monotonic() - begin_s < 20
        assert len(run.all("started")) == 1


def test_a_restart_half_done_is_stopped_too() -> None:
    """After TERM while a hung process is being ended, it is not started again."""
    env = {
        "SUPERVISOR_APP_HEALTH_URL": "/",
        "SUPERVISOR_APP_PORT": "0",
        "SUPERVISOR_APP_HUNG": "500ms",
        "SUPERVISOR_STOP_TIMEOUT": "10s",
    }
    program = (
        "import http.server,os,signal,time\n"
        "signal.signal(signal.SIGTERM,signal.SIG_IGN)\n"
        "class Once(http.server.BaseHTTPRequestHandler):\n"
        "    served=0\n"
        "    def do_GET(self):\n"
        "        Once.served+=1\n"
        "        if Once.served>1: time.sleep(300)\n"
        "        self.send_response(200); self.end_headers()\n"
        "http.server.HTTPServer((os.environ['HOST'],int(os.environ['PORT'])),Once).serve_forever()"
    )
    with running(sys.executable, "-c", program, env=env) as run:
        run.wait_for("asked to end", deadline_s=30, order="hung")
        assert run.wait_for("health is fail")["why"].startswith("moltis: stopping: no answer for ")
        assert run.stop() == 0
        assert run.wait_for("exited")["why"].startswith("it hung (no answer for ")
        assert len(run.all("started", child="moltis")) == 1


def test_hup_without_a_terminal_is_ignored() -> None:
    """No setting is reloaded, and no process is started again; the log says that the signal was ignored."""
    helper = '[process.{}]\ncommand = ["sleep", "300"]\n'
    with running("sh", "-c", "echo ready; exec sleep 300", toml=helper.format("helper"), start_new_session=True) as run:
        run.wait_for("ready")
        run.wait_for("started", child="helper")
        (run.folder / "supervisor.toml").write_text(helper.format("another"))
        run.send(signal.SIGHUP)
        run.wait_for("SIGHUP ignored")
        assert run.popen.poll() is None
        assert run.stop() == 0
        assert sorted(each["child"] for each in run.all("started")) == ["helper", "moltis"]


def test_hup_with_a_terminal_stops() -> None:
    """If the user closes the terminal, everything stops in order."""
    master, slave = pty.openpty()

    def take_terminal() -> None:
        import fcntl
        import termios

        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    try:
        with running(
            "sh",
            "-c",
            "echo ready; exec sleep 300",
            start_new_session=True,
            preexec_fn=take_terminal,
            pass_fds=(slave,),
        ) as run:
            run.wait_for("ready")
            run.send(signal.SIGHUP)
            assert run.wait() == 0
            assert "SIGHUP" in run.wait_for("stopping")["why"]
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("ignored", [False, True], ids=["plain", "nohup"])
def test_a_terminal_that_is_closed_stops_it(ignored: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """When HUP arrives, the terminal is already gone; with nohup the supervisor keeps running."""
    master, slave = pty.openpty()

    def take_terminal() -> None:
        import fcntl
        import termios

        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        os.close(master)
        os.close(slave)
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with running(
        "sh", "-c", FOR_EVER, start_new_session=True, preexec_fn=take_terminal, pass_fds=(master, slave)
    ) as run:
        os.close(slave)
        run.wait_for("ready")
        os.close(master)
        if ignored:
            run.wait_for("SIGHUP ignored")
            assert run.stop() == 0
        else:
            assert run.wait() == 0
            assert "SIGHUP" in run.wait_for("stopping")["why"]


@pytest.mark.parametrize(
    "number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGQUIT, signal.SIGRTMIN + 1]
)
def test_other_signals_go_to_the_app(number: signal.Signals) -> None:
    """Signals that the supervisor does not use may be meant for the app."""
    program = (
        "import signal,time\n"
        f"signal.signal({int(number)},lambda *_: print('got it',flush=True))\n"
        "print('ready',flush=True)\n"
        "while True: time.sleep(300)"
    )
    with running(sys.executable, "-c", program) as run:
        run.wait_for("ready")
        run.send(number)
        run.wait_for("got it", process="moltis")


BREAK = (
    "import sys\n"
    "from supervisor.cli import main\n"
    "from supervisor.runtime import child, stop\n"
    "def broken(*_, **__): raise RuntimeError('a defect')\n"
    "{} = broken\n"
    "sys.exit(main(sys.argv[5:]))"
)


@pytest.mark.parametrize("where", ["stop.Stop.run", "child.describe"])
def test_a_defect_of_ours_ends_with_70_and_is_told(where: str) -> None:
    """The log is complete, its last line says why, and the children do not outlive the supervisor."""
    script = "trap 'exit 1' USR1; echo ready; while :; do sleep 0.01; done"
    with running("sh", "-c", script, prefix=(sys.executable, "-c", BREAK.format(where))) as run:
        pid = run.wait_for("started")["pid"]
        run.wait_for("ready")
        run.send(signal.SIGTERM if "stop" in where else signal.SIGUSR1)
        assert run.wait() == 70
        assert "a defect" in run.find("internal error")["traceback"]  # type: ignore[index]
        assert "a defect" in run.records[-1]["why"]
        wait_until(lambda: not alive(pid), what="the child's end")


def test_a_defect_before_there_is_a_loop_ends_with_70_too() -> None:
    """There is no log yet: the error is on standard error."""
    prefix = (sys.executable, "-c", BREAK.format("child.Child._spawn"))
    with running("sh", "-c", FOR_EVER, prefix=prefix) as run:
        assert run.wait() == 70
        assert "a defect" in run.stderr
