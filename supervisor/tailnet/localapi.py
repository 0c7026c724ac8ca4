"""Speaks tailscaled's LocalAPI over its unix socket.

Paths and shapes are those of tailscaled 1.102 (tailscale.com/ipn/localapi).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

import aiohttp
import msgspec

from supervisor.tailnet.wire import Status

if TYPE_CHECKING:
    from types import TracebackType

# Any other host, and any Origin or Referer, is refused with 403.
BASE = "http://local-tailscaled.sock/localapi/v0/"
TIMEOUT_S = 5.0
_ERROR_CHARACTERS = 300

T = TypeVar("T")


class LocalApiError(Exception):
    """tailscaled did not do what it was asked; the text says why."""


class UnreachableError(LocalApiError):
    """Nothing listens on the socket: tailscaled is down, or not up yet."""


class SilentError(LocalApiError):
    """It took the request and did not answer in time."""


class LocalApi:
    """A client of one tailscaled; an async context manager."""

    def __init__(self, socket_path: str, timeout_s: float = TIMEOUT_S) -> None:
        self._socket_path = socket_path
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            BASE,
            connector=aiohttp.UnixConnector(self._socket_path),
            timeout=self._timeout,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def status(self) -> Status:
        """Return what tailscaled knows of itself, without its peers.

        Raises UnreachableError, SilentError, or LocalApiError for an answer that is none.
        """
        return self._decoded(await self._ask("GET", "status?peers=false"), Status)

    def _decoded(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise LocalApiError(f"tailscaled's answer cannot be understood: {error}") from error

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        if self._session is None:
            raise RuntimeError("cannot ask before the session was opened")
        try:
            async with self._session.request(method, path, data=body) as answer:
                data = await answer.read()
                if answer.ok:
                    return data
                said = data.decode(errors="replace").strip()[:_ERROR_CHARACTERS]
                raise LocalApiError(f"tailscaled refused {method} {path.partition('?')[0]} ({answer.status}): {said}")
        except TimeoutError as error:
            raise SilentError(f"tailscaled did not answer within {self._timeout.total:g} s") from error
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or str(error.os_error)
            raise UnreachableError(f"cannot reach tailscaled at {self._socket_path}: {why.lower()}") from error
        except aiohttp.ClientError as error:
            raise UnreachableError(f"the connection to tailscaled broke: {error}") from error
