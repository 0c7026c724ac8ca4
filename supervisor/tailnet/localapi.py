"""A client of tailscaled's LocalAPI over its unix socket: requests, and the notification bus.

Paths and data are those of tailscaled 1.102 (tailscale.com/ipn/localapi).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio
import msgspec

from supervisor.characters import is_clean
from supervisor.errors import connection_error
from supervisor.json_input import decode_json
from supervisor.logs.received import received, received_line, visible
from supervisor.runtime.loop_latency import import_alone, run_in_thread
from supervisor.tailnet import preferences
from supervisor.tailnet.http1 import BrokenError, Http1Response, exchange
from supervisor.tailnet.wire import DerpMap, Json, Notify, Ping, Status, Whois

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping


ROOT = "/localapi/v0/"
TIMEOUT_S = 5.0
# Initial content of the bus: state and login URL, preferences, health (ipn.NotifyWatchOpt).
WATCH_MASK = 2 | 4 | 128
MOST_FRAME_BYTES = 16 * 1024 * 1024
_HARMLESS_ESCAPES = (b"\\u003c", b"\\u003e", b"\\u0026")
_FORBIDDEN = (401, 403)
_CHANGED_MEANWHILE = 412

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class LocalApiError(Exception):
    """tailscaled refused or failed a request; the text has the reason."""


class UnreachableError(LocalApiError):
    """Nothing listens on the socket: tailscaled is down or starting."""


class SilentError(LocalApiError):
    """tailscaled accepted the request and did not respond in time."""


class ForbiddenError(LocalApiError):
    """The supervisor's user may not control this tailscaled."""


class ChangedMeanwhileError(LocalApiError):
    """The serve configuration was changed by another program since it was read."""


class ServeConfig(NamedTuple):
    """A serve configuration (ipn.ServeConfig), and the ETag for replacing it."""

    config: Json
    etag: str


class LocalApi:
    """A client of one tailscaled. ``mask`` removes secrets from received texts; what is invisible in them is escaped.

    Preferences and serve configurations are returned as they are, because they are written back.

    Methods raise UnreachableError, SilentError, ForbiddenError, or LocalApiError for other refusals and invalid
    responses.
    """

    def __init__(self, socket_path: str, mask: Callable[[str], str], timeout_s: float = TIMEOUT_S) -> None:
        self._socket_path = socket_path
        self._mask = mask
        self._timeout_s = timeout_s

    async def status(self, *, peers: bool = False, timeout_s: float | None = None) -> Status:
        """Return the status; its ``peers`` are None unless requested."""
        path = f"status?peers={'true' if peers else 'false'}"
        status = _told(await self._ask("GET", path, timeout_s=timeout_s), Status)
        if peers and status.peers is None:
            status.peers = {}
        status.health = tuple(received(text, self._mask) for text in status.health or ())
        return status

    async def prefs(self) -> Json:
        """Return the preferences (ipn.Prefs)."""
        return _decoded(await self._ask("GET", "prefs"), Json)

    async def change_prefs(self, changes: Mapping[str, Any]) -> None:
        """Set preferences; tailscaled does not validate them."""
        await self._ask("PATCH", "prefs", _encode(preferences.masked(changes)))

    async def start(self, options: Mapping[str, Any]) -> None:
        """Restart the control client (ipn.Options); with no options it is a soft restart."""
        await self._ask("POST", "start", _encode(options))

    async def login(self) -> None:
        """Start a login with the key of the last ``start``, else by URL; a pending URL is sent again."""
        await self._ask("POST", "login-interactive")

    async def logout(self, timeout_s: float | None = None, *, over_s: float = 0.0) -> None:
        """Log out; this needs the control server.

        A caller that gives up waits up to ``over_s`` until tailscaled has given up too: a logout that it carries out
        after a new login began would take that login's node key.
        """
        await self._exchange("POST", "logout", timeout_s=timeout_s, over_s=over_s)

    async def serve_config(self) -> ServeConfig:
        """Return the serve configuration; empty if there is none."""
        body, etag = await self._exchange("GET", "serve-config")
        return ServeConfig(_decoded(body, Json | None) or {}, etag)  # type: ignore[arg-type]

    async def put_serve_config(self, config: Json, etag: str) -> None:
        """Replace the serve configuration. Raises ChangedMeanwhileError if ``etag`` is outdated.

        Targets must not be paths or unix sockets: those require root.
        """
        await self._exchange("POST", "serve-config", _encode(config), etag)

    async def fetch_certificate(self, domain: str, timeout_s: float) -> bytes:
        """Return a certificate with its chain as PEM; tailscaled requests one if it has no valid one."""
        return await self._ask("GET", f"cert/{domain}?type=crt", timeout_s=timeout_s)

    async def derp_map(self) -> DerpMap | None:
        """Return the tailnet's DERP map; None before the first login."""
        return _told(await self._ask("GET", "derpmap"), DerpMap | None)  # type: ignore[arg-type]

    async def whois(self, address: str) -> Whois | None:
        """Return the tailnet device that a connection comes from, by host and port; None if it is not a device."""
        try:
            return _told(await self._ask("GET", f"whois?proto=tcp&addr={address}"), Whois)
        except (UnreachableError, SilentError):
            raise
        except LocalApiError:
            return None

    async def ping(self, address: str, timeout_s: float) -> Ping:
        """Ping a device over the path that packets to it take (a disco ping), and return the result."""
        return _told(await self._ask("POST", f"ping?ip={address}&type=disco", timeout_s=timeout_s), Ping)

    async def user_metrics(self, timeout_s: float) -> bytes:
        """Return tailscaled's own metrics in Prometheus' text format."""
        return await self._ask("GET", "usermetrics", timeout_s=timeout_s)

    async def watch(self) -> AsyncIterator[Notify]:
        """Yield the frames of the IPN bus until it ends."""
        path = f"watch-ipn-bus?mask={WATCH_MASK}"
        try:
            async with exchange(self._socket_path, "GET", ROOT + path) as answer:
                if not answer.good:
                    raise self._refused("GET", path, answer.status, await answer.body())
                async for line in _lines(answer):
                    # Not all of a frame, which may be long: these two are its texts.
                    frame = _decoded(line, Notify)
                    frame.error = received(frame.error or "", self._mask)
                    frame.browse_to_url = visible(frame.browse_to_url)
                    yield frame
        except (OSError, BrokenError) as error:
            raise self._unreachable(error) from error

    async def _ask(self, method: str, path: str, body: bytes = b"", timeout_s: float | None = None) -> bytes:
        return (await self._exchange(method, path, body, timeout_s=timeout_s))[0]

    async def _exchange(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        etag: str = "",
        timeout_s: float | None = None,
        over_s: float = 0.0,
    ) -> tuple[bytes, str]:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        headers = {"If-Match": etag} if etag else {}
        try:
            async with (
                asyncio.timeout(limit_s),
                exchange(self._socket_path, method, ROOT + path, body, headers, over_s) as answer,
            ):
                data = await answer.body()
        except TimeoutError as error:
            raise SilentError(f"tailscaled did not answer {method} {_bare(path)} within {limit_s:g} s") from error
        except (OSError, BrokenError) as error:
            raise self._unreachable(error) from error
        if not answer.good:
            raise self._refused(method, path, answer.status, data)
        return data, answer.headers.get("etag", "")

    def _unreachable(self, error: OSError | BrokenError) -> UnreachableError:
        if isinstance(error, BrokenError):
            return UnreachableError(f"the connection to tailscaled broke: {error}")
        return UnreachableError(f"cannot reach tailscaled at {self._socket_path}: {connection_error(error)}")

    def _refused(self, method: str, path: str, status: int, body: bytes) -> LocalApiError:
        said = received_line(body.decode(errors="replace"), self._mask)
        kind = LocalApiError
        if status in _FORBIDDEN:
            kind = ForbiddenError
        elif status == _CHANGED_MEANWHILE:
            kind = ChangedMeanwhileError
        return kind(f"tailscaled refused {method} {_bare(path)} ({status}): {said}")


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return decode_json(body, kind)
    except msgspec.DecodeError as error:
        raise LocalApiError(f"tailscaled's answer cannot be understood: {error}") from error


def _told(body: bytes, kind: type[T]) -> T:
    """Return a decoded answer for people to read."""
    found = _decoded(body, kind)
    # Most answers have nothing to escape: not even as one of JSON's escapes, but for those that Go makes of <, > and &.
    escapes = body.count(b"\\u") - sum(map(body.count, _HARMLESS_ESCAPES))
    return found if is_clean(body) and not escapes else visible(found)


def life_of(socket_path: str) -> object:
    """Return an identifier of a sidecar's socket; None if there is none."""
    try:
        found = os.stat(socket_path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _bare(path: str) -> str:
    return path.partition("?")[0]


async def _lines(answer: Http1Response) -> AsyncIterator[bytes]:
    """Yield whole lines of any length: a frame with a netmap can exceed a megabyte."""
    parts: list[bytes] = []
    size = 0
    async for piece in answer.pieces():
        # Only what is new is searched, and nothing is copied until a line ends.
        *ends, tail = piece.split(b"\n")
        for end in ends:
            line = b"".join((*parts, end))
            parts, size = [], 0
            if line.strip():
                yield line
        parts.append(tail)
        size += len(tail)
        if size > MOST_FRAME_BYTES:
            raise LocalApiError(f"tailscaled sent a frame of more than {MOST_FRAME_BYTES} bytes")


_AGAIN_FIRST_S = 0.01
_AGAIN_LONGEST_S = 2.0
_MOST_ERRORS = 100
_OPEN_S = 2.0
_MUTED_S = 1.0
_LASTING_S = 1.0


class Bus:
    """The notification bus, reopened whenever it ends. ``learn`` gets each login URL before anything else happens."""

    def __init__(self, wake: Callable[[], None], learn: Callable[[str], None]) -> None:
        self._wake = wake
        self._learn = learn
        self._errors: list[str] = []
        self._stream = anyio.CancelScope()
        self._opened = anyio.Event()
        self._muted_until_s = 0.0
        self.login_url = ""

    async def run(self, api: LocalApi) -> None:
        """Follow the bus until cancelled."""
        # A stream that had content shows that tailscaled runs, so the next one is opened at once.
        while await self._follow(api):
            pass
        # Imported only if tailscaled is down, so that it does not delay the login.
        tenacity = await run_in_thread(import_alone, "tenacity")
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda told: not told),
            wait=tenacity.wait_exponential(_AGAIN_FIRST_S, _AGAIN_LONGEST_S),
        )
        while True:
            await retrying(self._follow, api)

    def take_errors(self) -> list[str]:
        """Return and clear the errors received since the last call."""
        errors, self._errors = self._errors, []
        return errors

    def renew(self) -> None:
        """Reopen the stream: it may come from a replaced tailscaled."""
        self._stream.cancel()

    @contextlib.asynccontextmanager
    async def muted(self) -> AsyncIterator[None]:
        """Ignore errors from before the start of tailscaled's control client in the block.

        Errors do not name their key. tailscaled announces preferences before the new client logs in, and drops later
        messages of the old client (1.102: ipnlocal.Start, ipnlocal.SetControlClientStatus).
        """
        self._errors, self._muted_until_s = [], float("inf")
        self._opened = anyio.Event()
        # Content that is buffered in the current stream may be older than the new preferences.
        self._stream.cancel()
        try:
            with anyio.move_on_after(_OPEN_S):
                await self._opened.wait()
            yield
        finally:
            # For a stream without preferences.
            self._muted_until_s = min(self._muted_until_s, time.monotonic() + _MUTED_S)

    async def _follow(self, api: LocalApi) -> bool:
        """Follow one stream to its end; return whether the next one may be opened at once.

        It may if it had content, and lasted or was given up here; what ends each stream at once gets no endless ones.
        """
        told, begin_s = False, time.monotonic()
        # If the stream breaks, the status shows the reason at once.
        with contextlib.suppress(LocalApiError), anyio.CancelScope() as self._stream:
            async for frame in api.watch():
                if told and frame.prefs is not None and self._muted_until_s:
                    self._muted_until_s = 0.0
                    self.login_url = ""
                self._take(frame)
                told = True
                self._opened.set()
        self.login_url = ""
        self._wake()
        return told and (self._stream.cancelled_caught or time.monotonic() - begin_s >= _LASTING_S)

    def _take(self, frame: Notify) -> None:
        if frame.browse_to_url is not None:
            self._learn(frame.browse_to_url)
            self.login_url = frame.browse_to_url
        if frame.login_finished is not None:
            self.login_url = ""
        if frame.error and time.monotonic() >= self._muted_until_s:
            self._errors = [*self._errors, frame.error][-_MOST_ERRORS:]
        if frame.error or frame.state is not None or frame.browse_to_url is not None or frame.self_change is not None:
            self._wake()
