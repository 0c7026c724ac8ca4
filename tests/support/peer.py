"""A bare node: a real tailscaled without a supervisor, as a peer in the tailnet."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.control import IN_TESTS, Control, tailscaled
from tests.support.localapi import Fetched, LocalApi
from tests.support.processes import kill
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Peer(LocalApi):
    """A running tailscaled with its LocalAPI; ``log`` is its output."""

    def __init__(self, folder: Path, *flags: str, **env: str) -> None:
        super().__init__(str(folder / "tailscaled.sock"))
        self.folder = folder
        self.log = folder / "log"
        self._start = partial(self._started, *flags, **env)
        self._start()

    def _started(self, *flags: str, **env: str) -> None:
        # The other end of this pipe closes when this process ends, and tailscaled then ends too.
        theirs, self._ours = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    tailscaled(),
                    *("--tun=userspace-networking", "--no-logs-no-support", "--port=0"),
                    *(f"--statedir={self.folder / 'state'}", f"--socket={self.path}", *flags),
                ],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.folder),
                    "TS_LOGS_DIR": str(self.folder),
                    "TS_PARENT_DEATH_FD": str(theirs),
                    **IN_TESTS,
                    **env,
                },
                pass_fds=[theirs],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(theirs)

    def stop(self) -> None:
        """Kill it; its state stays."""
        if self.process.returncode is None:
            kill(self.process.pid)
            self.process.wait()
            os.close(self._ours)

    def log_out(self) -> None:
        """Log out, and restart it: it may take a message that arrives late for a login of its own."""
        self.ask("POST", "logout")
        self.stop()
        self._start()
        self.wait_state("NeedsLogin")

    @property
    def key(self) -> str:
        """The public node key: the name of this device in orders to the control server."""
        return self.node_key()

    @property
    def ip(self) -> str:
        """The IPv4 address in the tailnet."""
        return str(self.status()["TailscaleIPs"][0])

    def peers(self) -> dict[str, Any]:
        """Return the peers' statuses by name, without the domain."""
        everybody = self.ask("GET", "status")["Peer"] or {}
        return {peer["DNSName"].split(".")[0]: peer for peer in everybody.values()}

    def wait_path(self, ip: str, deadline_s: float = 30.0) -> None:
        """Wait until this node has a path to the other, which Running alone does not mean."""

        def found() -> bool:
            return not self.ask("POST", f"ping?ip={ip}&type=disco", timeout_s=3)["Err"]

        wait_until(found, deadline_s, f"a path to {ip}")

    def connects(self, ip: str, port: int, timeout_s: float = 3.0) -> bool:
        """Return whether the other node accepts a connection to a port. Wait for a path first."""
        try:
            self.dial(ip, port, timeout_s).close()
        except OSError:
            return False
        return True

    def fetch(
        self,
        host: str,
        port: int,
        path: str = "/",
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        host_header: str = "",
        body: bytes | None = None,
        timeout_s: float = 10.0,
    ) -> Fetched:
        """Fetch a page through the tailnet; headers are sent unchanged, including forged ones."""
        named = {"Host": host_header} if host_header else {}
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.sock = self.dial(host, port, timeout_s)
            connection.request(method, path, body, named | (headers or {}))
            answer = connection.getresponse()
            return Fetched(answer.status, dict(answer.getheaders()), answer.read())


@contextlib.contextmanager
def bare(*flags: str, folder: Path | None = None, **env: str) -> Iterator[Peer]:
    """Run a tailscaled without a login; with a folder its state outlives the block."""
    with tempfile.TemporaryDirectory(prefix="peer-") as temporary:
        node = Peer(folder or Path(temporary), *flags, **env)
        try:
            wait_until(node.state, what="tailscaled's LocalAPI")
            yield node
        finally:
            node.stop()


@contextlib.contextmanager
def peer(control: Control, name: str = "peer", key: str = "", **prefs: object) -> Iterator[Peer]:
    """Run a logged-in node for the duration of a block."""
    with bare() as node:
        node.log_in(control.url, key, Hostname=name, **prefs)
        node.wait_state("Running")
        yield node
