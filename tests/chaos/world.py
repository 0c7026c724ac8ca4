"""A supervisor with its children, and the ways in which chaos affects and queries them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.client import APP, NAMES, TOKEN, Client
from tests.chaos.groups import Group
from tests.chaos.kinds import DROPPING, KEEPING
from tests.chaos.output import Output
from tests.chaos.prober import Prober
from tests.chaos.sight import MARK, Sight
from tests.chaos.spy import Spy
from tests.chaos.surroundings import KEY, Surroundings, surroundings
from tests.process.running import AS_PROCESS_1
from tests.support.backups import KEY as SECRET_KEY
from tests.support.backups import PASSWORD
from tests.support.control import ROOT
from tests.support.processes import alive, below
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.chaos.sight import Use

SPOKEN = "canary-of-chaos-that-is-spoken"
# The processes that may have each one in their environment.
SECRETS = {TOKEN: "", SPOKEN: APP, KEY: "", PASSWORD: "", SECRET_KEY: ""}
CHILD = str(Path(__file__).with_name("child.py"))
_LOOPER = 'read -r t </proc/sys/kernel/random/uuid; echo "~ $t"; exit 3'
_GROUPS = Path("/sys/fs/cgroup")
_WATCHED = Path(__file__).with_name("watched.py")
_HASTENED = ROOT / "tests/backup/hastened.py"
# A holder counts as gone after a sixth of the usual time, so that the effects of an outage are seen sooner.
HASTE = {"silence_s": 10.0, "renew_s": 2.5, "again_s": 3.0, "patience_s": 15.0}
# A sparse file with more room than snapshots leave free; memory if such a disk cannot be mounted.
_IMAGE_BYTES = 192 * 1024 * 1024
_TMPFS_BYTES = 1024 * 1024
# linux/fs.h: FIFREEZE and FITHAW.
_FREEZE, _THAW = 0xC0045877, 0xC0045878
# The command of a second supervisor.
SECOND = ("--restart", "never", "--", "sleep", "5")
# The folder of another copy of the package, as created by planted.py.
package = ""


class World(Client):
    """One life of a supervisor, which may be killed and started again on the same folders."""

    # How long a stop may exceed its budget: last log lines, Python's exit, and a busy machine.
    overrun_s = 6.0

    def __init__(self, flavour: str, before: Surroundings | None = None) -> None:
        self.flavour = flavour if flavour != "process-1" or _may_unshare() else "plain"
        self.over_port = self.over_port or self.flavour == "process-1"
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.folder.chmod(0o755)
        # Where children store the number of their lines, and listen for orders.
        self.place = self.folder / "children"
        self.place.mkdir()
        (self.place / "counts").mkdir()
        if flavour in KEEPING:
            (self.place / "kept").mkdir()
        self.sight = Sight()
        self.disk = self.folder / "disk"
        super().__init__(self.disk / "run")
        # Whether that file system is separate, and can be frozen.
        self.mounted = self.may_freeze = False
        self._mount()
        self.around: Surroundings = surroundings(flavour, self.folder, before)
        self.output = Output(self.place, tuple(map(str.encode, SECRETS)), drops=flavour in DROPPING)
        self.prober: Prober | None = None
        self.spy: Spy | None = None
        self.popen: subprocess.Popen[bytes] | None = None
        # The supervisor's pid, as seen from here.
        self.pid = 0
        # The file description of its standard output.
        self.shared_output = -1
        # The number of log records of earlier starts.
        self.since = 0
        self.killed = False
        self.ended = False
        # Whether the log's consumer was absent in this round, or the kernel may have killed any process.
        self.unread = False
        self.may_be_killed = False
        self._managed: list[int] = []
        # The pids of all its starts.
        self._pids: set[str] = set()
        self.baseline: Use | None = None
        self.problems: list[str] = []
        self._write_settings()

    def _mount(self) -> None:
        """Give the run folder and the state a small file system of their own, if possible."""
        disk = self.disk
        disk.mkdir()
        if os.geteuid() == 0:
            image = self.folder / "image"
            image.touch()
            os.truncate(image, _IMAGE_BYTES)
            made = shutil.which("mkfs.ext4") and _did("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image))
            self.may_freeze = bool(made) and _did("mount", "-o", "loop", str(image), str(disk))
            tmpfs = ("mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "chaos", str(disk))
            self.mounted = self.may_freeze or _did(*tmpfs)
            disk.chmod(0o755)

    def freeze_disk(self, seconds: float) -> None:
        """Block writes to that file system for this time."""
        fd = os.open(self.disk, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FREEZE, 0)
            try:
                pause(seconds)
            finally:
                fcntl.ioctl(fd, _THAW, 0)
        finally:
            os.close(fd)

    @property
    def has_small_disk(self) -> bool:
        """Whether the run folder is on a file system of its own."""
        return self.mounted

    def remount(self, how: str) -> None:
        """Remount that file system read-only ("ro"), or writable again ("rw")."""
        _did("mount", "-o", f"remount,{how}", str(self.disk))

    @property
    def filler(self) -> str:
        """The path, in the sight's view, of the file that fills it."""
        return str(self.disk / "filler")

    def group(self, controller: str) -> Group | None:
        """Return the supervisor's control group of this controller; None if none can be created here."""
        path = _GROUPS / controller / self.folder.name
        with contextlib.suppress(OSError):
            path.mkdir(exist_ok=True)
            return Group(path) if (path / "cgroup.procs").exists() else None
        return None

    def _leave_groups(self) -> None:
        """Remove the groups that were created."""
        for group in map(self.group, ("pids", "memory")):
            if group is not None:
                group.remove()

    def _write_settings(self) -> None:
        self._write_port()
        self._write_processes(sys.executable, "-I", "-S", CHILD, str(self.place))
        # With this name it has Moltis' own folders, which backups know.
        app = self.folder / APP
        app.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {CHILD} {self.place} {APP} "$@"\n')
        app.chmod(0o755)

    def _write_port(self) -> None:
        """Choose where the app answers probes."""
        self.app_port = _free_port()
        (self.place / "port").write_text(str(self.app_port))

    def _write_processes(self, *child: str) -> None:
        """Write the file that defines the further processes."""
        side, maker = (json.dumps([*child, name]) for name in ("side", "maker"))
        looper = json.dumps(["sh", "-c", _LOOPER])
        (self.folder / "supervisor.toml").write_text(
            f"[process.side]\ncommand = {side}\n[process.maker]\ncommand = {maker}\n"
            f"[process.looper]\ncommand = {looper}\n"
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PORT": "0",
            "SUPERVISOR_RUN_DIR": str(self.run_dir),
            "SUPERVISOR_LOG_FORMAT": "json",
            "SUPERVISOR_BACKOFF_INITIAL": "50ms",
            "SUPERVISOR_BACKOFF_MAX": "300ms",
            "SUPERVISOR_GIVE_UP": "never",
            "SUPERVISOR_STOP_TIMEOUT": f"{self.around.stop_timeout_s}s",
            "SUPERVISOR_APP_HEALTH_URL": f"http://127.0.0.1:{self.app_port}/",
            "SUPERVISOR_TOKEN": TOKEN,
            "MOLTIS_PASSWORD": SPOKEN,
            **self.around.environment(),
            **self._watched(),
        }

    def _watched(self) -> dict[str, str]:
        """Return the settings of watched.py."""
        keeps = self.flavour in KEEPING
        wanted = {"probes": True, "blocked": str(self.place / "blocked"), "hastened": str(_HASTENED) if keeps else ""}
        return {"WATCHED": json.dumps(wanted), **({"HASTE": json.dumps(HASTE)} if keeps else {})}

    def _client_environment(self) -> dict[str, str]:
        """Return the environment of the command: the supervisor itself, or an engine's client."""
        return self._environment()

    def _prefix(self) -> tuple[str, ...]:
        """Return the command prefix for its own control groups and pid namespace."""
        groups = [group for group in map(self.group, ("pids", "memory")) if group is not None]
        enter = "".join(f"echo $$ >{group.path}/cgroup.procs && " for group in groups)
        words = ("sh", "-c", enter + 'exec "$@"', "sh") if groups else ()
        return (*words, *AS_PROCESS_1) if self.flavour == "process-1" else words

    def start(self) -> None:
        """Start the supervisor; return once it has logged that."""
        self.since = since = len(self.output.records)
        self._close_shared()
        self.shared_output = self.output.writer()
        with open(self.folder / "errors", "ab") as errors:
            self.popen = subprocess.Popen(
                self._command(),
                env=self._client_environment(),
                stdin=subprocess.DEVNULL,
                stdout=self.shared_output,
                stderr=errors,
                cwd="/",
            )
        self.killed = self.ended = False
        (self.place / "blocked").unlink(missing_ok=True)
        self.ordered.clear()
        self.stopped.clear()
        record = wait_until(lambda: self._started(since), what="the start")
        self.pid = self._find()
        if self.flavour != "process-1":
            self._pids.add(str(self.pid))
        self.prober = self._ask_for_health(int(record["listen"].rpartition(":")[2]))
        self.spy = Spy(self.pid, SECRETS) if type(self.sight) is Sight else None

    def _command(self) -> list[str]:
        """Return the command."""
        config = ("--config", str(self.folder / "supervisor.toml"))
        return [*self._prefix(), *program(), *config, "--", str(self.folder / APP)]

    def _ask_for_health(self, port: int) -> Prober:
        return Prober((self.host, port), self.pid)

    @property
    def spied(self) -> list[str]:
        """The secrets that were seen in a process that they are not meant for."""
        return self.spy.problems if self.spy is not None else []

    def _started(self, since: int) -> dict[str, Any] | None:
        assert self.popen is not None
        assert self.popen.poll() is None, f"it ended with {self.popen.returncode}: {self.errors()}"
        return self.output.find("starting", since)

    def _find(self) -> int:
        """Return the supervisor's pid once it runs."""
        assert self.popen is not None
        if self.flavour != "process-1":
            return self.popen.pid
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return wait_until(lambda: int(children.read_text().split()[0]), what="process 1")

    def errors(self) -> str:
        """Return its standard error."""
        lines = (self.folder / "errors").read_text(errors="replace").splitlines()
        # unshare complains when its child is killed.
        return "\n".join(line for line in lines if not line.startswith("unshare: "))

    def pid_of(self, name: str) -> int | None:
        """Return the pid of a managed process, in the sight's view."""
        with contextlib.suppress(OSError):
            return self.sight.pid_of(self.pid, name)
        return None

    def signal(self, name: str, number: int) -> bool:
        """Send a managed process a signal, if it exists."""
        pid = self.pid_of(name)
        if pid is not None:
            self.send(number, pid)
        return pid is not None

    def send(self, number: int, pid: int | None = None) -> None:
        """Send the supervisor, or the process with this pid, a signal, if it exists."""
        with contextlib.suppress(OSError):
            self.sight.send(self.pid if pid is None else pid, number)

    def ask_to_stop(self) -> None:
        """Ask it to stop, as a platform does."""
        self.send(signal.SIGTERM)

    def tell(self, name: str, order: str) -> bool:
        """Send a child an order, if it listens."""
        return self.sight.tell(str(self.place / f"{name}.sock"), order)

    def blocked(self) -> list[str]:
        """Return when the event loop was blocked for too long, except while the supervisor was held still."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.place / "blocked").read_text().splitlines():
                begin_s, end_s, own_s, what = line.split(" ", 3)
                if self.prober is not None and not self.prober.was_excused(float(begin_s), float(end_s)):
                    found.append(f"the loop was blocked for {float(own_s):.3f} s by {what}")
        return found

    def second(self) -> tuple[int, str]:
        """Start a second supervisor in the same place, and return its exit code and output."""
        env = {"PATH": os.environ["PATH"], "PORT": "0", "SUPERVISOR_RUN_DIR": str(self.run_dir)}
        env["SUPERVISOR_TAILSCALE"] = "off"
        words = [*program(), *SECOND]
        done = subprocess.run(words, env=env, capture_output=True, text=True, cwd="/", timeout=30, check=False)
        return done.returncode, done.stderr

    def unwell(self) -> list[str]:
        """Return problems that others than the supervisor report."""
        return []

    def kill(self) -> None:
        """Kill the supervisor."""
        managed = [pid for name in (*NAMES, "tailscaled") if (pid := self.pid_of(name)) is not None]
        # A child that has not executed its program yet does not end with its parent.
        own = self.sight.words(self.pid)
        self._managed = [pid for pid in managed if not self._is_beginning(pid, own)]
        self._kill()
        self.see_killed()

    def _is_beginning(self, pid: int, own: str) -> bool:
        words = self.sight.words(pid)
        return not words or words == own or "/setpriv\0" in words

    def _kill(self) -> None:
        self.send(signal.SIGKILL)

    def see_killed(self) -> None:
        """Note that it was killed."""
        assert self.popen is not None
        assert self.prober is not None
        self.killed = True
        self.prober.excuse(1)
        self.popen.wait(30)
        self.prober.close()
        self.close_spy()

    def close_spy(self) -> None:
        """Look at its processes no more, as the number of one that has ended may be reused."""
        if self.spy is not None:
            self.spy.close()

    def is_alive(self) -> bool:
        """Return whether the supervisor runs."""
        return self.popen is not None and self.popen.poll() is None and not self.killed

    def outer(self, pid: int) -> int | None:
        """Return the pid, as seen from here, of a child that the supervisor knows as ``pid``."""
        for other in below(self.pid):
            with contextlib.suppress(OSError):
                numbers = Path(f"/proc/{other}/status").read_text().partition("\nNSpid:")[2].split("\n")[0].split()
                if int(numbers[-1]) == pid:
                    return other
        return None

    def survivors(self) -> list[int]:
        """Return the managed processes that outlive their killed supervisor."""
        return [pid for pid in self._managed if alive(pid)]

    def clear(self) -> None:
        """Kill what a killed supervisor's children had started, as the supervisor no longer can."""

        def are_gone() -> bool:
            # Repeatedly, as one may fork just before it is killed.
            left = self.marked()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_until(are_gone, what="the end of what was left")

    def marked(self) -> list[int]:
        """Return every live process that was started below this supervisor, whoever its parent is now."""
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [pid for pid in pids if (self._is_marked(pid) or self._is_stranger(pid)) and alive(pid)]

    def _is_marked(self, pid: int) -> bool:
        """Return whether this supervisor has started this process, or something that it has started."""
        environment = self.sight.environment(pid)
        name, _, supervisor = environment.get(MARK, "").partition(":")
        # Helpers have other homes. As process 1 a supervisor has the number of others.
        return bool(name) and (environment.get("HOME") == str(self.folder) or supervisor in self._pids)

    def _is_stranger(self, pid: int) -> bool:
        """Return whether this is a process that only its name identifies (see child.py)."""
        return self.sight.words(pid).startswith(f"stranger in {self.place}\0")

    def acknowledged(self) -> dict[str, int]:
        """Return the number of rows that were acknowledged to each life of the app."""
        return {path.name: int.from_bytes(path.read_bytes(), sys.byteorder) for path in self.place.glob("kept/*")}

    def rows(self) -> dict[str, int]:
        """Return the number of rows of each life in the database, from the first one on without a gap."""
        path = self.folder / ".moltis/rows.db"
        if not path.exists():
            return {}
        # Opened for writing: an unfinished write of a killed app is rolled back first, as at its next start.
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=30)) as database:
            # The app may have been killed, or is still busy, between creating the file and its table.
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone() is None:
                return {}
            found = database.execute("SELECT life, COUNT(DISTINCT number), MAX(number) FROM rows GROUP BY life")
            return {life: count for life, count, last in found if count == last + 1}

    def close_output(self) -> None:
        """Read the rest of the log."""
        self._close_shared()
        self.output.drain()

    def _close_shared(self) -> None:
        if self.shared_output >= 0:
            os.close(self.shared_output)
            self.shared_output = -1

    def close(self) -> None:
        """End everything that is left, and remove the folder."""
        self.close_spy()
        if self.prober is not None:
            self.prober.close()
        if self.popen is not None and self.popen.poll() is None:
            for pid in (*below(self.popen.pid), self.popen.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.popen.wait(10)
        for pid in self.marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.close_output()
        self.around.close()
        self._leave_groups()
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.disk)], capture_output=True, check=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def program() -> tuple[str, ...]:
    """Return the supervisor's command: the installed one, or that of another copy of the package."""
    if not package:
        return (sys.executable, "-I", str(_WATCHED), "run")
    code = f"sys.path.insert(0, {package!r}); runpy.run_path({str(_WATCHED)!r}, run_name='__main__')"
    return (sys.executable, "-I", "-c", f"import runpy, sys; {code}", "run")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@cache
def _may_unshare() -> bool:
    """Return whether pid namespaces can be created here, which takes root, and few containers permit."""
    return _did(*AS_PROCESS_1, "true")


def _did(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def pause(seconds: float) -> None:
    """Wait for this time, as the plan requires."""
    time.sleep(seconds)
