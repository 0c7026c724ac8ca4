"""`/api/session`: signing in for a session, signing out, and codes for those who have no admin token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from supervisor.web.access import CALLER, Access, wrong
from supervisor.web.bodies import Nothing, answer, body_of
from supervisor.web.error_codes import Code, RefusedError

if TYPE_CHECKING:
    from supervisor.web.context import Context


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """Either the admin token, or a code from the log."""

    token: str | None = None
    code: str | None = None


async def sign_in(context: Context, request: web.Request) -> web.Response:
    """Give a session for the admin token or a code."""
    given = await body_of(request, SignIn)
    if (given.token is None) == (given.code is None):
        raise RefusedError(Code.INVALID_BODY, "cannot sign in: send either a token or a code")
    keyring = context.keyring
    right = keyring.take_code(given.code) if given.code is not None else await keyring.is_admin(given.token or "")
    if not right:
        raise wrong(await context.throttle.failed(request[CALLER].source))
    session, ends_s = keyring.open_session()
    return answer({"session": session, "expires_at": context.moment(ends_s)})


async def sign_out(context: Context, request: web.Request) -> web.Response:
    """End the session that the request was sent with."""
    await body_of(request, Nothing)
    grant = request[CALLER].grant
    if grant is not None:
        context.keyring.end_session(grant)
    return web.Response(status=204)


async def new_code(context: Context, request: web.Request) -> web.Response:
    """Print a code in the log, for whoever can read that; give it to whoever asks over the control socket."""
    await body_of(request, Nothing)
    if request[CALLER].access is Access.CONTROL:
        code = context.keyring.new_code()
        given = {"code": code.secret.reveal(), "link": context.printer.link(code)}
        return answer(given | {"expires_at": context.moment(code.ends_s)})
    if context.keyring.has_token:
        raise RefusedError(Code.TOKEN_SET)
    wait_s = context.printer.wait_s()
    if wait_s:
        raise RefusedError(Code.CODE_PRINTED_ALREADY, headers={"Retry-After": str(math.ceil(wait_s))})
    return answer({"ok": True, "expires_at": context.moment(context.printer.print_code())}, 202)
