"""A client of a running supervisor's control socket: requests, responses and the event stream."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from supervisor import __version__
from supervisor.characters import printable
from supervisor.config.plan import LONGEST_SOCKET_PATH
from supervisor.errors import SupervisorError, connection_error, remedy_for_resources
from supervisor.system.dirs import CONTROL_SOCKET
from supervisor.system.peercred import why_not_trusted

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Iterator, Mapping

EX_REFUSED = 1
EX_UNAVAILABLE = 69
EX_PROTOCOL = 76
EX_NOPERM = 77
ANSWER_S = 10.0
EVENTS = "text/event-stream"
_OK = 300


class NoSupervisorError(SupervisorError):
    """No supervisor answers at the control socket."""

    exit_code = EX_UNAVAILABLE


class NotPermittedError(SupervisorError):
    """There may be a supervisor, but this user may not use its control socket."""

    exit_code = EX_NOPERM

    def __init__(self, text: str, body: Mapping[str, Any] | None = None) -> None:
        self.body = body
        super().__init__(text)


class SkewError(SupervisorError):
    """The response is not one that this version understands."""

    exit_code = EX_PROTOCOL

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"cannot understand the supervisor's answer to {what}: {why}; "
            f"this is version {__version__}: use the one that the supervisor itself was started from"
        )


class RequestRefusedError(SupervisorError):
    """The supervisor refused the request; ``code`` and ``body`` are from its response."""

    exit_code = EX_REFUSED
    body: Mapping[str, Any]

    def __init__(self, status: int, code: str, text: str, body: Mapping[str, Any]) -> None:
        self.status = status
        self.code = code
        self.body = body
        super().__init__(text)


class Control:
    """The control socket in a run folder. Each request has its own connection, since there are few."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._path = os.path.join(folder, CONTROL_SOCKET)

    def get(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        also: Collection[int] = (),
        answer_s: float | None = None,
    ) -> dict[str, Any]:
        """Return the response to a GET; ``also`` are further statuses that are not errors."""
        target = f"{path}?{urlencode(query, errors='surrogateescape')}" if query else path
        return self._ask("GET", target, None, also, answer_s)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Return the response to a POST."""
        return self._ask("POST", path, json.dumps(body or {}).encode(), ())

    def stream(self, path: str, headers: Mapping[str, str], silence_s: float) -> Generator[bytes]:
        """Yield the lines of an event stream until it ends. Raises if it is silent for longer than ``silence_s``."""
        connection = _Connection(self._path, silence_s)
        what = f"GET {path.partition('?')[0]}"
        try:
            with self._errors_for_people(what, silence_s):
                answer = self._send(connection, "GET", path, None, headers)
                refused = answer.read() if answer.status >= _OK else b""
            if answer.status >= _OK:
                raise _refusal(what, answer.status, refused)
            if answer.headers.get_content_type() != EVENTS:
                raise SkewError(what, "it is not an event stream")
            while True:
                with self._errors_for_people(what, silence_s):
                    line = answer.readline()
                if not line:
                    return
                yield line
        finally:
            connection.close()

    def _ask(
        self, method: str, path: str, body: bytes | None, also: Collection[int], answer_s: float | None = None
    ) -> dict[str, Any]:
        answer_s = answer_s or ANSWER_S
        connection = _Connection(self._path, answer_s)
        what = f"{method} {path}"
        try:
            with self._errors_for_people(what, answer_s):
                answer = self._send(connection, method, path, body, {})
                data = answer.read()
        finally:
            connection.close()
        if answer.status >= _OK and answer.status not in also:
            raise _refusal(what, answer.status, data)
        return _decoded(what, data)

    @staticmethod
    def _send(
        connection: _Connection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        kind = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body, {**kind, **headers})
        return connection.getresponse()

    @contextmanager
    def _errors_for_people(self, what: str, answer_s: float) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NoSupervisorError(
                f"cannot reach a supervisor: none runs at {self.folder}; start one with `run`, or give this command "
                "the user and the SUPERVISOR_RUN_DIR (or SUPERVISOR_CONFIG) of the one you mean"
            ) from error
        except PermissionError as error:
            raise NotPermittedError(
                f"cannot reach the supervisor at {self.folder}: {error.strerror}; run this as {_owner(self.folder)}"
            ) from error
        except TimeoutError as error:
            raise NoSupervisorError(
                f"cannot reach the supervisor at {self.folder}: it gave no answer to {what} within {answer_s:g} s; "
                "its log says more"
            ) from error
        except (OSError, http.client.IncompleteRead) as error:
            raise self._no_answer(error) from error
        except http.client.HTTPException as error:
            raise SkewError(what, f"invalid HTTP ({error!r})") from error

    def _no_answer(self, error: OSError | http.client.IncompleteRead) -> NoSupervisorError:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            return NoSupervisorError(
                f"cannot reach a supervisor at {self.folder}: symbolic links in that path form a loop; fix them, "
                "or set SUPERVISOR_RUN_DIR to the run folder itself"
            )
        if isinstance(error, OSError) and (remedy := remedy_for_resources(error)):
            return NoSupervisorError(
                f"cannot ask the supervisor at {self.folder}: {connection_error(error)}; for this command, {remedy}"
            )
        return NoSupervisorError(
            f"cannot reach the supervisor at {self.folder}: it closed the connection ({error}); "
            "it may be about to end: try again"
        )


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Connects to the socket instead of a port."""
        if len(os.fsencode(self._path)) > LONGEST_SOCKET_PATH:
            raise NoSupervisorError(
                f"cannot reach a supervisor at {self._path}: a socket's path has at most {LONGEST_SOCKET_PATH} bytes, "
                "so none can run there; give this command the SUPERVISOR_RUN_DIR of the one you mean"
            )
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(self._path)
        # The request may contain an auth key. Anyone can create a folder in /tmp, and an app of the supervisor's user
        # can create a socket in the run folder.
        why = why_not_trusted(self.sock)
        if why:
            raise NotPermittedError(
                f"cannot trust what answers at {self._path}: {why}; run this as the user of the supervisor you mean, "
                "or set SUPERVISOR_RUN_DIR to its folder"
            )


def _decoded(what: str, data: bytes | str, part: str = "it") -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SkewError(what, f"{part} is not JSON") from error
    if not isinstance(answer, dict):
        raise SkewError(what, f"{part} is not a JSON object")
    return answer


def _refusal(what: str, status: int, data: bytes) -> SupervisorError:
    body: dict[str, Any] = {}
    with suppress(SkewError):
        body = _decoded(what, data)
    text, code = body.get("error"), body.get("code")
    if not isinstance(text, str) or not isinstance(code, str):
        return SkewError(what, f"it has status {status} and no text")
    if code == "NOT_FOUND":
        return SkewError(what, "it has nothing at that path")
    if code == "CONTROL_REFUSED":
        return NotPermittedError(text, body)
    return RequestRefusedError(status, code, text, body)


def _owner(folder: str) -> str:
    """Return who may use the folder, as far as this user can see."""
    try:
        return f"user {os.stat(folder).st_uid}, whose supervisor it is"
    except OSError:
        return "the user that the supervisor runs as"


class Response:
    """A JSON object; ``what`` is the request it answers. A field of an unexpected type raises SkewError."""

    __slots__ = ("fields", "what")

    def __init__(self, what: str, fields: Mapping[str, Any]) -> None:
        self.what = what
        self.fields = fields

    def text(self, name: str) -> str:
        """Return a text with control characters made visible."""
        value = self._field(name, str)
        return "" if value is None else printable(value)

    def number(self, name: str) -> float | None:
        """Return a number; None if it is missing."""
        value = self._field(name, int, float)
        return None if value is None or isinstance(value, bool) else value

    def flag(self, name: str) -> bool:
        """Return a boolean."""
        return bool(self._field(name, bool))

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        values = self._field(name, list) or []
        if not all(isinstance(value, str) for value in values):
            raise SkewError(self.what, f"{name} is not a list of texts")
        return [printable(value) for value in values]

    def objects(self, name: str) -> list[Response]:
        """Return a list of objects."""
        values = self._field(name, list) or []
        if not all(isinstance(value, dict) for value in values):
            raise SkewError(self.what, f"{name} is not a list of objects")
        return [Response(self.what, value) for value in values]

    def object(self, name: str) -> Response:
        """Return an object; empty if it is missing."""
        return Response(self.what, self._field(name, dict) or {})

    def _field(self, name: str, *kinds: type) -> Any:
        value = self.fields.get(name)
        if value is not None and not isinstance(value, kinds):
            raise SkewError(self.what, f"{name} is of an unknown kind")
        return value


class ServerSentEvent(NamedTuple):
    """An event with one JSON object as its data."""

    id: str
    kind: str
    data: dict[str, Any]


def events(what: str, lines: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the events in the lines of a stream, without an incomplete last one."""
    fields: dict[str, str] = {}
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields['data']}\n{value}" if name == "data" and "data" in fields else value
            continue
        if "data" in fields:
            data = _decoded(what, fields["data"], "an event")
            yield ServerSentEvent(fields.get("id", ""), fields.get("event", "message"), data)
        fields = {}
