"""The child that the supervisor runs under chaos: writes numbered lines, and misbehaves on request.

    python child.py FOLDER NAME

The app also stores rows if there is a folder `FOLDER/kept`, and writes their number there, and answers probes on the
port in `FOLDER/port`.

A line is `NAME LIFE NUMBER PAD.`; the pad's length depends on the number, so that a torn line shows. A long one has
`long SIZE BODY` there, and a said one `say TEXT`. LIFE ends with `.2` on standard error. The number of lines of each
stream is stored in `FOLDER/counts/NAME.LIFE` before the next one is written. Orders come by datagrams to
`FOLDER/NAME.sock`. Only the standard library is used, as it starts hundreds of times.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_S = 0.02
MOST_PAD = 40
AT_ONCE = 400
# One row for this many lines.
EACH = 5
FOLDER, NAME = sys.argv[1:3]
LIFE = f"{time.monotonic_ns():x}"


class Writer:
    """Writes the lines of one stream and stores their count."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._life = LIFE if fd == 1 else f"{LIFE}.{fd}"
        self._count = counter(f"{FOLDER}/counts/{NAME}.{self._life}")
        self.number = 0

    def write(self, count: int = 1) -> None:
        """Write this many lines."""
        while count:
            some = min(count, AT_ONCE)
            numbers = range(self.number, self.number + some)
            text = "".join(f"{NAME} {self._life} {number} {'x' * (number % MOST_PAD)}.\n" for number in numbers)
            send(text.encode(), self._fd)
            self._add(some)
            count -= some

    def half(self) -> None:
        """Write a line in two parts."""
        text = f"{NAME} {self._life} {self.number} {'x' * (self.number % MOST_PAD)}.\n".encode()
        send(text[:7], self._fd)
        time.sleep(0.05)
        send(text[7:], self._fd)
        self._add(1)

    def say(self, text: str) -> None:
        """Write a line with this text."""
        send(f"{NAME} {self._life} {self.number} say {text}\n".encode(), self._fd)
        self._add(1)

    def long(self, size: str) -> None:
        """Write a line with a body of this size, in which each part differs."""
        body = "".join(f"~{number:07x}" for number in range(int(size) // 8 + 1))[: int(size)]
        send(f"{NAME} {self._life} {self.number} long {size} {body}\n".encode(), self._fd)
        self._add(1)

    def _add(self, count: int) -> None:
        self.number += count
        self._count[:8] = struct.pack("=Q", self.number)


class Keeper:
    """Stores rows in a database in the app's folder; a row counts once SQLite has committed it."""

    def __init__(self) -> None:
        import sqlite3

        folder = f"{os.environ['HOME']}/.moltis"
        os.makedirs(folder, exist_ok=True)
        self._database = sqlite3.connect(f"{folder}/rows.db", timeout=30, isolation_level=None)
        self._database.execute("CREATE TABLE IF NOT EXISTS rows (life TEXT, number INTEGER)")
        self._count = counter(f"{FOLDER}/kept/{LIFE}")
        self._number = 0

    def keep(self) -> None:
        """Store one more row."""
        self._database.execute("INSERT INTO rows VALUES (?, ?)", (LIFE, self._number))
        self._number += 1
        self._count[:8] = struct.pack("=Q", self._number)


def listen() -> socket.socket:
    """Return a socket on which probes are answered."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with open(f"{FOLDER}/port", encoding="ascii") as file:
        server.bind(("127.0.0.1", int(file.read())))
    server.listen(100)
    return server


def answer(server: socket.socket) -> None:
    """Answer one probe; it may have given up already."""
    client, _ = server.accept()
    with client, contextlib.suppress(OSError):
        client.settimeout(1.0)
        client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def counter(path: str) -> mmap.mmap:
    """Return eight bytes mapped from a new file, which outlive this process however it ends."""
    with open(path, "xb+") as file:
        file.write(bytes(8))
        file.flush()
        return mmap.mmap(file.fileno(), 8)


def send(data: bytes, fd: int = 1) -> None:
    """Write all of it to standard output; if nobody reads it any more, keep running, as servers do."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        while True:
            signal.pause()


def daemons(count: int) -> None:
    """Leave this many processes in their own sessions behind; every eighth ignores a request to end."""
    for number in range(count):
        if os.fork() == 0:
            os.setsid()
            # Distinguishes it from a managed process when seen from outside.
            with open("/proc/self/comm", "w", encoding="ascii") as file:
                file.write("daemon")
            if number % 8 == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(30)
            os._exit(0)


def strangers(count: int) -> None:
    """Leave this many processes that nothing identifies except the name by which a test finds them."""
    for _ in range(count):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 64)
                os.execve("/bin/sleep", [f"stranger in {FOLDER}", "300"], {})  # noqa: S606 - a child on purpose
            os._exit(0)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def zombies(count: int) -> None:
    """Leave grandchildren that exit at once to the process that adopts them."""
    for _ in range(count):
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def orders(writer: Writer, errors: Writer) -> dict[str, Callable[..., object]]:
    """Return the orders that it understands."""
    kept: list[bytes] = []
    return {
        "burst": lambda count: writer.write(int(count)),
        "half": writer.half,
        "long": writer.long,
        "rubbish": lambda size: send(os.urandom(int(size)).replace(b"\n", b" ") + b"\n"),
        "say": writer.say,
        "exit": lambda code: os._exit(int(code)),
        "abort": os.abort,
        "zombies": lambda count: zombies(int(count)),
        "daemons": lambda count: daemons(int(count)),
        "strangers": lambda count: strangers(int(count)),
        "hoard": hoard,
        "stubborn": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        "slow": slow,
        "errors": lambda count: errors.write(int(count)),
        "spin": spin,
        "eat": lambda size: kept.append(b"x" * int(size)),
    }


def hoard(seconds: str) -> None:
    """Start processes up to the limit; they end after this time."""
    with contextlib.suppress(OSError):
        while True:
            if os.fork() == 0:
                time.sleep(float(seconds))
                os._exit(0)
    time.sleep(float(seconds))
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def slow(seconds: str) -> None:
    """Take this long to exit on a request to end."""

    def end(_number: int, _frame: object) -> None:
        time.sleep(float(seconds))
        os._exit(0)

    signal.signal(signal.SIGTERM, end)


def spin(seconds: str) -> None:
    """Use a processor continuously."""
    end_s = time.monotonic() + float(seconds)
    while time.monotonic() < end_s:
        pass


def main() -> None:
    """Write lines, and handle orders."""
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = f"{FOLDER}/{NAME}.sock"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    inbox.bind(path)
    writer = Writer(1)
    keeper = Keeper() if NAME == "moltis" and os.path.isdir(f"{FOLDER}/kept") else None
    server = listen() if NAME == "moltis" else None
    inboxes = [inbox, *([server] if server is not None else [])]
    known = orders(writer, Writer(2))
    for turn in itertools.count():
        writer.write()
        if keeper is not None and turn % EACH == 0:
            keeper.keep()
        came = select.select(inboxes, [], [], PAUSE_S)[0]
        if server is not None and server in came:
            answer(server)
        if inbox in came:
            word, _, argument = inbox.recv(65536).decode().partition(" ")
            known[word](*([argument] if argument else []))


main()
