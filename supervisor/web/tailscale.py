"""`/api/tailscale/*`: how the tailnet is, and orders for it. RPC calls the same functions."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from supervisor.core.orders import Connect, Disconnect
from supervisor.runtime.loop_latency import run_in_thread
from supervisor.secret import Secret
from supervisor.web import documents
from supervisor.web.access import CALLER
from supervisor.web.bodies import accepted, answer, body_of
from supervisor.web.error_codes import Code, RefusedError

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.core.orders import TailnetOrder
    from supervisor.web.context import Context

_MOST_KEY_CHARACTERS = 4096


class ConnectWish(msgspec.Struct, forbid_unknown_fields=True):
    """With a key: log in. Without: reconnect, or ask for a login URL."""

    auth_key: str | None = None


class DisconnectWish(msgspec.Struct, forbid_unknown_fields=True):
    """``forget`` logs out as well; ``confirm`` says that the warning which goes with it was read."""

    forget: bool = False
    confirm: bool = False


async def status(context: Context, _request: web.Request) -> web.Response:
    """Give all that is known."""
    return answer(documents.tailnet(context))


async def connect(context: Context, request: web.Request) -> web.Response:
    """Order to be connected."""
    return accepted(order=order_connect(context, await body_of(request, ConnectWish), request[CALLER].source))


async def disconnect(context: Context, request: web.Request) -> web.Response:
    """Order to be disconnected."""
    return accepted(order=order_disconnect(context, await body_of(request, DisconnectWish), request[CALLER].source))


async def auth_url(context: Context, _request: web.Request) -> web.Response:
    """Give the login URL that is pending; this never starts anything."""
    return answer(await pending_url(context))


def order_connect(context: Context, wish: ConnectWish, source: str) -> str:
    """Hand in the order and return its id. Raises RefusedError where it cannot be meant, or cannot be carried out."""
    key = None
    if wish.auth_key is not None:
        text = _key_in(wish.auth_key)
        # From here on no log shows it. What can be no key is not learned: of a page that was pasted by mistake each
        # line would be looked for in all that is logged.
        context.log.redactor.learn(text)
        key = Secret(text)
    return _post(context, Connect(key, _new_id()), source)


def order_disconnect(context: Context, wish: DisconnectWish, source: str) -> str:
    """Hand in the order and return its id. Raises RefusedError where there is something to know first."""
    before = context.store.snapshot.tailnet.before_disconnect
    if before and not wish.confirm:
        raise RefusedError(Code.CONFIRMATION_NEEDED, before)
    return _post(context, Disconnect(wish.forget, _new_id()), source)


async def pending_url(context: Context) -> documents.Document:
    """Return the login URL with its QR code. Raises RefusedError where none is pending."""
    view = context.store.snapshot.tailnet
    if view.auth_url is None:
        is_off = context.plan.settings.tailnet.mode == "off"
        raise RefusedError(Code.NO_AUTH_URL, f"no login URL is pending: {Code.TAILSCALE_OFF.text}" if is_off else "")
    url = view.auth_url.reveal()
    since = None if view.auth_url_since_s is None else context.moment(view.auth_url_since_s)
    return {"auth_url": url, "qr_svg": await run_in_thread(_qr_svg, url), "since": since}


def _qr_svg(url: str) -> str:
    # Loaded for the first URL: it costs what few need, and is made in a thread for that.
    svg: str = import_module("segno").make(url, micro=False).svg_inline(scale=4)
    return svg


def _key_in(text: str) -> str:
    """Return the auth key in what was pasted. Raises RefusedError where it can be none."""
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


def _new_id() -> str:
    return os.urandom(8).hex()


def _post(context: Context, order: TailnetOrder, source: str) -> str:
    if context.plan.settings.tailnet.mode == "off":
        raise RefusedError(Code.TAILSCALE_OFF)
    if context.store.snapshot.stopping:
        raise RefusedError(Code.STOPPING)
    context.log.record("info", "order received", part="tailnet", order=order.kind, source=source, id=order.id)
    context.channels.tailnet.send(order)
    return order.id
