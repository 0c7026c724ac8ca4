"""Which sockets listen here, and which processes hold them, with real sockets and real processes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.system import listeners, procfs
from supervisor.system.spawn import MARK, mark
from tests.support.processes import headless

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTENS = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
WAITS = "sys.stdin.read()"


def listen(host: str) -> socket.socket:
    """Return a listener on any port of an address."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if ":" in host:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, 0))
        listener.listen()
    except OSError:
        listener.close()
        pytest.skip(f"this machine has no {host}")
    return listener


@contextlib.contextmanager
def listening(code: str = LISTENS + WAITS) -> Iterator[tuple[int, int]]:
    """Run a process that listens, for the length of a block; return its pid and its port."""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def find(port: int) -> listeners.ListeningSocket:
    """Return the socket that listens on a port."""
    return next(found for found in listeners.listening() if found.port == port)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0.0.0.0", "127.0.0.2", "127.1.2.3", "::", "::1", "::ffff:127.0.0.1", "::ffff:127.0.0.2"]
)
def test_by_loopback_is_what_a_connection_to_it_reaches(host: str) -> None:
    """How the table is read is verified by connecting to 127.0.0.1, as tailscaled does."""
    with listen(host) as listener:
        found = find(listener.getsockname()[1])
        with socket.socket() as client:
            reached = client.connect_ex(("127.0.0.1", found.port)) == 0
        assert (found.host, found.uid, found.by_loopback) == (host, os.geteuid(), reached)
        assert found.inode in listeners.own_inodes()
        assert found.inode == os.fstat(listener.fileno()).st_ino


def test_only_what_listens_is_listed() -> None:
    """A connection is not a listener, and neither is a socket that only has an address."""
    with (
        listen("127.0.0.1") as listener,
        socket.create_connection(listener.getsockname()) as client,
        socket.socket() as s,
    ):
        s.bind(("127.0.0.1", 0))
        ports = [found.port for found in listeners.listening()]
        assert ports.count(listener.getsockname()[1]) == 1
        assert client.getsockname()[1] not in ports
        assert s.getsockname()[1] not in ports


def test_a_kernel_that_lists_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or unexpected table means no listeners, and is not a failure."""
    monkeypatch.setattr(listeners, "_TABLES", ("/no/such/table", "/proc/version"))
    assert listeners.listening() == ()


def test_the_process_behind_a_socket() -> None:
    """It is found by its descriptors; after its exit the socket has no holder."""
    with listening() as (pid, port):
        inode = find(port).inode
        known = listeners.holders({inode}, {})
        holder = known[inode]
        assert holder is not None
        assert holder.pid == pid
        assert listeners.holders({inode}, known) == known
    assert listeners.holders({inode}, known) == {inode: None}


def test_what_is_known_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only new sockets are searched for in all processes."""
    with listening() as (_, port):
        inode = find(port).inode
        known = listeners.holders({inode, 1}, {})
        assert known[1] is None
        monkeypatch.setattr(listeners, "every_pid", lambda: pytest.fail("it looked through all processes"))
        assert listeners.holders({inode, 1}, known) == known


def test_a_process_belongs_to_the_one_it_descends_from() -> None:
    """This holds at any depth; one that descends from none belongs to none."""
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LISTENS + WAITS!r}])"
    with listening(code) as (pid, port):
        holder = next(iter(listeners.holders({find(port).inode}, {}).values()))
        assert holder is not None
        assert holder.pid != pid
        assert procfs.owner_of(holder.pid, {pid: "moltis", os.getpid(): "other"}) == "moltis"
        assert procfs.owner_of(pid, {holder.pid: "moltis"}) == ""


def test_a_daemon_belongs_to_the_one_it_is_marked_as(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has left its parents, but its original environment has the mark."""
    monkeypatch.setenv(MARK, mark("moltis"))
    with listening() as (pid, _):
        assert procfs.owner_of(pid, {10**9: "other", 10**9 + 1: "moltis"}) == "moltis"


def test_one_of_its_session_belongs_to_it() -> None:
    """An orphan whose environment was wiped is recognised by its session."""
    with listening() as (pid, _):
        assert procfs.owner_of(pid, {os.getsid(pid): "moltis"}) == "moltis"


def test_a_process_whose_first_thread_has_ended_is_seen() -> None:
    """The kernel shows nothing in its own folder: its sockets and its memory are read from its other threads."""
    first, then = LISTENS.strip().split("print")
    with listening(headless(first, f"print{then}")) as (pid, port):
        inode = find(port).inode
        holder = listeners.holders({inode}, {})[inode]
        assert holder is not None
        assert holder.pid == pid
        assert listeners.holders({inode}, {inode: holder}) == {inode: holder}
        assert (procfs.memory_bytes(pid) or 0) > 1_000_000
        found = procfs.look(pid)
        assert found is not None
        assert (found.pid, found.parent) == (pid, os.getpid())
