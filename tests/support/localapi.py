"""Direct access to a tailscaled: its LocalAPI, its notification bus, and connections through the tailnet."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "local-tailscaled.sock"
STATES = ("NoState", "InUseOtherUser", "NeedsLogin", "NeedsMachineAuth", "Stopped", "Starting", "Running")
STATE_PREFS_HEALTH = 2 | 4 | 128


class Fetched(NamedTuple):
    """A response received through the tailnet."""

    status: int
    headers: dict[str, str]
    body: bytes


class LocalApi:
    """The LocalAPI behind one socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(self, method: str, path: str, body: object = None, timeout_s: float = 10.0) -> Any:
        """Send a request to tailscaled, and return its JSON; fail on a refusal."""
        with contextlib.closing(self._connection(timeout_s)) as connection:
            connection.request(method, f"/localapi/v0/{path}", None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 300, text
            return json.loads(text) if text else None

    def status(self) -> Any:
        """Return the status without peers."""
        return self.ask("GET", "status?peers=false")

    def state(self) -> str:
        """Return tailscaled's own state."""
        return str(self.status()["BackendState"])

    def node_key(self) -> str:
        """Return the public node key. After a start tailscaled reports zeros for a moment, even if it is online."""

        def known() -> str:
            key = str(self.status()["Self"]["PublicKey"])
            return "" if set(key.rpartition(":")[2]) == {"0"} else key

        return wait_until(known, what="the node key")

    def wait_state(self, *states: str, deadline_s: float = 45.0) -> None:
        """Wait until tailscaled is in one of these states."""
        wait_until(lambda: self.state() in states, deadline_s, f"tailscaled to be {' or '.join(states)}")

    def log_in(self, url: str, key: str = "", **prefs: object) -> None:
        """Log in as the CLI's `up` does; without a key a login URL may have to be visited."""
        all_prefs = self.ask("GET", "prefs")
        all_prefs.pop("Config", None)
        all_prefs |= {"ControlURL": url, "WantRunning": True, "Hostname": "moltis", **prefs}
        had_node_key = self.status().get("HaveNodeKey")
        self.ask("POST", "start", {"AuthKey": key, "UpdatePrefs": all_prefs})
        # With a node key `start` logs in by itself; of two logins control may keep the one that tailscaled has dropped.
        if not had_node_key:
            self.ask("POST", "login-interactive")

    def start(self) -> None:
        """Restart tailscaled's control client, as the first recovery step does."""
        self.ask("POST", "start", {})

    def set_prefs(self, **prefs: object) -> None:
        """Change some preferences."""
        self.ask("PATCH", "prefs", prefs | {f"{name}Set": True for name in prefs})

    def dial(self, host: str, port: int, timeout_s: float = 5.0) -> socket.socket:
        """Return a connection through the tailnet. Raises ConnectionRefusedError with the reason."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout_s)
        try:
            sock.connect(self.path)
            refusal = _dial(sock, host, port)
        except BaseException:
            sock.close()
            raise
        if refusal:
            sock.close()
            raise ConnectionRefusedError(f"cannot reach {host}:{port}: {refusal}")
        return sock

    @contextlib.contextmanager
    def watch(self, mask: int = STATE_PREFS_HEALTH) -> Iterator[Bus]:
        """Record the notification bus for the duration of a block."""
        connection = self._connection(None)
        connection.request("GET", f"/localapi/v0/watch-ipn-bus?mask={mask}")
        answer = connection.getresponse()
        bus = Bus()
        reader = threading.Thread(target=bus.read, args=(answer,))
        reader.start()
        try:
            yield bus
        finally:
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)
            reader.join()
            answer.close()
            connection.close()

    def _connection(self, timeout_s: float | None) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(HOST, timeout=timeout_s)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(timeout_s)
            connection.sock.connect(self.path)
        except BaseException:
            connection.close()
            raise
        return connection


def _dial(sock: socket.socket, host: str, port: int) -> str:
    """Turn a connection to tailscaled into one through the tailnet; return why that is refused."""
    sock.sendall(
        f"POST /localapi/v0/dial HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: ts-dial\r\n"
        f"Dial-Network: tcp\r\nDial-Host: {host}\r\nDial-Port: {port}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    head = b""
    # Byte by byte: everything after the head comes from the other node.
    while not head.endswith(b"\r\n\r\n"):
        more = sock.recv(1)
        if not more:
            return "tailscaled went away"
        head += more
    if head.startswith(b"HTTP/1.1 101"):
        return ""
    return "it is not in the tailnet" if b"Dial-Self" in head else sock.recv(4096).decode().strip()


class Bus:
    """The recorded content of the notification bus."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []

    def read(self, answer: http.client.HTTPResponse) -> None:
        """Record every frame until the bus ends."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            while line := answer.readline():
                self.frames.append(json.loads(line))

    def all(self, name: str) -> list[Any]:
        """Return all values of this key so far."""
        return [frame[name] for frame in list(self.frames) if frame.get(name) is not None]

    def errors(self) -> list[str]:
        """Return the error messages."""
        return self.all("ErrMessage")

    def states(self) -> list[str]:
        """Return the states by name."""
        return [STATES[number] for number in self.all("State")]

    def wait(self, name: str, good: Callable[[Any], bool] = bool, deadline_s: float = 20.0) -> Any:
        """Wait for a value of this key that satisfies ``good``, and return the first one."""
        return wait_until(lambda: [value for value in self.all(name) if good(value)], deadline_s, f"{name} on the bus")[
            0
        ]
