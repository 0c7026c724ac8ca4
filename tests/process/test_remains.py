"""What a crashed process leaves behind is ended before the next start."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.process.running import Run, running
from tests.support.processes import alive, headless
from tests.support.waiting import wait_until

# Daemonises a helper as Moltis' tools do: own session, its parent gone, output elsewhere; then crashes.
DAEMON = (
    "import os,sys,time,signal\n"
    "stubborn=len(sys.argv)>1\n"
    "r,w=os.pipe()\n"
    "if os.fork()==0:\n"
    "    os.setsid()\n"
    "    if os.fork()==0:\n"
    "        if stubborn: signal.signal(signal.SIGTERM,signal.SIG_IGN)\n"
    "        null=os.open('/dev/null',os.O_RDWR)\n"
    "        for fd in (0,1,2): os.dup2(null,fd)\n"
    "        os.write(w,str(os.getpid()).encode())\n"
    "        time.sleep(300)\n"
    "    os._exit(0)\n"
    "pid=os.read(r,20).decode()\n"
    "print('helper',pid,flush=True)\n"
    "os.abort()"
)
# Helpers that have kept only one sign of their origin; each writes its pid to {pids} once it runs.
HELPER = "sh -c 'echo $$ >> {pids}; exec sleep 300'"
INNER = HELPER.replace("$", r"\$")
ELSEWHERE = "> /dev/null 2>&1"
SHED = {
    "its mark": f"env -i {HELPER} {ELSEWHERE} &",
    "its mark and session, not its output": f"env -i setsid {HELPER} &",
    "its session and output, not its mark": f"setsid {HELPER} {ELSEWHERE} &",
    "everything, below one that has not": f'setsid sh -c "env -i setsid {INNER} & wait" {ELSEWHERE} &',
}
SHEDS_ALL = """
import os
ended, begun = os.pipe()
helper = os.fork()
if not helper:
    os.setsid()
    for fd in range(3):
        os.dup2(os.open("/dev/null", os.O_RDWR), fd)
    os.execve("/bin/sleep", ["sleep", "300"], {})
os.close(begun)
os.read(ended, 1)
print("helper", helper)
"""
# A prefix: the supervisor gets no processor for a while after each start, as on a crowded machine.
LATE = (
    sys.executable,
    "-c",
    (
        "import sys, time\n"
        "from supervisor.cli import main\n"
        "from supervisor.system.reaper import Reaper\n"
        "own = Reaper.own\n"
        "Reaper.own = lambda *all_: (time.sleep(0.15), own(*all_))\n"
        "sys.exit(main(sys.argv[5:]))"
    ),
)
CRASH = "while [ ! -s {pids} ]; do sleep 0.05; done; exit 1"
HEADLESS = headless("import os", "print(os.getpid(), flush=True)")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as another user")


@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=as_root)], ids=["shared user", "own user"])
@pytest.mark.parametrize("words", [(), ("stubborn",)], ids=["", "stubborn"])
def test_helpers_of_a_crashed_process_are_ended(user: str | None, words: tuple[str, ...]) -> None:
    """The helpers get TERM, and KILL after two seconds; they are counted, and gone before the next start."""
    env = {"SUPERVISOR_APP_USER": user} if user else {}
    with running(sys.executable, "-c", DAEMON, *words, env=env) as run:
        run.wait_count(2, "started")
        line = next(record["message"] for record in run.records if record["message"].startswith("helper"))
        cleaned = run.wait_for("ended what it left behind", child="moltis")
        assert (cleaned["count"], cleaned["killed"], cleaned["still_alive"]) == (1, len(words), 0)
        assert not alive(int(line.split()[1]))
        messages = [record["message"] for record in run.records if record.get("child") == "moltis"]
        assert messages.index("ended what it left behind") < messages.index("will be restarted")


def is_helper_of_other(record: dict[str, Any]) -> bool:
    """Return whether the process other has told its helper's pid by this record."""
    return bool(record["process"] == "other" and record["message"].startswith("helper"))


def test_what_belongs_to_another_process_is_left_alone() -> None:
    """A crash of the app does not end the helpers of another process of the same user."""
    toml = '[process.other]\ncommand = ["sh", "-c", "setsid sleep 300 & echo helper $!; exec sleep 300"]\n'
    with running(sys.executable, "-c", DAEMON, toml=toml) as run:
        run.wait_count(3, "started", child="moltis")
        theirs = wait_until(lambda: [each["message"] for each in run.records if is_helper_of_other(each)])
        assert alive(int(theirs[0].split()[1]))
        assert len(run.all("started", child="other")) == 1


@pytest.mark.parametrize("shed", SHED.values(), ids=SHED)
def test_what_has_shed_its_mark_is_found_all_the_same(shed: str, tmp_path: Path) -> None:
    """If users are shared, each of session, output, mark and parent is enough to find it."""
    pids = tmp_path / "pids"
    with running("sh", "-c", f"{shed} {CRASH}".format(pids=pids)) as run:
        run.wait_for("ended what it left behind", child="moltis", still_alive=0)
        assert not alive(int(pids.read_text().split()[0]))


@as_root
@pytest.mark.parametrize("shed", SHED.values(), ids=SHED)
def test_root_without_the_right_to_trace_finds_what_is_of_another_user(shed: str) -> None:
    """In a container root lacks CAP_SYS_PTRACE, and the kernel hides from it what only that user may see."""
    without = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    toml = '[process.other]\ncommand = ["sleep", "300"]\nuser = "nobody"\n'
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        pids = Path(folder) / "pids"
        command = f"{shed} {CRASH}".format(pids=pids)
        with running("sh", "-c", command, env={"SUPERVISOR_APP_USER": "nobody"}, toml=toml, prefix=without) as run:
            run.wait_for("ended what it left behind", child="moltis", still_alive=0)
            assert not alive(int(pids.read_text().split()[0]))
            assert run.find("exited", child="other") is None


def test_one_whose_first_thread_has_ended_lives() -> None:
    """Go, Java, and programs that call pthread_exit in main: the kernel shows a zombie while other threads run."""
    app = f'setsid {sys.executable} -c "$HEADLESS" > $HOME/pid & while [ ! -s $HOME/pid ]; do sleep 0.05; done; '
    with running("sh", "-c", app + "echo helper $(cat $HOME/pid); exit 1", env={"HEADLESS": HEADLESS}) as run:
        assert run.wait_for("ended what it left behind")["count"] == 1
        assert not alive(helper_of(run))


def test_one_whose_first_thread_has_ended_does_not_outlive_the_stop() -> None:
    """Such a helper is ended with everything else, with or without the mark."""
    app = f'env -i setsid {sys.executable} -c "$HEADLESS" > $HOME/pid & while [ ! -s $HOME/pid ]; do sleep 0.05; done; '
    env = {"HEADLESS": HEADLESS, "SUPERVISOR_STOP_TIMEOUT": "4s"}
    with running("sh", "-c", app + "echo helper $(cat $HOME/pid); exec sleep 300", env=env) as run:
        wait_until(lambda: any(record["message"].startswith("helper ") for record in run.records))
        pid = helper_of(run)
        assert alive(pid)
        assert run.stop() == 0
        assert not alive(pid)


def test_a_stopped_helper_takes_its_term_at_once() -> None:
    """What is left behind gets CONT after TERM too, so it need not be killed."""
    app = "setsid sleep 300 & kill -STOP $!; echo helper $!; exit 1"
    with running("sh", "-c", app) as run:
        assert run.wait_for("ended what it left behind")["killed"] == 0


def test_a_stopped_helper_whose_first_thread_has_ended_takes_its_term_at_once() -> None:
    """The kernel shows a zombie for it, and only its other threads as stopped."""
    app = f'setsid {sys.executable} -c "$HEADLESS" > $HOME/pid & while [ ! -s $HOME/pid ]; do sleep 0.05; done; '
    app += "kill -STOP $!; until grep -qs 'State:.T' /proc/$!/task/*/status; do sleep 0.05; done; exit 1"
    with running("sh", "-c", app, env={"HEADLESS": HEADLESS}) as run:
        assert run.wait_for("ended what it left behind")["killed"] == 0


def test_one_that_goes_into_the_background_is_told_what_is_wrong() -> None:
    """The process repeatedly exits with 0 at once and leaves a helper: log and exit say why, and what to do."""
    env = {"SUPERVISOR_GIVE_UP": "3/5m", "SUPERVISOR_BACKOFF_MAX": "20ms"}
    with running("sh", "-c", "setsid sleep 300 & exit 0", env=env) as run:
        assert run.wait() == 70
        assert "foreground" in run.wait_for("ended what it left behind")["what_to_do"]
        for message in ("given up", "stopping", "stopped"):
            assert "gone into the background" in str(run.find(message)), message


@pytest.mark.parametrize("prefix", [(), LATE], ids=["", "start noted late"])
def test_one_in_the_background_that_nothing_tells_apart_is_told_too(prefix: tuple[str, ...]) -> None:
    """Users are shared, and it has dropped session, output, mark and parent: it is not ended before the stop."""
    env = {"SUPERVISOR_GIVE_UP": "2/5m", "SUPERVISOR_BACKOFF_MAX": "20ms"}
    with running(sys.executable, "-c", SHEDS_ALL, env=env, prefix=prefix) as run:
        assert run.wait() == 70
        told = run.wait_for("may have left something behind")
        assert (told["names"], "foreground" in told["what_to_do"]) == (["sleep"], True)
        assert "may have gone into the background" in str(run.find("given up"))
        assert not alive(helper_of(run))


def test_a_success_that_leaves_nothing_is_not_called_a_daemon() -> None:
    """Nor is a crash that leaves processes, or an exit with 0 after a proven start."""
    env = {"SUPERVISOR_GIVE_UP": "2/5m", "SUPERVISOR_BACKOFF_MAX": "20ms"}
    proven = env | {"SUPERVISOR_BACKOFF_RESET": "100ms"}
    for words, settings in (
        ("exit 0", env),
        ("setsid sleep 300 & exit 1", env),
        ("setsid sleep 300 & sleep 0.2; exit 0", proven),
    ):
        with running("sh", "-c", words, env=settings) as run:
            assert run.wait() == 70
            assert "background" not in str(run.records)


def helper_of(run: Run) -> int:
    """Return the pid that the first helper reported."""
    return next(int(record["message"].split()[1]) for record in run.records if record["message"].startswith("helper "))
