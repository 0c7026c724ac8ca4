"""Reads the supervisor's output, as slowly as required, and finds lines that are lost, duplicated or torn."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import re
import select
import struct
import sys
import termios
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from supervisor.logs.lines import MORE
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

# See child.py.
_LINE = re.compile(r"([a-z0-9-]+) ([0-9a-f]+(?:\.2)?) ([0-9]+) (?:(x*)\.\Z|say .|long ([0-9]+) ~)")
_MOST_PAD = 40
_MORE = MORE.decode()
_PIECE_BYTES = 256 * 1024
_LOOK_S = 0.05


class Output:
    """The consumer of the log, on a named pipe.

    ``problems`` are violations; ``records`` are the supervisor's own. ``allowed`` is the number of lines that it
    reported as dropped while it may drop lines: always (``drops``), or while nobody has the log open.
    """

    def __init__(self, folder: Path, secrets: tuple[bytes, ...], *, drops: bool) -> None:
        self.path = folder / "out"
        self.problems: list[str] = []
        self.records: list[dict[str, Any]] = []
        self.allowed = 0
        self._drops = self._may_drop = drops
        # The rest of a long line, of which further pieces have to come, by source.
        self._long: dict[str, str] = {}
        self.bytes = self._looked = 0
        self.excused: set[tuple[str, str]] = set()
        self._counts = folder / "counts"
        self._secrets = secrets
        self._seen: dict[tuple[str, str], int] = {}
        self._missing = 0
        self._current: dict[str, str] = {}
        self._torn: dict[str, str] = {}
        self._ended: set[tuple[str, str]] = set()
        self._rest = b""
        self._stalled_until_s = 0.0
        self._over = False
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self._lock = threading.Lock()
        # What is read is examined in another thread: a stop waits only half a second for the reader.
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._run, self._look)]
        for thread in self._threads:
            thread.start()

    def writer(self) -> int:
        """Return a descriptor for the supervisor's standard output."""
        return os.open(self.path, os.O_WRONLY)

    def stall(self, seconds: float) -> None:
        """Read nothing for this time."""
        self._stalled_until_s = time.monotonic() + seconds

    def go_away(self) -> None:
        """Close the pipe."""
        with self._lock:
            self._may_drop = True
            os.close(self._fd)
            self._fd = -1

    def begin_round(self) -> None:
        """Allow no more losses than this log allows, now that all lines have come."""
        self._may_drop = self._drops

    def come_back(self) -> None:
        """Open the pipe again, and read at once."""
        self._stalled_until_s = 0.0
        with self._lock:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def drain(self, deadline_s: float = 10.0) -> None:
        """Read the rest once every writer has gone, and stop."""
        self.come_back()
        self._over = True
        for thread in self._threads:
            thread.join(deadline_s)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def find(self, message: str, since: int = 0, **fields: object) -> dict[str, Any] | None:
        """Return the first record from number ``since`` on with this message and these fields."""
        for record in self.records[since:]:
            if record["message"] == message and all(record.get(name) == value for name, value in fields.items()):
                return record
        return None

    def missing(self) -> list[str]:
        """Return lines that were written and are missing, beyond those that the supervisor reported as dropped."""
        with self._lock:
            short, told = self._missing, []
            for path in self._counts.iterdir():
                name, _, life = path.name.partition(".")
                written = int.from_bytes(path.read_bytes(), sys.byteorder)
                seen = self._seen.get((name, life), 0)
                if written > seen and (name, life) not in self.excused:
                    short += written - seen
                    told.append(f"{name}.{life}: {seen} of {written}")
            return told or [f"{self._missing} in between"] if short > self.allowed else []

    def excuse(self) -> None:
        """Allow the current lives to lose lines: their supervisor was killed, possibly in the middle of one."""
        self.come_back()
        wait_until(lambda: self._looked == self.bytes and not _waiting_bytes(self._fd), what="the rest of the log")
        self.excused.update((name, life) for name, _, life in (p.name.partition(".") for p in self._counts.iterdir()))
        self._rest = b""

    def _run(self) -> None:
        while True:
            if time.monotonic() < self._stalled_until_s and not self._over:
                time.sleep(_LOOK_S / 5)
                continue
            with self._lock:
                data = self._read()
            if data:
                self._pieces.put(data)
                continue
            if self._over:
                self._pieces.put(b"")
                return
            if self._fd >= 0:
                # The consumer may go away meanwhile.
                with contextlib.suppress(OSError, ValueError):
                    select.select([self._fd], [], [], _LOOK_S)
                if data is not None:
                    time.sleep(_LOOK_S / 5)
            else:
                time.sleep(_LOOK_S / 5)

    def _look(self) -> None:
        while piece := self._pieces.get():
            try:
                self._take(piece)
            except Exception:
                self.problems.append(f"nothing examines the log any more: {traceback.format_exc()}")
            self._looked += len(piece)

    def _read(self) -> bytes | None:
        """Return the available bytes; None if there are none yet, empty if there is no writer."""
        if self._fd < 0:
            return None
        try:
            data = os.read(self._fd, _PIECE_BYTES)
        except BlockingIOError:
            return None
        self.bytes += len(data)
        return data

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            for secret in self._secrets:
                if secret in line:
                    self.problems.append(f"a secret in the output: {line!r}")
            try:
                record = json.loads(line)
            except ValueError:
                self.problems.append(f"a torn line of output: {line[:300]!r}")
                continue
            with self._lock:
                self._look_at(record)

    def _take_own(self, record: dict[str, Any]) -> None:
        """Store a record of the supervisor."""
        self.records.append(record)
        if record["message"] == "log lines lost":
            self.allowed += record["count"] if self._may_drop else 0
        elif record["message"] == "exited":
            for source in (record["child"], record["child"] + ".2"):
                if source in self._current:
                    self._ended.add((record["child"], self._current[source]))

    def _look_at(self, record: dict[str, Any]) -> None:
        if record["process"] == "supervisor":
            self._take_own(record)
            return
        name, message = record["process"], record["message"]
        source = name if record["stream"] == "stdout" else f"{name}.2"
        if self._continues(source, message) or not message.startswith(name):
            return
        found = _LINE.match(message)
        if found is None or found[1] != name or (found[4] is not None and len(found[4]) != int(found[3]) % _MOST_PAD):
            # The last output of one that was killed; any output after that shows that it was not.
            self._torn[source] = message
            return
        if found[5] is not None:
            self._begin_long(source, message, found)
        self._take_line(source, found, message)

    def _begin_long(self, source: str, message: str, found: re.Match[str]) -> None:
        size = int(found[5])
        body = "".join(f"~{number:07x}" for number in range(size // 8 + 1))[:size]
        self._long[source] = message[: found.end() - 1] + body
        if not self._continues(source, message):
            self.problems.append(f"a long line of {source} differs: {message[:60]!r}")

    def _continues(self, source: str, message: str) -> bool:
        """Return whether this is the next piece of a long line, which is torn if that does not come."""
        rest = self._long.pop(source, "")
        piece = message.removesuffix(_MORE)
        is_next = bool(rest) and rest.startswith(piece)
        if is_next and piece != message:
            self._long[source] = rest[len(piece) :]
        elif rest and rest != piece and not self._may_drop:
            self._torn[source] = rest
        return is_next

    def _take_line(self, source: str, found: re.Match[str], message: str) -> None:
        name, life, number = found[1], found[2], int(found[3])
        torn = self._torn.pop(source, None)
        if torn is not None and self._current.get(source) == life:
            self.problems.append(f"a torn line of {source}: {torn[:200]!r}")
        seen = self._seen.get((name, life), 0)
        if number < seen:
            self.problems.append(f"a line twice or out of order: {message[:60]!r} after {seen - 1}")
        if (name, life) not in self.excused:
            self._missing += max(0, number - seen)
        if seen and self._current.get(source) != life:
            self.problems.append(f"a line of an earlier life: {message[:60]!r}")
        if (name, life) in self._ended:
            self.problems.append(f"a line after the record of its exit: {message[:60]!r}")
        self._seen[name, life] = number + 1
        self._current[source] = life


def _waiting_bytes(fd: int) -> int:
    """Return the number of bytes in a pipe (ioctl(2), FIONREAD)."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])
