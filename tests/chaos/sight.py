"""Observes processes: in this kernel, or through a program that runs inside a sandbox's own.

    python sight.py

As a program it reads lines of JSON, `[name, [argument, …]]`, and answers each with one. Only the standard library is
used, as an image has nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = "SUPERVISED_PROCESS"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BLOCK_BYTES = 4096
# For an answer from inside a sandbox on a busy machine.
_ANSWER_S = 20.0


class Use(NamedTuple):
    """A supervisor's resources: descriptors without children's pipes, threads, and memory."""

    files: int
    pipes: int
    threads: int
    memory_bytes: int


class Sight:
    """Observes and changes processes of the place where this runs."""

    # Pipes of remains that the supervisor cannot recognise as such before the stop.
    hidden_pipes = 0

    def environment(self, pid: int) -> dict[str, str]:
        """Return a process's environment; empty if it is gone."""
        with contextlib.suppress(OSError):
            text = os.fsdecode(Path(f"/proc/{pid}/environ").read_bytes())
            return dict(word.split("=", 1) for word in text.split("\0") if "=" in word)
        return {}

    def words(self, pid: int) -> str:
        """Return a process's command line."""
        with contextlib.suppress(OSError):
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
        return ""

    def below(self, pid: int) -> list[int]:
        """Return the descendants of a process that were not reparented away."""
        found = []
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):
                    for child in map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split()):
                        found += [child, *self.below(child)]
        return found

    def pid_of(self, first: int, name: str) -> int | None:
        """Return the pid of the process that the supervisor ``first`` manages under this name."""
        with contextlib.suppress(OSError):
            for pid in map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split()):
                if self.environment(pid).get(MARK, "").startswith(name + ":") and self.is_managed(pid):
                    return pid
        return None

    def is_managed(self, pid: int) -> bool:
        """Return whether a process is alive and leads a session, as managed ones do, and is not a daemon."""
        with contextlib.suppress(OSError):
            daemon = Path(f"/proc/{pid}/comm").read_text() == "daemon\n"
            return not daemon and os.getsid(pid) == pid and _state(pid) not in "ZX"
        return False

    def zombies(self, first: int) -> list[str]:
        """Return the children that have exited and were not reaped."""
        found = []
        for pid in self.below(first):
            with contextlib.suppress(OSError, IndexError):
                if _state(pid) in "ZX":
                    found.append(f"zombie {pid} {Path(f'/proc/{pid}/comm').read_text().strip()}")
        return found

    def use(self, pid: int) -> Use:
        """Return the current resources of a process."""
        links = []
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        pipes = sum(link.startswith("pipe:") for link in links)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return Use(len(links) - pipes, pipes, len(os.listdir(f"/proc/{pid}/task")), pages * _PAGE_BYTES)

    def send(self, pid: int, number: int) -> None:
        """Send a process a signal, if it exists."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def tell(self, path: str, order: str) -> bool:
        """Send a child an order, if it listens."""
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.sendto(order.encode(), path)
            return True
        return False

    def limit_files(self, pid: int, spare: int) -> list[int]:
        """Limit a process to this many more descriptors than it has open; return the previous limits."""
        with contextlib.suppress(OSError):
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = len(os.listdir(f"/proc/{pid}/fd"))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(8, used + spare), limits[1]))
            return [*limits]
        return []

    def restore_files(self, pid: int, limits: Sequence[int]) -> None:
        """Restore these limits."""
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limits[0], limits[1]))

    def fill(self, path: str) -> None:
        """Fill a file system with this file."""
        with contextlib.suppress(OSError), open(path, "ab") as file:
            size = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
            # Allocated without writing as far as possible; the rest is written.
            while size > _BLOCK_BYTES:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError:
                    size //= 2
            while True:
                file.write(bytes(_BLOCK_BYTES))
                file.flush()

    def remove(self, path: str) -> None:
        """Remove a file if it exists."""
        Path(path).unlink(missing_ok=True)


class Inside(Sight):
    """The same through such a program; once that has ended, nothing is found."""

    # gVisor shows what is another user's to that user alone, and has no setfsuid: two processes of one user, two each.
    hidden_pipes = 4

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._popen = self._opened()

    def _opened(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        """Stop the program."""
        self._popen.kill()
        self._popen.communicate()

    def _ask(self, name: str, *arguments: object) -> Any:
        question = json.dumps([name, arguments])
        answer = self._answer(question)
        if answer is None:
            # An engine may lose the connection to a program inside: another one is started, once.
            self.close()
            self._popen = self._opened()
            answer = self._answer(question)
        if not answer:
            raise ConnectionError("the program inside has ended" if answer == "" else "the program inside is silent")
        seen, what = json.loads(answer)
        if not seen:
            raise ConnectionError(what)
        return what

    def _answer(self, question: str) -> str | None:
        """Return the program's answer; empty if it has ended, None if there was none in time."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        # Writing to an ended program raises an OSError too.
        self._popen.stdin.write(question + "\n")
        self._popen.stdin.flush()
        if not select.select([self._popen.stdout], [], [], _ANSWER_S)[0]:
            return None
        return self._popen.stdout.readline()

    def __getattribute__(self, name: str) -> Any:
        """Delegate all methods of Sight to the program."""
        if name.startswith("_") or not callable(vars(Sight).get(name)):
            return super().__getattribute__(name)
        return lambda *arguments: self._ask(name, *arguments)


def _state(pid: int) -> str:
    """Return a process's state; if only its first thread has ended, that of another."""
    states = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            states.append(Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(") ")[2].split()[0])
    if not states:
        raise ProcessLookupError(pid)
    return next((state for state in states if state not in "ZX"), states[0])


def serve() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sight = Sight()
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = True, getattr(sight, name)(*arguments)
        except OSError as error:
            answer = False, str(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
