"""`/api/tailscale/*`, and the same methods as `POST /api/rpc`: the state of the tailnet, and orders for it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from supervisor.core.backup import BackupState
from supervisor.core.orders import Connect, Disconnect
from supervisor.errors import quoted
from supervisor.json_input import decode_json
from supervisor.runtime.loop_latency import run_in_thread
from supervisor.secret import Secret
from supervisor.web import schemas
from supervisor.web.auth import CALLER
from supervisor.web.error_codes import Code, RefusedError
from supervisor.web.requests import Empty, decode, json_response, new_order_id, parse_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from supervisor.core.orders import TailnetOrder
    from supervisor.web.context import Context

    Payload = schemas.TailnetBody | schemas.AuthUrlBody | dict[str, Any]

_MOST_KEY_CHARACTERS = 4096
# As in the reference; the error text is better than one about a pattern.
_KEY_PATTERN = rf"^[ \t\r\n]*[!-~]{{1,{_MOST_KEY_CHARACTERS}}}[ \t\r\n]*$"


class ConnectRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Log in with the key; without one reconnect, or ask for a login URL."""

    auth_key: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": _KEY_PATTERN})] | None = None


class DisconnectRequest(msgspec.Struct, forbid_unknown_fields=True):
    """``forget`` also logs out; ``confirm`` acknowledges the warning about disconnecting."""

    forget: bool = False
    confirm: bool = False


async def read(method: str, context: Context, _request: web.Request) -> web.Response:
    """Answer with what a method of METHODS returns."""
    return json_response(await METHODS[method].call(context, Empty(), ""))


async def order(method: str, context: Context, request: web.Request) -> web.Response:
    """Accept the order of a method of METHODS."""
    given = await parse_body(request, METHODS[method].params)
    return json_response(await METHODS[method].call(context, given, request[CALLER].source), 202)


async def _status(context: Context, _given: Empty, _source: str) -> Payload:
    return schemas.tailnet(context)


async def _connect(context: Context, given: ConnectRequest, source: str) -> Payload:
    key = None
    if given.auth_key is not None:
        text = _key_in(given.auth_key)
        # The key is masked in all logs from here on. Text that cannot be a key is not learned: each line of a page
        # pasted by mistake would be searched for in all logs.
        context.log.redactor.learn(text)
        key = Secret(text)
    return _post(context, Connect(key, new_order_id()), source)


async def _disconnect(context: Context, given: DisconnectRequest, source: str) -> Payload:
    # First: nobody is asked to agree to what is refused then.
    _check(context)
    before = context.store.snapshot.tailnet.before_disconnect
    if before and not given.confirm:
        raise RefusedError(Code.CONFIRMATION_NEEDED, before)
    return _post(context, Disconnect(given.forget, new_order_id()), source)


async def _auth_url(context: Context, _given: Empty, _source: str) -> Payload:
    """Return the pending login URL with its QR code; this never starts a login."""
    view = context.store.snapshot.tailnet
    if view.auth_url is None:
        is_off = context.plan.settings.tailnet.mode == "off"
        raise RefusedError(Code.NO_AUTH_URL, f"no login URL is pending: {Code.TAILSCALE_OFF.text}" if is_off else "")
    url = view.auth_url.reveal()
    since = None if view.auth_url_since_s is None else context.moment(view.auth_url_since_s)
    return schemas.AuthUrlBody(url, await run_in_thread(_qr_svg, url), since)


def _qr_svg(url: str) -> str:
    # Imported for the first URL, and rendered in a thread, since few callers need it.
    svg: str = import_module("segno").make(url, micro=False).svg_inline(scale=4)
    return svg


def _key_in(text: str) -> str:
    """Return the auth key in pasted text. Raises RefusedError if it cannot be one."""
    key = text.strip(" \t\r\n")
    why = ""
    if not key:
        why = "it is empty; leave it out to connect without one"
    elif len(key) > _MOST_KEY_CHARACTERS:
        why = f"it has more than {_MOST_KEY_CHARACTERS} characters; paste the key alone"
    elif not (key.isascii() and key.isprintable()) or " " in key:
        why = "it has white space in it, or characters that no key has; paste the key alone"
    if why:
        raise RefusedError(Code.INVALID_AUTH_KEY, f"cannot use this auth key: {why}")
    return key


def _post(context: Context, order: TailnetOrder, source: str) -> Payload:
    """Send an order; return what the caller gets of it. Raises RefusedError if it cannot be carried out."""
    _check(context)
    context.log.record("info", "order received", part="tailnet", order=order.kind, source=source, id=order.id)
    context.channels.tailnet.send(order)
    return {"ok": True, "order": order.id}


def _check(context: Context) -> None:
    """Raise RefusedError if no order would be carried out."""
    if context.plan.settings.tailnet.mode == "off":
        raise RefusedError(Code.TAILSCALE_OFF)
    if context.store.snapshot.stopping:
        raise RefusedError(Code.STOPPING)
    backup = context.store.snapshot.backup
    if backup.state is BackupState.REPLACED:
        raise RefusedError(Code.TAILSCALE_OFF, f"{backup.why}; {backup.what_to_do}")


class Method(NamedTuple):
    """A method: the struct of its parameters, and what carries it out for a caller at a source."""

    params: type[Any]
    call: Callable[[Context, Any, str], Awaitable[Payload]]


METHODS = {
    "tailscale.status": Method(Empty, _status),
    "tailscale.connect": Method(ConnectRequest, _connect),
    "tailscale.disconnect": Method(DisconnectRequest, _disconnect),
    "tailscale.auth_url": Method(Empty, _auth_url),
}
_DEFAULT_ID = "http-rpc"
# By HTTP status; all others are the client's fault.
_CODES = {404: "NOT_FOUND", 409: "CONFLICT"}
_UNAVAILABLE = frozenset({Code.STOPPING, Code.TAILSCALE_OFF})
_RETRYABLE = frozenset({Code.STOPPING})


class RpcRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A request frame; ``type`` is optional, since there is only one. ``channel`` is for sockets, and ignored here."""

    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")
    id: str = _DEFAULT_ID
    type: Literal["req"] = "req"
    channel: str | None = None


class _RpcId(msgspec.Struct):
    """The part of an invalid frame that is read."""

    id: str = _DEFAULT_ID


async def rpc(context: Context, request: web.Request) -> web.Response:
    """Answer a frame."""
    try:
        frame = await parse_body(request, RpcRequest)
        payload = await _call(context, frame, request[CALLER].source)
    except RefusedError as refusal:
        if refusal.code is Code.UNSUPPORTED_MEDIA_TYPE:
            raise
        return json_response({"type": "res", "id": await _id_of(request), "ok": False, "error": _error(refusal)})
    except _UnknownMethodError as error:
        unknown = {"code": "UNKNOWN_METHOD", "message": str(error)}
        return json_response({"type": "res", "id": frame.id, "ok": False, "error": unknown})
    return json_response({"type": "res", "id": frame.id, "ok": True, "payload": payload})


class _UnknownMethodError(Exception):
    pass


async def _id_of(request: web.Request) -> str:
    """Return the id of an invalid frame; the default id if it has none."""
    try:
        return decode_json(await request.read(), _RpcId).id
    except msgspec.DecodeError:
        return _DEFAULT_ID


async def _call(context: Context, frame: RpcRequest, source: str) -> Payload:
    method = METHODS.get(frame.method)
    if method is None:
        raise _UnknownMethodError(f"there is no method {quoted(frame.method)}; there are {', '.join(METHODS)}")
    # Null counts as none.
    params = b"{}" if bytes(frame.params) == b"null" else frame.params
    return await method.call(context, decode(params, method.params, "params"), source)


def _error(refusal: RefusedError) -> dict[str, Any]:
    is_away = refusal.code in _UNAVAILABLE
    code = "UNAVAILABLE" if is_away else _CODES.get(refusal.code.status, "INVALID_REQUEST")
    error = {"code": code, "message": refusal.text, "details": {"code": refusal.code.name}}
    return error | ({"retryable": refusal.code in _RETRYABLE} if is_away else {})
