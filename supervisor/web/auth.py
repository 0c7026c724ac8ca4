"""Authentication and authorization: bearer tokens and the control socket. Nothing else in a request is trusted."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from supervisor.errors import quoted
from supervisor.web.error_codes import Code, RefusedError

if TYPE_CHECKING:
    from supervisor.web.connections import Connection, ConnectionHandler
    from supervisor.web.context import Context
    from supervisor.web.sessions import Grant

READING = frozenset({"GET", "HEAD"})
_SAME_SITE = frozenset({"same-origin", "none"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Access(Enum):
    """Access levels, of a caller and as needed by a route; each includes those before it."""

    ANYONE = 0
    SIGNED_IN = 1
    CONTROL = 2


class Caller(NamedTuple):
    """The sender of a request; ``grant`` is what their token grants."""

    access: Access
    source: str
    grant: Grant | None = None

    @property
    def signed_in(self) -> bool:
        """Whether this is more than anyone."""
        return self.access is not Access.ANYONE


CALLER = web.RequestKey("caller", Caller)


async def authorize(context: Context, needed: Access, request: web.Request, connection: Connection) -> Caller:
    """Return the caller. Raises RefusedError if they lack the access that the route needs."""
    if connection.over_control:
        if connection.refused:
            raise RefusedError(Code.CONTROL_REFUSED, connection.refused)
        return Caller(Access.CONTROL, "control socket")
    if not (needed is Access.ANYONE and request.method in READING) and is_cross_site(request):
        raise RefusedError(Code.CROSS_SITE, _other_host(request))
    caller, wait_s = await _by_token(context, request)
    if caller.access.value >= needed.value:
        return caller
    if wait_s is None:
        raise RefusedError(Code.NOT_SIGNED_IN, headers={"WWW-Authenticate": "Bearer"})
    raise wrong_credentials(wait_s)


def wrong_credentials(wait_s: float) -> RefusedError:
    """Return the error for wrong credentials: 429 if the throttle imposes a wait."""
    if wait_s:
        return RefusedError(Code.TOO_MANY_ATTEMPTS, headers={"Retry-After": str(math.ceil(wait_s))})
    return RefusedError(Code.WRONG_CREDENTIALS, headers={"WWW-Authenticate": "Bearer"})


def is_cross_site(request: web.Request) -> bool:
    """Return whether a browser sent this for another site."""
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if any(site not in _SAME_SITE for site in sites):
        return True
    origins = request.headers.getall("Origin", [])
    hosts = request.headers.getall("Host", [])
    return bool(origins) and (len(origins) > 1 or len(hosts) != 1 or not _is_own(origins[0], hosts[0]))


def _other_host(request: web.Request) -> str:
    """Return the error's text for a browser that was at another host than was asked; else an empty one.

    Behind a proxy that replaces the `Host`, that is so with each request, and nothing else tells why.
    """
    origin, host = request.headers.get("Origin", ""), request.headers.get("Host", "")
    if not origin or _is_own(origin, host):
        return ""
    return (
        f"{Code.CROSS_SITE.text}; its Origin is {quoted(origin)} and its Host {quoted(host)}: a proxy in front has to "
        "pass on the browser's Host, with its port"
    )


def _is_own(origin: str, host: str) -> bool:
    """Compare host and port; the scheme does not count, as TLS may end at a platform's edge."""
    try:
        asked, own = urlsplit(origin), urlsplit(f"//{host}")
        default = _DEFAULT_PORTS.get(asked.scheme)
        return bool(asked.hostname) and _host_and_port(asked, default) == _host_and_port(own, default)
    except ValueError:
        return False


def _host_and_port(url: SplitResult, default_port: int | None) -> tuple[str | None, int | None]:
    return url.hostname, url.port or default_port


async def _by_token(context: Context, request: web.Request) -> tuple[Caller, float | None]:
    """Return the caller by the request's token, and the seconds to wait if the token is wrong."""
    source = request.remote or ""
    anyone = Caller(Access.ANYONE, source)
    given = request.headers.getall("Authorization", [])
    tokens = [token.strip() for kind, _, token in (text.partition(" ") for text in given) if kind.lower() == "bearer"]
    if not tokens:
        return anyone, None
    # The token comes first: one that is right is never refused for the wrong ones of others.
    grant = await context.keyring.grant_of(tokens[0]) if len(given) == 1 else None
    if grant is not None:
        return Caller(Access.SIGNED_IN, source, grant), None
    return anyone, await context.throttle.failed(source)


def connection_of(request: web.Request) -> Connection:
    """Return the connection that a request came over."""
    return cast("ConnectionHandler", request.protocol).connection
