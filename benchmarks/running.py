"""Starts a supervisor for a measure, and observes it from outside."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.peers import Job, Peer

PROGRAMS = Path(__file__).parent / "programs"
# Upper limit of any wait: a peer that hangs costs no more than this.
DEADLINE_S = 15.0
AS_PROCESS_1 = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


class Run:
    """A running supervisor. ``began_ns`` is the time just before its exec, on the monotonic clock."""

    def __init__(self, peer: Peer, job: Job, folder: Path, *, process_1: bool = False, out: Any = None) -> None:
        words = [*(AS_PROCESS_1 if process_1 else []), *peer.start(job, folder)]
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **peer.environment(job, folder)}
        self.peer = peer
        self.folder = folder
        self.began_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            words,
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if out is None else out,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def own_pids(self, children: tuple[str, ...]) -> list[int]:
        """Return the supervisor's own processes: all its descendants except those that run one of ``children``."""
        return [pid for pid in (self.process.pid, *below(self.process.pid)) if program(pid) not in children]

    def wait(self, limit_s: float) -> None:
        """Wait until it exits, without the growing pauses in which Popen's own wait looks: 7.5, 15.5, 31.5 ms.

        Raises TimeoutExpired.
        """
        fd = os.pidfd_open(self.process.pid)
        try:
            if not select.select([fd], [], [], limit_s)[0]:
                raise subprocess.TimeoutExpired(self.process.args, limit_s)
        finally:
            os.close(fd)
        self.process.wait()

    def end(self) -> None:
        """End it and everything below it."""
        left = [self.process.pid, *below(self.process.pid)]
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


@contextlib.contextmanager
def running(peer: Peer, job: Job, **options: Any) -> Iterator[Run]:
    """Run it for the duration of a block, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    run = None
    try:
        run = Run(peer, job, folder, **options)
        yield run
    finally:
        if run is not None:
            run.end()
        shutil.rmtree(folder, ignore_errors=True)


def build(folder: Path) -> dict[str, str]:
    """Compile the small programs that are run as children."""
    built = {}
    for source in sorted(PROGRAMS.glob("*.c")):
        built[source.stem] = str(folder / source.stem)
        subprocess.run(["gcc", "-O2", "-static", "-o", built[source.stem], str(source)], check=True)
    return built


def below(pid: int) -> list[int]:
    """Return all descendants of a process."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += [int(child), *below(int(child))]
    return found


def program(pid: int) -> str:
    """Return the name of what a process runs."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Return whether a process has a live thread; the first one may have ended before the others."""
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/task/{task}/stat").read_text().rpartition(") ")[2][0] not in "ZX":
                    return True
    return False


def cpu_ns(pid: int) -> int:
    """Return the processor time of a process and its threads."""
    total = 0
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total


def wait_for(condition: Callable[[], Any], deadline_s: float = DEADLINE_S, pause_s: float = 0.002) -> Any:
    """Return the first true result; None at the deadline."""
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError, ValueError, IndexError):
            answer = condition()
            if answer:
                return answer
        if pause_s:
            time.sleep(pause_s)
    return None


def wait_while_moving(condition: Callable[[], Any], moved: Callable[[], Any], still_s: float = 5.0) -> bool:
    """Wait for the condition as long as the result of ``moved`` keeps changing; return whether it holds."""
    last, since_s = moved(), time.monotonic()
    while not condition():
        now, now_s = moved(), time.monotonic()
        if now != last:
            last, since_s = now, now_s
        if now_s - since_s > still_s:
            return False
        time.sleep(0.05)
    return True


def stamps(path: Path) -> list[int]:
    """Return the times that the program tick recorded."""
    try:
        return [int(line) for line in path.read_text().split()]
    except OSError:
        return []


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def http_ms(port: int, path: str, timeout_s: float = 5.0) -> float | None:
    """Return the response time; None without a response."""
    begin = time.monotonic_ns()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
            client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            if not client.recv(4096).startswith(b"HTTP/1."):
                return None
            return (time.monotonic_ns() - begin) / 1e6
    except OSError:
        return None
