"""Probes against real servers, good and bad."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.core.process import HttpProbe, ProcessSpec, State, TcpProbe
from supervisor.core.snapshot import ProcessView, Snapshot
from supervisor.errors import host_port
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime import loop_latency, probes
from supervisor.runtime.engine import Engine
from supervisor.runtime.loop_latency import TimedReader
from supervisor.runtime.probes import ask, lacks_set_up
from supervisor.runtime.store import SnapshotStore
from supervisor.system import listeners
from supervisor.system.reaper import Reaper
from tests.logs.rig import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


# For probes that are to be answered.
PATIENT_S = 30.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading has time, unless a test says otherwise: on a crowded machine a thread waits for its turn."""
    monkeypatch.setattr(loop_latency, "READ_S", PATIENT_S)


@contextlib.asynccontextmanager
async def answering(answer: bytes | None, end: str = "close") -> AsyncIterator[int]:
    """Give everyone the same answer; None sends nothing. ``end`` is close, reset, or never before the client."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        await reader.readline()
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        if end == "never":
            await reader.read()
        if end == "reset":
            await writer.drain()
            writer.transport.abort()
            return
        writer.close()
        await writer.wait_closed()

    tasks: list[asyncio.Task[None] | None] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*(task for task in tasks if task is not None))


@pytest.mark.parametrize(
    ("answer", "miss"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n{}", None),
        (b"HTTP/1.0 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "it answered 301"),
        (b"HTTP/1.1 503 Unavailable\r\n\r\n", "it answered 503"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
        (b"\xff" * 100_000, "the answer is not HTTP"),
        (b"", "it closed the connection without an answer"),
        (None, "no answer within 0.3 s"),
    ],
)
async def test_answers(answer: bytes | None, miss: str | None) -> None:
    """Only 2xx counts; redirects are not followed; garbage and silence are misses with a reason."""
    async with answering(answer) as port:
        deadline_s = 0.3 if answer is None else PATIENT_S
        assert await ask(HttpProbe(f"http://127.0.0.1:{port}/health"), deadline_s) == miss


@pytest.mark.parametrize("end", ["never", "reset"])
async def test_a_good_head_is_an_answer_however_it_ends(end: str) -> None:
    """Some apps keep the connection open, others reset it."""
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", end) as port:
        assert await ask(HttpProbe(f"http://127.0.0.1:{port}/health"), PATIENT_S) is None


async def test_connections() -> None:
    """For an app with a TCP probe a connection is enough."""
    async with answering(None) as port:
        assert await ask(TcpProbe("127.0.0.1", port), PATIENT_S) is None
    miss = await ask(TcpProbe("127.0.0.1", port), PATIENT_S)
    assert miss is not None
    assert miss == "connection refused"
    assert await ask(HttpProbe(f"http://127.0.0.1:{port}/")) is not None


@pytest.mark.parametrize(
    ("answer", "lacks"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"setup_complete": false}', True),
        (b'HTTP/1.1 200 OK\r\n\r\n{"setup_complete": true}', False),
        (b'HTTP/1.1 200 OK\r\n\r\n{"setup_complete": 0}', False),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", False),
        (b"HTTP/1.1 200 OK\r\n\r\n[" + b"[" * 100_000, False),
        (b'HTTP/1.1 200 OK\r\n\r\n{"setup_complete": false}' + b" " * 300_000, False),
        (b'HTTP/1.1 404 Not Found\r\n\r\n{"setup_complete": false}', False),
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"", False),
        (None, False),
    ],
    ids=["no", "yes", "number", "unknown", "nested", "long", "not found", "not HTTP", "nothing", "silence"],
)
async def test_only_a_plain_no_says_that_a_set_up_lacks(answer: bytes | None, *, lacks: bool) -> None:
    """The app is not trusted: an answer of any other kind changes nothing, and none is waited for long."""
    async with answering(answer) as port:
        deadline_s = 0.3 if answer is None else PATIENT_S
        assert await lacks_set_up(f"http://127.0.0.1:{port}/api/auth/status", deadline_s) is lacks
    assert not await lacks_set_up(f"http://127.0.0.1:{port}/api/auth/status")


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """Return a server's context with a self-signed certificate."""
    files = (str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem"))
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*words, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


async def test_what_is_wrong_with_tls_is_told(self_signed: ssl.SSLContext) -> None:
    """A self-signed certificate, as most have on a loopback, and a port without TLS: neither is "not HTTP"."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=self_signed)
    async with server:
        port = server.sockets[0].getsockname()[1]
        miss = await ask(HttpProbe(f"https://127.0.0.1:{port}/"), PATIENT_S)
        assert miss == "its certificate is not trusted: self-signed certificate"
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        miss = await ask(HttpProbe(f"https://127.0.0.1:{port}/"), PATIENT_S)
        assert (miss or "").startswith("no TLS connection: ")


async def test_trusted_certificates_are_read_once_in_a_thread(
    self_signed: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading them takes up to a tenth of a second; those that were refused by old ones are judged by new ones."""
    threads: list[int] = []
    create = ssl.create_default_context

    def read() -> ssl.SSLContext:
        threads.append(threading.get_ident())
        return create()

    monkeypatch.setattr(ssl, "create_default_context", read)
    monkeypatch.setattr(probes, "_TRUST", probes._Trust())
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=self_signed)
    async with server:
        probe = HttpProbe(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        for _ in range(3):
            assert "not trusted" in (await ask(probe, PATIENT_S) or "")
        assert len(threads) == 1
        monkeypatch.setattr(probes, "_TRUSTED_S", 0.0)
        for _ in range(2):
            assert "not trusted" in (await ask(probe, PATIENT_S) or "")
        assert len(threads) == 2
        assert threading.get_ident() not in threads


async def test_certificates_on_a_disk_that_hangs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe fails for that reason, and the loop goes on."""
    go_on = threading.Event()
    monkeypatch.setattr(ssl, "create_default_context", lambda: go_on.wait(10))
    monkeypatch.setattr(probes, "_TRUST", probes._Trust())
    monkeypatch.setattr(loop_latency, "READ_S", 0.1)
    try:
        miss = await ask(HttpProbe("https://127.0.0.1:9/"), PATIENT_S)
        assert miss == "the trusted certificates cannot be read: their disk does not answer"
    finally:
        go_on.set()


LISTENS = """
import socket, sys
def listen(host):
    is_ipv6 = ":" in host
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    return socket.create_server((host, 0), family=family, dualstack_ipv6=is_ipv6)
listeners = [listen(host) for host in sys.argv[1:]]
print(*(each.getsockname()[1] for each in listeners), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def an_app(*hosts: str) -> Iterator[tuple[int, list[int]]]:
    """Start a process that listens on a port of each address; return its pid and the ports."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS, *hosts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.pid, [int(port) for port in process.stdout.readline().split()]
        assert process.stdin is not None
        process.stdin.close()


async def tell(pid: int, probe: HttpProbe | TcpProbe) -> tuple[str, list[dict[str, Any]]]:
    """Return why a silent process is not ready after twenty misses, and what was logged about it."""
    view = ProcessView("app", State.RUNNING, pid=pid)
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=10, names=[])
    engine = Engine([], SnapshotStore(Snapshot(processes=(view,))), log, Reaper(), ())
    spec = ProcessSpec("app", ("app",), {}, probe=probe)
    silence = probes._Silence(engine, spec, TimedReader(lambda: probes._where(spec, engine.store.snapshot.managed)))
    for _ in range(20):
        why = await silence.explain("connection refused")
    return why, [dict(record.fields) for record in log._waiting_records if record.event == "no answer yet"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_where_a_silent_process_listens_instead_is_told_once(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """It may be another port, or another address; everybody who sees only "unhealthy" asks for it."""
    monkeypatch.setattr(probes, "UNANSWERED_S", 0.0)
    with an_app(host) as (pid, (port,)):
        for probe in (TcpProbe("127.0.0.2", 9), HttpProbe("http://127.0.0.2:9/health")):
            why, told = await tell(pid, probe)
            expected = f"connection refused; it listens on {host}:{port}, and is probed on 127.0.0.2:9"
            assert why == expected
            assert [each["why"] for each in told] == [expected]
        # If it listens there, nothing is added, whatever else is wrong.
        why, told = await tell(pid, TcpProbe(host, port))
        assert (why, len(told)) == ("connection refused", 1)
    with an_app() as (pid, _):
        why, _ = await tell(pid, TcpProbe("127.0.0.2", 9))
        assert why == "connection refused; it listens on no port"


@pytest.mark.parametrize(
    ("host", "probed"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("::1", "LOCALHOST"),
        ("::1", "[0:0:0:0:0:0:0:1]"),
    ],
)
async def test_one_address_in_two_spellings_is_where_it_is_probed(
    monkeypatch: pytest.MonkeyPatch, host: str, probed: str
) -> None:
    """The kernel and the settings need not write it alike, and a name stands for addresses."""
    monkeypatch.setattr(probes, "UNANSWERED_S", 0.0)
    with an_app(host) as (pid, (port,)):
        why, _ = await tell(pid, HttpProbe(f"http://{probed}:{port}/health"))
        assert why == "connection refused"
        why, _ = await tell(pid, HttpProbe("http://localhost:9/health"))
        assert why.endswith(f"it listens on {host_port(host, port)}, and is probed on localhost:9")


async def test_one_that_starts_slowly_is_given_time() -> None:
    """Half a minute without an answer is not logged."""
    with an_app() as (pid, _):
        assert await tell(pid, TcpProbe("127.0.0.2", 9)) == ("connection refused", [])


async def test_where_the_kernel_lists_no_ports_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message does not claim that it listens on none."""
    monkeypatch.setattr(probes, "UNANSWERED_S", 0.0)
    monkeypatch.setattr(listeners, "listening", tuple)
    with an_app() as (pid, _):
        why, told = await tell(pid, TcpProbe("127.0.0.2", 9))
        assert (why, [each["why"] for each in told]) == ("connection refused", ["connection refused"])


async def test_a_search_that_hangs_ends_no_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may hang with a file of /proc; the process was never probed again, so that it was never found hung."""
    monkeypatch.setattr(probes, "UNANSWERED_S", 0.0)
    monkeypatch.setattr(loop_latency, "READ_S", 0.05)
    go_on, calls = threading.Event(), 0

    def hang(*_: object) -> str:
        nonlocal calls
        calls += 1
        go_on.wait(10)
        return ""

    monkeypatch.setattr(probes, "_where", hang)
    try:
        why, told = await tell(1, TcpProbe("127.0.0.2", 9))
        assert (why, [each["why"] for each in told]) == ("connection refused", ["connection refused"])
        # Its thread may begin after the probe has given it up.
        await until(lambda: calls)
        assert calls == 1
    finally:
        go_on.set()
