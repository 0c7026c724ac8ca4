"""A supervisor with its children, and what chaos does to them and asks of them."""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.output import Output
from tests.chaos.prober import Prober
from tests.process.running import AS_PROCESS_1, SUPERVISOR
from tests.support.processes import alive, below
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.chaos.checks import Use

TOKEN = "canary-of-chaos-for-the-token"
SPOKEN = "canary-of-chaos-that-is-spoken"
SECRETS = (TOKEN.encode(), SPOKEN.encode())
APP = "moltis"
WRITERS = (APP, "side", "maker")
STOP_TIMEOUT_S = 1.0
_CHILD = str(Path(__file__).with_name("child.py"))
_LOOPER = 'read -r t </proc/sys/kernel/random/uuid; echo "~ $t"; exit 3'
_MARK = b"SUPERVISED_PROCESS"


class World:
    """One life of a supervisor, which may be killed and started again on the same folders."""

    def __init__(self, flavour: str) -> None:
        self.flavour = flavour
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.folder.chmod(0o755)
        (self.folder / "counts").mkdir()
        self.run_dir = self.folder / "run"
        self.output = Output(self.folder, SECRETS)
        self.prober: Prober | None = None
        self.popen: subprocess.Popen[bytes] | None = None
        self.killed = False
        self.ended = False
        self.pid = 0
        # The description that the supervisor has as its standard output.
        self.shared_output = -1
        self._managed: list[int] = []
        # Whether the log's consumer was not there at the end.
        self.unread = False
        self.baseline: Use | None = None
        self.problems: list[str] = []
        (self.folder / "supervisor.toml").write_text(self._toml())

    def _toml(self) -> str:
        words = {name: json.dumps([sys.executable, "-I", "-S", _CHILD, name, str(self.folder)]) for name in WRITERS}
        looper = json.dumps(["sh", "-c", _LOOPER])
        return (
            f"[process.side]\ncommand = {words['side']}\n[process.maker]\ncommand = {words['maker']}\n"
            f"[process.looper]\ncommand = {looper}\n"
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PORT": "0",
            "SUPERVISOR_RUN_DIR": str(self.run_dir),
            "SUPERVISOR_TAILSCALE": "off",
            "SUPERVISOR_LOG_FORMAT": "json",
            "SUPERVISOR_LOG_OVERFLOW": "drop" if self.flavour == "drop" else "block",
            "SUPERVISOR_BACKOFF_INITIAL": "50ms",
            "SUPERVISOR_BACKOFF_MAX": "300ms",
            "SUPERVISOR_GIVE_UP": "never",
            "SUPERVISOR_STOP_TIMEOUT": f"{STOP_TIMEOUT_S}s",
            "SUPERVISOR_APP_HEALTH_URL": "",
            "SUPERVISOR_TOKEN": TOKEN,
            "MOLTIS_PASSWORD": SPOKEN,
        }

    def start(self) -> None:
        """Start the supervisor; returns when it has said that it starts."""
        since = len(self.output.records)
        prefix = AS_PROCESS_1 if self.flavour == "process-1" else ()
        app = (sys.executable, "-I", "-S", _CHILD, APP, str(self.folder))
        self._close_shared()
        out = self.shared_output = self.output.writer()
        with open(self.folder / "errors", "ab") as errors:
            self.popen = subprocess.Popen(
                [*prefix, *SUPERVISOR, "--config", str(self.folder / "supervisor.toml"), "--", *app],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd="/",
            )
        self.killed = False
        # The supervisor's own, as seen from here.
        self.pid = self._process_1() if prefix else self.popen.pid
        record = wait_until(lambda: self._started(since), what="the start")
        self.prober = Prober(self.pid, int(record["listen"].rpartition(":")[2]))

    def close_output(self) -> None:
        """Read the rest of the log."""
        self._close_shared()
        self.output.drain()

    def _close_shared(self) -> None:
        if self.shared_output >= 0:
            os.close(self.shared_output)
            self.shared_output = -1

    def _started(self, since: int) -> dict[str, Any] | None:
        assert self.popen is not None
        assert self.popen.poll() is None, f"it ended with {self.popen.returncode}: {self.errors()}"
        return self.output.find("starting", since)

    def errors(self) -> str:
        """Return what it wrote to standard error."""
        lines = (self.folder / "errors").read_text(errors="replace").splitlines()
        # That one complains when its child is killed.
        return "\n".join(line for line in lines if not line.startswith("unshare: "))

    def _process_1(self) -> int:
        assert self.popen is not None
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return wait_until(lambda: int(children.read_text().split()[0]), what="process 1")

    def pid_of(self, name: str) -> int | None:
        """Return the pid of a managed process, as seen from here."""
        with contextlib.suppress(OSError):
            for pid in map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()):
                if environment_of(pid).get(_MARK, b"").startswith(name.encode() + b":") and is_managed(pid):
                    return pid
        return None

    def signal(self, name: str, number: int) -> bool:
        """Send a managed process a signal, if it is there."""
        pid = self.pid_of(name)
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, number)
        return pid is not None

    def tell(self, name: str, order: str) -> bool:
        """Give a child an order, if it listens."""
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.sendto(order.encode(), str(self.folder / f"{name}.sock"))
            return True
        return False

    def api(self, method: str, path: str, timeout_s: float = 10.0) -> tuple[int, Any]:
        """Call the API: over the control socket, or the port where this is of another pid namespace. Raises OSError."""
        headers = {"Authorization": f"Bearer {TOKEN}"} if self.flavour == "process-1" else {}
        if method == "POST":
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        with contextlib.closing(connection):
            if self.flavour != "process-1":
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(timeout_s)
                connection.sock.connect(str(self.run_dir / "control.sock"))
            try:
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            except http.client.HTTPException as error:
                raise ConnectionError(str(error)) from error

    def processes(self) -> dict[str, Any]:
        """Return the processes by their names, as the API has them."""
        status, answer = self.api("GET", "/api/processes")
        if status != http.HTTPStatus.OK:
            raise ConnectionError(f"the answer {status} {answer}")
        return {each["name"]: each for each in answer["processes"]}

    @property
    def port(self) -> int:
        """Where it listens."""
        return int((self.run_dir / "http").read_text().split()[1])

    def kill(self) -> None:
        """Kill the supervisor outright, and all that no one is then there for."""
        assert self.popen is not None
        assert self.prober is not None
        self.killed = True
        self.prober.excuse(1)
        self._managed = [pid for name in (*WRITERS, "looper") if (pid := self.pid_of(name)) is not None]
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.popen.wait(10)
        self.prober.close()

    def is_alive(self) -> bool:
        """Tell whether the supervisor runs."""
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
        """Kill what a killed supervisor's children had started: nobody is there for that any more."""
        for pid in self.marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.marked(), what="the end of what was left")

    def marked(self) -> list[int]:
        """Return every process that was started below this supervisor and lives, be it whose it may by now."""
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        home = str(self.folder).encode()
        return [pid for pid in pids if is_marked(environment_of(pid), home) and alive(pid)]

    def close(self) -> None:
        """End whatever is left, and remove the folder."""
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
        shutil.rmtree(self.folder, ignore_errors=True)


def environment_of(pid: int) -> dict[bytes, bytes]:
    """Return a process's environment; none where it is gone."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return {name: text for name, _, text in (word.partition(b"=") for word in words)}


def is_marked(environment: dict[bytes, bytes], home: bytes) -> bool:
    """Tell whether this is the environment of a managed process, or of what one has started, with this home."""
    return _MARK in environment and environment.get(b"HOME") == home


def is_managed(pid: int) -> bool:
    """Tell whether a process leads a session, as each that the supervisor starts does, is no daemon, and lives."""
    with contextlib.suppress(OSError):
        daemon = Path(f"/proc/{pid}/comm").read_text() == "daemon\n"
        return not daemon and os.getsid(pid) == pid and alive(pid)
    return False


def pause(seconds: float) -> None:
    """Let so much time pass, as a plan says."""
    time.sleep(seconds)
