"""Serve with a real tailscaled that is in a tailnet, and an app to publish."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.tailnet.localapi import LocalApi
from supervisor.tailnet.serve.publisher import Serve
from tests.config.machine import plan
from tests.support.control import controlling
from tests.support.peer import bare, peer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from supervisor.core.snapshot import ServeView
    from supervisor.tailnet.localapi import ServeConfig
    from supervisor.tailnet.wire import Json
    from tests.support.control import Control
    from tests.support.peer import Peer

NAME = "moltis.tail.example"
# No certificate authority is contacted: nobody listens on this loopback port.
NO_ACME = {"TS_DEBUG_ACME_DIRECTORY_URL": "http://127.0.0.1:1/directory"}
DEADLINE_S = 15.0
# Self-signed, for moltis.tail.example; made only for these tests.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBejCCAR+gAwIBAgIQBp+AqAofWtJ8iUG1oC4vCTAKBggqhkjOPQQDAjASMRAw
DgYDVQQKEwdBY21lIENvMCAXDTIwMDEwMTAwMDAwMFoYDzIxMTkxMjA4MDAwMDAw
WjASMRAwDgYDVQQKEwdBY21lIENvMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
dqebMQ72RkNr2YCImGTk0GqZFP8iOzaAtPHKIJFrxEFJOhQmhKwCXbP0rTEFpKk0
sazUZZbsGfN5XFKMwIOyD6NVMFMwDgYDVR0PAQH/BAQDAgeAMBMGA1UdJQQMMAoG
CCsGAQUFBwMBMAwGA1UdEwEB/wQCMAAwHgYDVR0RBBcwFYITbW9sdGlzLnRhaWwu
ZXhhbXBsZTAKBggqhkjOPQQDAgNJADBGAiEArf0PaWcK0Lbgj+zta+TX6HRaSMtL
YR7gsh+94I8kCCYCIQCKs8mVB5M1/5hNn/B32yQNea6GLwb9dla0L+iinRc5OQ==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgiVoPo5F/+Tk9SfVN
hJz3+3cEHqVyfSz63W5MT0kBJIahRANCAAR2p5sxDvZGQ2vZgIiYZOTQapkU/yI7
NoC08cogkWvEQUk6FCaErAJds/StMQWkqTSxrNRlluwZ83lcUozAg7IP
-----END PRIVATE KEY-----
"""


class Counted(LocalApi):
    """A LocalAPI client that counts its calls, and calls ``before_write`` before each write."""

    def __init__(self, socket_path: str) -> None:
        super().__init__(socket_path, str)
        self.looks = 0
        self.writes = 0
        self.changes = 0
        self.before_write: Callable[[], object] = lambda: None

    async def serve_config(self) -> ServeConfig:
        """Count, and read."""
        self.looks += 1
        return await super().serve_config()

    async def change_prefs(self, changes: Mapping[str, Any]) -> None:
        """Count, and change."""
        self.changes += 1
        await super().change_prefs(changes)

    async def put_serve_config(self, config: Json, etag: str) -> None:
        """Count, and write."""
        self.writes += 1
        self.before_write()
        await super().put_serve_config(config, etag)


class Stage(NamedTuple):
    """A node in its tailnet, and the port of the app next to it."""

    control: Control
    node: Peer
    port: int

    def serve(self, *, lasting: bool | None = False, look_every_s: float = 0.0, **more: Any) -> Serve:
        """Return the publisher of a supervisor with these settings; with None it decides itself what is lasting."""
        log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=[])
        certificates = more.pop("certificates", None)
        found = plan({**self.settings(), **more})
        decided = None if lasting is None else lambda: lasting
        return Serve(found, log, lasting=decided, certificates=certificates, look_every_s=look_every_s)

    def settings(self) -> dict[str, str]:
        """Return the settings of a supervisor for this node and this app."""
        return {
            "TS_SOCKET": self.node.path,
            "TS_STATE_DIR": str(self.node.folder / "state"),
            "SUPERVISOR_APP_PORT": str(self.port),
        }

    @property
    def app(self) -> str:
        """Return the URL of the app."""
        return f"http://127.0.0.2:{self.port}"

    def config(self) -> Json:
        """Return tailscaled's serve configuration."""
        return self.node.ask("GET", "serve-config") or {}

    def put(self, config: Json) -> None:
        """Set tailscaled's serve configuration, as someone else would."""
        self.node.ask("POST", "serve-config", config)

    def http(self, name: str = NAME) -> Json:
        """Return our entries for HTTP."""
        return {"TCP": {"80": {"HTTP": True}}, "Web": {f"{name}:80": {"Handlers": {"/": {"Proxy": self.app}}}}}

    def https(self) -> Json:
        """Return our entries for HTTPS."""
        return {"TCP": {"443": {"HTTPS": True}}, "Web": {f"{NAME}:443": {"Handlers": {"/": {"Proxy": self.app}}}}}

    def both(self) -> Json:
        """Return our entries for both."""
        return {name: {**self.http()[name], **self.https()[name]} for name in ("TCP", "Web")}

    def issue_certificates(self) -> None:
        """Let the tailnet issue certificates, and wait until this node knows."""
        self.control.order("certs", on=1)
        wait_until(lambda: self.node.status()["CertDomains"], what="the names that certificates are issued for")

    def give_certificate(self) -> None:
        """Put a certificate where tailscaled finds it."""
        folder = self.node.folder / "state/certs"
        folder.mkdir(exist_ok=True)
        (folder / f"{NAME}.key").write_text(KEY)
        (folder / f"{NAME}.crt").write_text(CERTIFICATE)


@contextlib.contextmanager
def stage(**env: str) -> Iterator[Stage]:
    """Provide the stage for the duration of a block."""
    with controlling() as control, bare(folder=None, **NO_ACME, **env) as node, app() as port:
        node.log_in(control.url)
        node.wait_state("Running")
        yield Stage(control, node, port)


async def look(serve: Serve, node: Peer) -> ServeView:
    """Reconcile once, as the link does."""
    api = LocalApi(node.path, str)
    return await serve.reconcile(api, await api.status())


async def look_until(serve: Serve, node: Peer, condition: Callable[[ServeView], object]) -> ServeView:
    """Reconcile until the condition holds."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition(view := await look(serve, node)):
        assert time.monotonic() < end_s, f"waited in vain; it says {view}"
        await asyncio.sleep(0.01)
    return view


def said(serve: Serve) -> list[str]:
    """Return its log messages."""
    return [f"{record.event} {dict(record.fields)}" for record in serve._log._waiting_records]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be another user for the duration of a block: tailscaled asks the kernel who has opened a connection."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def app(name: bytes = b"app") -> Iterator[int]:
    """Run an app on 127.0.0.2 that answers with its name; return its port."""
    handler = type("Handler", (_App,), {"name": name})
    with http.server.ThreadingHTTPServer(("127.0.0.2", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


class _App(http.server.BaseHTTPRequestHandler):
    name = b""

    def do_GET(self) -> None:
        """Answer any path."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.name)))
        self.end_headers()
        self.wfile.write(self.name)

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def visitor(stage: Stage) -> Iterator[Peer]:
    """Run another node of the tailnet, with a path to this one."""
    with peer(stage.control, "visitor") as node:
        node.wait_path(stage.node.ip)
        yield node


def fetch_securely(node: Peer, name: str) -> bytes:
    """Fetch the first page by HTTPS through the tailnet, without verifying the certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPConnection(name, timeout=10)
    with contextlib.closing(connection):
        connection.sock = context.wrap_socket(node.dial(name, 443), server_hostname=name)
        connection.request("GET", "/")
        return connection.getresponse().read()
