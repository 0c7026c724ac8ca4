"""Orders and questions to a supervisor, over its control socket or its port."""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "canary-of-chaos-for-the-token"
APP = "moltis"
WRITERS = (APP, "side", "maker")
NAMES = (*WRITERS, "looper")


class Orders:
    """The orders for one process: how many are unanswered, and how many there were."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open = self.count = 0


class Client:
    """What a supervisor with this run folder is asked and told."""

    # The host it listens on, and whether orders go there instead of to the control socket.
    host = "127.0.0.1"
    over_port = False

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        # The last order of each process, if it is certain.
        self.ordered: dict[str, str] = {}
        # Those that were ordered to stop, carried out or not; the others have to come back by themselves.
        self.stopped: set[str] = set()
        self._orders = {name: Orders() for name in NAMES}

    def api(
        self, method: str, path: str, body: str | None = None, timeout_s: float = 10.0, *, bearer: str = ""
    ) -> tuple[int, Any]:
        """Call the API over the control socket, or over the port from another pid namespace. Raises OSError.

        ``bearer``: over the port in any case, with this token or session.
        """
        headers = {"Authorization": f"Bearer {bearer or TOKEN}"} if self.over_port or bearer else {}
        if method == "POST":
            headers["Content-Type"] = "application/json"
        status, text = self._call(method, path, body, timeout_s, headers)
        try:
            return status, json.loads(text)
        except ValueError as error:
            raise ConnectionError(f"the answer {status} {text!r}") from error

    def text(self, path: str) -> str:
        """Return an answer to who is signed in. Raises OSError."""
        headers = {"Authorization": f"Bearer {TOKEN}"} if self.over_port else {}
        return self._call("GET", path, None, 10.0, headers)[1]

    def _call(
        self, method: str, path: str, body: str | None, timeout_s: float, headers: dict[str, str]
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        with contextlib.closing(connection):
            if not headers.get("Authorization"):
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(timeout_s)
                connection.sock.connect(str(self.run_dir / "control.sock"))
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except http.client.HTTPException as error:
                raise ConnectionError(str(error)) from error

    def health(self, path: str) -> tuple[int, Any]:
        """Return the answer of a health endpoint to an anonymous client. Raises OSError."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            except http.client.HTTPException as error:
                raise ConnectionError(str(error)) from error

    def sign_in(self) -> str:
        """Return a session, as the panel has one. Raises OSError."""
        status, answer = self.api("POST", "/api/session", json.dumps({"token": TOKEN}), bearer=TOKEN)
        if status != http.HTTPStatus.OK:
            raise ConnectionError(f"the answer {status} {answer}")
        return str(answer["session"])

    def order(self, name: str, verb: str, *, bearer: str = "") -> None:
        """Order a process to start, stop or restart; remember the order if it was accepted and no other was concurrent.

        ``bearer`` as in `api`. Raises OSError.
        """
        orders = self._orders[name]
        with orders.lock:
            alone = not orders.open
            orders.open += 1
            orders.count += 1
            mine = orders.count
        self.ordered.pop(name, None)
        if verb == "stop":
            self.stopped.add(name)
        try:
            status, _ = self.api("POST", f"/api/processes/{name}/{verb}", bearer=bearer)
        finally:
            with orders.lock:
                orders.open -= 1
        if status == http.HTTPStatus.ACCEPTED and alone and mine == orders.count:
            self.ordered[name] = verb

    def ask(self, path: str) -> Any:
        """Return the API's answer. Raises OSError."""
        status, answer = self.api("GET", path)
        if status != http.HTTPStatus.OK:
            raise ConnectionError(f"the answer {status} {answer}")
        return answer

    def processes(self) -> dict[str, Any]:
        """Return the processes by name, as the API reports them."""
        return {each["name"]: each for each in self.ask("/api/processes")["processes"]}

    @property
    def port(self) -> int:
        """The port it listens on. Raises OSError if that is unknown."""
        return int((self.run_dir / "http").read_text().split()[1])
