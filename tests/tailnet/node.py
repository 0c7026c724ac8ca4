"""A whole run with the real tailscaled, configured for the test control server."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from typing import TYPE_CHECKING, Any

from tests.process.running import Run, running
from tests.support.control import IN_TESTS, tailscaled
from tests.support.localapi import LocalApi
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.control import Control

APP = ("sh", "-c", "echo ready; exec sleep 300")


class Node:
    """One run, its health, and direct access to its tailscaled."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.socket = run.env.get("TS_SOCKET", str(run.run_dir / "tailscale/tailscaled.sock"))
        self.api = LocalApi(self.socket)

    def health(self) -> dict[str, Any]:
        """Return the content of /health."""
        host, port = (self.run.run_dir / "http").read_text().split()
        connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, int(port), timeout=30)
        try:
            connection.request("GET", "/health")
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def call(self, method: str, path: str, body: object = None, **more: str) -> tuple[int, Any]:
        """Call the API over the control socket; return the status and the JSON."""
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(str(self.run.run_dir / "control.sock"))
            headers = more | ({"Content-Type": "application/json"} if method == "POST" else {})
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def connect(self, key: str | None = None) -> str:
        """Order a connect; return the order's id."""
        return self._order("connect", {"auth_key": key} if key else {})

    def disconnect(self, *, forget: bool = False) -> str:
        """Order a disconnect; return the order's id."""
        return self._order("disconnect", {"forget": forget})

    def _order(self, verb: str, body: object) -> str:
        status, told = self.call("POST", f"/api/tailscale/{verb}", body)
        assert status == 202
        return str(told["order"])

    def answer(self, order: str) -> Any:
        """Return the state of an order."""
        return next(each for each in self.view()["orders"] if each["id"] == order)

    def view(self) -> Any:
        """Return the API's view of the tailnet."""
        return self.call("GET", "/api/tailscale/status")[1]

    def state(self) -> str:
        """Return the tailnet's state in health."""
        return str(self.health()["checks"]["tailnet"][0]["observedValue"])

    def wait_state(self, state: str, deadline_s: float = 45.0) -> None:
        """Wait until health reports this state."""
        try:
            wait_until(lambda: self.state() == state, deadline_s, f"the tailnet to be {state}")
        except AssertionError as error:
            last = "\n".join(json.dumps(record) for record in self.run.records[-60:])
            raise AssertionError(f"{error}\n{json.dumps(self.view())}\n{last}") from None

    def node_key(self) -> str:
        """Return the node key, which differs from login to login."""
        return self.api.node_key()

    def login_url(self) -> str:
        """Return the pending login URL. Raises KeyError if there is none."""
        return str(self.call("GET", "/api/tailscale/auth-url")[1]["auth_url"])

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send a request to tailscaled itself."""
        return self.api.ask(method, path, body)


def environment(**more: str) -> dict[str, str]:
    """Return settings that keep a real tailscaled on loopback."""
    return {
        "PATH": f"{os.path.dirname(tailscaled())}:{os.environ['PATH']}",
        "SUPERVISOR_TAILSCALE": "embedded",
        "TS_TAILSCALED_EXTRA_ARGS": "--no-logs-no-support",
        **IN_TESTS,
        **more,
    }


def at(control: Control, *flags: str) -> dict[str, str]:
    """Return the settings for a control server."""
    return {"TS_EXTRA_ARGS": " ".join([f"--login-server={control.url}", *flags])}


@contextlib.contextmanager
def node(tmp_path: Path, *command: str, **env: str) -> Iterator[Node]:
    """Run it for the duration of a block; its state is in ``tmp_path``."""
    settings = environment(**{"TS_STATE_DIR": str(tmp_path / "state"), **env})
    with running(*(command or APP), env=settings) as run:
        run.wait_for("started", child="tailscaled")
        yield Node(run)


def log_in_with(key: str, one: Node) -> None:
    """Log a new device in with a key that is not in the settings."""
    one.wait_state("needs login")
    one.connect(key)
    one.wait_state("connected")


def log_in_by_url(control: Control, one: Node) -> None:
    """Wait for a login URL, and visit it."""
    wait_until(lambda: one.view()["auth_url_pending"], what="the login URL")
    control.order("complete-auth", url=one.login_url())
    one.wait_state("connected")
