"""What clients send and get: bodies and queries, checked against the shape that a route takes, and JSON back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from supervisor.web import slips
from supervisor.web.error_codes import Code, RefusedError

T = TypeVar("T", bound=msgspec.Struct)

if TYPE_CHECKING:
    from collections.abc import Mapping

_encode = msgspec.json.Encoder().encode
_JSON = "application/json"


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """What comes where nothing is taken: an empty object."""


async def body_of(request: web.Request, shape: type[T]) -> T:
    """Return a request's body; an empty one counts as an empty object.

    Raises RefusedError where it is not JSON, or not of this shape.
    """
    data = await request.read()
    if data and request.content_type != _JSON:
        raise RefusedError(Code.UNSUPPORTED_MEDIA_TYPE)
    return decoded(data or b"{}", shape, "body")


def decoded(data: bytes | msgspec.Raw, shape: type[T], what: str) -> T:
    """Return what JSON says; ``what`` is the part of the request that it is.

    Raises RefusedError where it is not JSON, or not of this shape.
    """
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        slip = slips.in_json(error, shape) if bytes(data).strip() else "there is nothing but white space in it"
        raise RefusedError(Code.INVALID_BODY, f"cannot use the {what}: {slip}; see the API's page") from error


def query_of(request: web.Request, shape: type[T]) -> T:
    """Return a request's query. Raises RefusedError where it is not of this shape."""
    given = dict(request.query)
    if len(given) != len(request.query):
        raise RefusedError(Code.INVALID_QUERY, "cannot use the query: a name stands in it twice; leave one of them")
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        slip = slips.in_query(error, shape)
        raise RefusedError(Code.INVALID_QUERY, f"cannot use the query: {slip}; see the API's page") from error


def answer(
    body: Mapping[str, Any] | msgspec.Struct,
    status: int = 200,
    content_type: str = _JSON,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return a response with this as its JSON."""
    return web.Response(body=_encode(body) + b"\n", status=status, content_type=content_type, headers=headers)


def accepted(**more: str) -> web.Response:
    """Return the answer to an order: it was taken, and what comes of it is seen on the event stream."""
    return answer({"ok": True, **more}, 202)
