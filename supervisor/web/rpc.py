"""`POST /api/rpc`: the tailnet in the frames of Moltis' own HTTP RPC, where every answer is a frame with status 200."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from supervisor.web import documents, tailscale
from supervisor.web.access import CALLER
from supervisor.web.bodies import Nothing, answer, body_of, decoded
from supervisor.web.error_codes import Code, RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from supervisor.web.context import Context

    Method = Callable[[Context, msgspec.Raw, str], Awaitable[documents.Document]]

T = TypeVar("T", bound=msgspec.Struct)
_DEFAULT_ID = "http-rpc"
# By HTTP status; what is not here is the client's fault.
_CODES = {404: "NOT_FOUND", 409: "CONFLICT"}
_UNAVAILABLE = frozenset({Code.STOPPING, Code.TAILSCALE_OFF})
_RETRYABLE = frozenset({Code.STOPPING})


class Frame(msgspec.Struct, forbid_unknown_fields=True):
    """A request; ``type`` may be left out, as there is only one. ``channel`` is for sockets, and says nothing here."""

    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")
    id: str = _DEFAULT_ID
    type: Literal["req"] = "req"
    channel: str | None = None


class _Named(msgspec.Struct):
    """What is read of a frame that is refused."""

    id: str = _DEFAULT_ID


async def rpc(context: Context, request: web.Request) -> web.Response:
    """Answer one frame."""
    try:
        frame = await body_of(request, Frame)
        payload = await _call(context, frame, request[CALLER].source)
    except RefusedError as refusal:
        if refusal.code is Code.UNSUPPORTED_MEDIA_TYPE:
            raise
        return answer({"type": "res", "id": await _id_of(request), "ok": False, "error": _error(refusal)})
    except _UnknownMethodError as error:
        told = {"code": "UNKNOWN_METHOD", "message": str(error)}
        return answer({"type": "res", "id": frame.id, "ok": False, "error": told})
    return answer({"type": "res", "id": frame.id, "ok": True, "payload": payload})


class _UnknownMethodError(Exception):
    pass


async def _id_of(request: web.Request) -> str:
    """Return the id of a frame, whatever else is wrong with it; the usual one where it cannot be read."""
    try:
        return msgspec.json.decode(await request.read(), type=_Named).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _DEFAULT_ID


async def _call(context: Context, frame: Frame, source: str) -> documents.Document:
    method = METHODS.get(frame.method)
    if method is None:
        raise _UnknownMethodError(f"there is no method {frame.method!r}; there are {', '.join(METHODS)}")
    return await method(context, frame.params, source)


def _error(refusal: RefusedError) -> dict[str, Any]:
    is_away = refusal.code in _UNAVAILABLE
    code = "UNAVAILABLE" if is_away else _CODES.get(refusal.code.status, "INVALID_REQUEST")
    told = {"code": code, "message": refusal.text, "details": {"code": refusal.code.name}}
    return told | ({"retryable": refusal.code in _RETRYABLE} if is_away else {})


def _params(raw: msgspec.Raw, shape: type[T]) -> T:
    """Return a method's parameters; null counts as none."""
    return decoded(b"{}" if bytes(raw) == b"null" else raw, shape, "params")


async def _status(context: Context, raw: msgspec.Raw, _source: str) -> documents.Document:
    _params(raw, Nothing)
    return documents.tailnet(context)


async def _connect(context: Context, raw: msgspec.Raw, source: str) -> documents.Document:
    return {"ok": True, "order": tailscale.order_connect(context, _params(raw, tailscale.ConnectWish), source)}


async def _disconnect(context: Context, raw: msgspec.Raw, source: str) -> documents.Document:
    return {"ok": True, "order": tailscale.order_disconnect(context, _params(raw, tailscale.DisconnectWish), source)}


async def _auth_url(context: Context, raw: msgspec.Raw, _source: str) -> documents.Document:
    _params(raw, Nothing)
    return await tailscale.pending_url(context)


METHODS: dict[str, Method] = {
    "tailscale.status": _status,
    "tailscale.connect": _connect,
    "tailscale.disconnect": _disconnect,
    "tailscale.auth_url": _auth_url,
}
