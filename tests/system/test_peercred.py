"""Who may give orders over a unix socket, as reported by the kernel, with real processes at the other end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.system import peercred, procfs
from supervisor.system.peercred import why_refused
from tests.support.descriptors import no_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECT = "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);print(flush=True);sys.stdin.read()"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        listener.settimeout(10)
        yield listener


def client(listener: socket.socket, *prefix: str) -> subprocess.Popen[bytes]:
    """Start a child that connects and stays."""
    words = [*prefix, sys.executable, "-c", CONNECT, listener.getsockname()]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_this_process_itself_may(listener: socket.socket) -> None:
    """The supervisor itself does not run under the supervisor."""
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            assert why_refused(accepted) == ""


@pytest.mark.parametrize("prefix", [(), ("sh", "-c", '"$@"; true', "sh"), ("setsid", "-w")])
def test_whoever_is_below_may_not(listener: socket.socket, prefix: tuple[str, ...]) -> None:
    """This covers a child, a grandchild, and a process in its own session."""
    with client(listener, *prefix), listener.accept()[0] as accepted:
        assert "runs under the supervisor" in why_refused(accepted)


def test_one_that_is_gone_may_not(listener: socket.socket) -> None:
    """What it sent before is still there, but it can no longer be determined who it was."""
    child = client(listener)
    with listener.accept()[0] as accepted:
        child.communicate(b"")
        assert child.returncode == 0
        assert "cannot determine" in why_refused(accepted)


def test_a_lack_of_descriptors_is_told_as_such(listener: socket.socket) -> None:
    """It is the supervisor's, not a caller's who has ended."""
    with client(listener) as child, listener.accept()[0] as accepted:
        with no_descriptors():
            why = why_refused(accepted)
        assert why.startswith("cannot determine which process is asking: too many open files; raise the limit")
        child.communicate(b"")


def test_a_pid_is_not_taken_for_the_one_that_has_it_now(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the peer is gone and its pid looks like a harmless one, the kernel's report on the peer itself counts."""
    child = client(listener)
    with listener.accept()[0] as accepted:
        child.communicate(b"")
        monkeypatch.setattr(peercred, "_below", lambda *_: False)
        assert "cannot determine" in why_refused(accepted)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be someone else")
def test_another_user_may_not(listener: socket.socket, tmp_path: Path) -> None:
    """Only root and the supervisor's own user may, whatever the socket's mode allows."""
    tmp_path.chmod(0o755)
    (tmp_path / "socket").chmod(0o666)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    with client(listener, *nobody), listener.accept()[0] as accepted:
        assert "user 65534 may not" in why_refused(accepted)


def test_the_way_up_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose ancestors cannot be followed to the root does not count as harmless."""
    for above, expected in [((b"a", 12), None), (None, None), ((b"a", 0), False), ((b"a", 7), True)]:
        monkeypatch.setattr(procfs, "name_and_parent", lambda _pid, above=above: above)
        assert peercred._below(11, lambda pid, _: pid == 7) is expected
    assert peercred._below(0, lambda *_: True) is None
