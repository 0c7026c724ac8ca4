"""Ports that tailnet peers reach are found, named with their processes, and reported once, and again when closed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.core import health
from supervisor.core.health import assess
from supervisor.core.process import State
from supervisor.core.snapshot import ListenerView, ProcessView, Snapshot, TailnetView
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.moltis import OPEN_PROXY_PORT
from supervisor.runtime import exposure
from supervisor.runtime.engine import Engine
from supervisor.runtime.exposure import Exposure, ScanInterval
from supervisor.runtime.store import SnapshotStore
from supervisor.system import listeners
from supervisor.system.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from supervisor.system.listeners import ListeningSocket

OPENED = "a port is open to every tailnet peer"
CLOSED = "a port is no longer open to every tailnet peer"
BLIND = "cannot tell which ports are open to every tailnet peer"
# Listens on the given address, and closes the port after a line of input.
LISTENS = (
    "import socket, sys; s = socket.create_server((sys.argv[1], 0)); print(s.getsockname()[1], flush=True)\n"
    "sys.stdin.readline(); s.close(); print('closed', flush=True); sys.stdin.read()"
)
READY = ProcessView("moltis", State.RUNNING, critical=True, ready=True, ready_since_s=0.0, ever_ready=True)


class Audit:
    """A running audit with a fake store; the sockets are real."""

    def __init__(
        self,
        *views: ProcessView,
        public_port: int | None = None,
        every_s: float = 0.02,
        peer_api_ports: tuple[int, ...] = (),
        sidecar: bool = False,
    ) -> None:
        self.store = SnapshotStore(Snapshot(processes=views, tailnet=TailnetView(peer_api_ports=peer_api_ports)))
        self.log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=10, names=[])
        self.own = socket.create_server(("127.0.0.1", 0))
        engine = Engine([], self.store, self.log, Reaper(), ())
        timing = ScanInterval(every_s=every_s, settle_s=0.01)
        self.exposure = Exposure(engine, [self.own.getsockname()], public_port, timing, sidecar=sidecar)

    def said(self, event: str, port: int | None = None) -> list[dict[str, Any]]:
        """Return the fields of the log records of this event, or of those about a port."""
        records = [dict(record.fields) for record in self.log._waiting_records if record.event == event]
        return [fields for fields in records if port is None or fields["listen"].endswith(f":{port}")]

    def view(self, port: int) -> ListenerView | None:
        """Return the store's view of a port; None if there is none."""
        return next((view for view in self.store.snapshot.exposed if view.port == port), None)

    async def wait(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        end_s = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end_s
            await asyncio.sleep(0.01)

    async def wait_looks(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        """Wait until it has looked this many more times."""
        looks = 0
        listening = listeners.listening

        def look() -> tuple[ListeningSocket, ...]:
            nonlocal looks
            looks += 1
            return listening()

        monkeypatch.setattr(listeners, "listening", look)
        # A look that has begun is not over yet.
        await self.wait(lambda: looks > count)


@contextlib.asynccontextmanager
async def auditing(*views: ProcessView, **options: Any) -> AsyncIterator[Audit]:
    """Run an audit for the length of a block."""
    audit = Audit(*views, **options)
    task = asyncio.get_running_loop().create_task(audit.exposure.run())
    try:
        yield audit
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        audit.own.close()


class Child:
    """A process that listens."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.process = process
        self.port = int(process.stdout.readline())
        self.view = READY._replace(pid=process.pid)

    def close_port(self) -> None:
        """Make it close its port and keep running."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        self.process.stdout.readline()


@contextlib.contextmanager
def child(host: str = "127.0.0.1") -> Iterator[Child]:
    """Run a listening process for the length of a block."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS, host], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


async def test_a_port_is_named_once_and_told_when_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported with its process, its pid and what to do about it."""
    with child() as app:
        async with auditing(app.view) as audit:
            await audit.wait(lambda: audit.view(app.port))
            assert audit.view(app.port) == ListenerView("127.0.0.1", app.port, "moltis", app.process.pid)
            await audit.wait_looks(monkeypatch, 3)
            [told] = audit.said(OPENED, app.port)
            assert (told["whose"], told["pid"]) == ("moltis", app.process.pid)
            assert "127.0.0.2" in told["what_to_do"]
            app.close_port()
            await audit.wait(lambda: audit.view(app.port) is None)
            assert len(audit.said(CLOSED, app.port)) == 1


async def test_what_peers_do_not_reach_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """These are the supervisor's own port, other loopback addresses, and the app's port if it is public anyway."""
    with child("127.0.0.2"), child("0.0.0.0") as app:
        async with auditing(app.view, public_port=app.port) as audit:
            await audit.wait_looks(monkeypatch, 2)
            assert audit.view(audit.own.getsockname()[1]) is None
            # By its address: another program may have the same port of 127.0.0.1.
            assert "127.0.0.2" not in {view.host for view in audit.store.snapshot.exposed}
            assert audit.view(app.port) is None
        async with auditing(app.view) as audit:
            await audit.wait(lambda: audit.view(app.port))


async def test_a_program_that_is_nobodys_is_told_by_its_name() -> None:
    """It belongs to no process of the supervisor."""
    with child() as stranger:
        async with auditing() as audit:
            await audit.wait(lambda: audit.view(stranger.port))
            view = audit.view(stranger.port)
            assert view is not None
            assert view.process.startswith("python")
            assert view.pid == stranger.process.pid


async def test_a_descendant_is_told_with_its_name() -> None:
    """Moltis starts helpers: the report has to say which of them it is."""
    with child() as helper:
        async with auditing(READY._replace(pid=os.getpid())) as audit:
            await audit.wait(lambda: audit.view(helper.port))
            view = audit.view(helper.port)
            assert view is not None
            assert view.process.startswith("moltis (python")


async def test_one_that_got_ready_is_looked_at_soon() -> None:
    """It does not have to wait for the next round."""
    with child() as app:
        async with auditing(every_s=600) as audit:
            await audit.wait(lambda: audit.said(OPENED, app.port))
            first = audit.view(app.port)
            audit.store.update_process(app.view)
            await audit.wait(lambda: audit.view(app.port) != first)
            view = audit.view(app.port)
            assert view is not None
            assert view.process == "moltis"
            # The same port after a restart is not reported again.
            count = len(audit.said(OPENED))
            audit.exposure._log_changes((view,), (view._replace(pid=1),))
            assert len(audit.said(OPENED)) == count


async def test_a_kernel_that_does_not_tell_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """If not even the supervisor's own port is listed, no list is better than a wrong one."""
    monkeypatch.setattr(listeners, "_TABLES", ("/no/such/table",))
    async with auditing(READY) as audit:
        await audit.wait_looks(monkeypatch, 3)
        assert len(audit.said("cannot tell which ports are open to every tailnet peer")) == 1
        assert audit.store.snapshot.exposed == ()


def blind_with_proxy_at(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Hide the kernel's lists, and have Moltis' proxy expected at a port that is free for this test."""
    monkeypatch.setattr(listeners, "_TABLES", ("/no/such/table",))
    for module in (exposure, health):
        monkeypatch.setattr(module, "OPEN_PROXY_PORT", port)


async def test_moltis_open_proxy_is_found_where_the_kernel_lists_no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is so in gVisor, as on App Platform: it is asked for, and told as elsewhere, until it is closed."""
    with child("0.0.0.0") as proxy:
        blind_with_proxy_at(monkeypatch, proxy.port)
        async with auditing(READY._replace(pid=1)) as audit:
            await audit.wait(lambda: audit.view(proxy.port))
            await audit.wait_looks(monkeypatch, 3)
            [told] = audit.said(OPENED)
            assert told["listen"] == f"127.0.0.1:{proxy.port}"
            assert "MOLTIS_TOOLS__EXEC__SANDBOX__NETWORK=bypass" in told["what_to_do"]
            assert not audit.store.snapshot.exposed_known
            assert len(audit.said(BLIND)) == 1
            verdict = assess(audit.store.snapshot, 0.0)
            assert (verdict.status, verdict.components[-1].state) == ("warn", "open proxy")
            proxy.close_port()
            await audit.wait(lambda: not audit.store.snapshot.exposed)
            assert len(audit.said(CLOSED)) == 1


async def test_an_open_proxy_stays_told_while_proc_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no longer listed with its process, and it has not been closed."""
    with child("0.0.0.0") as proxy:
        for module in (exposure, health):
            monkeypatch.setattr(module, "OPEN_PROXY_PORT", proxy.port)
        async with auditing(proxy.view) as audit:
            await audit.wait(lambda: audit.view(proxy.port))
            seen = audit.view(proxy.port)
            monkeypatch.setattr(listeners, "_TABLES", ("/no/such/table",))
            await audit.wait(lambda: audit.said(BLIND))
            await audit.wait_looks(monkeypatch, 3)
            assert audit.store.snapshot.exposed == (seen,)
            assert len(audit.said(OPENED, proxy.port)) == 1
            assert not audit.said(CLOSED, proxy.port)


@pytest.mark.parametrize("ours", ["the supervisor's", "the app's"])
async def test_a_port_of_ours_is_not_taken_for_the_proxy(monkeypatch: pytest.MonkeyPatch, ours: str) -> None:
    """The supervisor's own answers there, and so does an app that is public on purpose."""
    with child() as app:
        async with auditing(app.view, public_port=app.port) as audit:
            port = app.port if ours == "the app's" else audit.own.getsockname()[1]
            blind_with_proxy_at(monkeypatch, port)
            await audit.wait(lambda: audit.said(BLIND))
            await audit.wait_looks(monkeypatch, 3)
            assert not audit.said(OPENED, port)
            assert audit.store.snapshot.exposed == ()


async def test_a_proxy_that_never_answers_ends_no_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue leaves a connection waiting."""
    monkeypatch.setattr(exposure, "ANSWER_S", 0.1)
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        blind_with_proxy_at(monkeypatch, full.getsockname()[1])
        async with auditing(READY) as audit:
            await audit.wait_looks(monkeypatch, 3)
            assert audit.store.snapshot.exposed == ()


@pytest.mark.parametrize("shares", [True, False])
async def test_a_blind_audit_beside_a_sidecar(monkeypatch: pytest.MonkeyPatch, *, shares: bool) -> None:
    """The proxy is open to peers if the sidecar's peer API answers here too; that no port is open is not claimed."""
    with child("0.0.0.0") as proxy, child("0.0.0.0") as peer_api:
        blind_with_proxy_at(monkeypatch, proxy.port)
        if not shares:
            peer_api.close_port()
        async with auditing(READY._replace(pid=1), sidecar=True, peer_api_ports=(peer_api.port,)) as audit:
            await audit.wait_looks(monkeypatch, 3)
            assert len(audit.said(BLIND)) == 1
            assert not audit.store.snapshot.exposed_known
            assert [view.port for view in audit.store.snapshot.exposed] == ([proxy.port] if shares else [])


async def test_a_socket_that_cannot_be_traced_is_told_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port is what matters."""
    with child() as app:
        monkeypatch.setattr(listeners, "every_pid", list)
        async with auditing(app.view) as audit:
            await audit.wait(lambda: audit.said(OPENED, app.port))
            assert audit.view(app.port) == ListenerView("127.0.0.1", app.port)
            assert audit.said(OPENED, app.port)[0]["whose"] == "unknown"


def test_health_warns_of_moltis_open_proxy_alone() -> None:
    """Other ports are reported in the log and the status; this one lets every peer connect to anything."""
    app = READY._replace(pid=1)
    other = Snapshot(processes=(app,), exposed=(ListenerView("127.0.0.1", 5000, "moltis", 1),))
    assert [part.name for part in assess(other, 0.0).components] == ["moltis"]
    proxy = other._replace(exposed=(*other.exposed, ListenerView("0.0.0.0", OPEN_PROXY_PORT)))
    verdict = assess(proxy, 0.0)
    assert (verdict.status, [part.name for part in verdict.components]) == ("warn", ["moltis", "exposure"])
    assert "MOLTIS_TOOLS__EXEC__SANDBOX__NETWORK=bypass" in verdict.reasons[0]
    assert verdict.components[1].state == "open proxy"


async def test_a_scan_that_hangs_is_told_and_the_next_ones_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may hang with a file of /proc; the audit ended without a word."""
    monkeypatch.setattr(exposure, "SCAN_S", 1.0)
    go_on, listening = threading.Event(), listeners.listening

    def hang() -> tuple[ListeningSocket, ...]:
        go_on.wait(10)
        return listening()

    monkeypatch.setattr(listeners, "listening", hang)
    with child() as app:
        async with auditing(app.view) as audit:
            try:
                await audit.wait(lambda: audit.said(BLIND))
            finally:
                go_on.set()
            await audit.wait(lambda: audit.view(app.port))
            assert [each["why"] for each in audit.said(BLIND)] == ["reading /proc takes longer than 1 s"]
