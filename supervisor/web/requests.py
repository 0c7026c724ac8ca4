"""Parses and validates bodies and queries, with error messages for people."""

from __future__ import annotations

import math
import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from aiohttp import web
from msgspec.inspect import (
    AnyType,
    BoolType,
    IntType,
    LiteralType,
    Metadata,
    NoneType,
    RawType,
    StrType,
    StructType,
    Type,
    UnionType,
    type_info,
)

from supervisor.errors import quoted
from supervisor.json_input import decode_json
from supervisor.web.error_codes import Code, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T", bound=msgspec.Struct)
_encode = msgspec.json.Encoder().encode
_JSON = "application/json"
_NO_WEIGHT = re.compile(r"q[ \t]*=[ \t]*0(?:\.0*)?", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]+")
# int() refuses more than 4,300 digits; fewer are out of all bounds as well.
_MOST_DIGITS = 1000


class Empty(msgspec.Struct, forbid_unknown_fields=True):
    """An empty object: the body of a route that takes nothing."""


async def parse_body(request: web.Request, shape: type[T]) -> T:
    """Return a request's body as a struct; no body counts as an empty object.

    Raises RefusedError if it is not JSON, or does not match.
    """
    data = await request.read()
    if data and request.content_type != _JSON:
        raise RefusedError(Code.UNSUPPORTED_MEDIA_TYPE)
    return decode(data or b"{}", shape, "body")


def decode(data: bytes | msgspec.Raw, shape: type[T], what: str) -> T:
    """Decode JSON into a struct; ``what`` names the part of the request in error messages.

    Raises RefusedError if it is not JSON, or does not match.
    """
    try:
        return decode_json(data, shape)
    except msgspec.DecodeError as error:
        text = bytes(data)
        problem = explain_json(text, error, shape) if text.strip() else "it contains only white space"
        raise RefusedError(Code.INVALID_BODY, f"cannot use the {what}: {problem}; see the API's page") from error


def parse_query(request: web.Request, shape: type[T]) -> T:
    """Return a request's query as a struct. Raises RefusedError if it does not match."""
    given = dict(request.query)
    if len(given) != len(request.query):
        raise RefusedError(Code.INVALID_QUERY, "cannot use the query: a parameter is given twice; remove one of them")
    numbers = _numbers(shape)
    # msgspec would read `null` as None and 1e2 as 100.
    values = {
        name: _whole(text) if name in numbers and _NUMBER.fullmatch(text) else text for name, text in given.items()
    }
    try:
        return msgspec.convert(values, shape)
    except msgspec.ValidationError as error:
        problem = explain_query(given, shape)
        raise RefusedError(Code.INVALID_QUERY, f"cannot use the query: {problem}; see the API's page") from error


def _whole(text: str) -> int:
    return int(text[:_MOST_DIGITS])


def takes_gzip(request: web.Request) -> bool:
    """Return whether the client accepts gzip: by that name, or else by the `*` for all that it does not name."""
    takes: dict[str, bool] = {}
    for part in ",".join(request.headers.getall("Accept-Encoding", [])).split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        takes.setdefault(name.lower(), not any(map(_NO_WEIGHT.fullmatch, parameters)))
    return takes.get("gzip", takes.get("*", False))


def json_response(
    body: Mapping[str, Any] | msgspec.Struct,
    status: int = 200,
    content_type: str = _JSON,
) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=_encode(body) + b"\n", status=status, content_type=content_type)


def accepted(**more: str) -> web.Response:
    """Return 202 for an accepted order; its result appears on the event stream."""
    return json_response({"ok": True, **more}, 202)


def new_order_id() -> str:
    """Return the id of a new order, under which its result appears."""
    return os.urandom(8).hex()


_WANTED = {IntType: "a whole number", BoolType: "true or false", StrType: "a text"}
_PYTHON = {IntType: int, BoolType: bool, StrType: str, NoneType: type(None)}
_GOT = {int: "a number", float: "a number", bool: "true or false", str: "a text", list: "a list", dict: "an object"}


def explain_json(data: bytes, error: Exception, shape: type[msgspec.Struct]) -> str:
    """Return why JSON does not match a struct."""
    try:
        data.decode()
        # Numbers beyond a double's range become infinite here instead of an error.
        value = msgspec.json.Decoder(float_hook=float).decode(data)
    except UnicodeDecodeError:
        return "it is not UTF-8"
    except RecursionError:
        return "it is nested too deeply"
    except msgspec.ValidationError:
        # Without a type, that is the only reason: so many digits are not even infinite.
        return "it contains a number that is too large"
    except msgspec.DecodeError as malformed:
        _, _, detail = str(malformed).partition(": ")
        return (
            f"invalid JSON: {detail}"
            if detail
            else r"it ends too early, or contains half of a surrogate pair, such as \ud800"
        )
    return _explain(value, shape) or str(error)


def explain_query(given: Mapping[str, str], shape: type[msgspec.Struct]) -> str:
    """Return why a query does not match a struct. All values of a query are text."""
    return _explain(given, shape, is_text=True)


def _explain(value: object, shape: type[msgspec.Struct], *, is_text: bool = False) -> str:
    """Return the first problem; empty if there is none."""
    if not isinstance(value, dict):
        return f"it is {_GOT.get(type(value), 'null')}, not an object"
    fields = {field.encode_name: field for field in cast("StructType", type_info(shape)).fields}
    for name, given in value.items():
        if name not in fields:
            return f"{quoted(name)} is not known; it takes {', '.join(fields) or 'nothing'}"
        problem = _mismatch(given, _kinds(fields[name].type), is_text=is_text)
        if problem:
            return f"{name} {problem}"
    return next((f"{name} is missing" for name, field in fields.items() if field.required and name not in value), "")


def _kinds(kind: Type) -> tuple[Type, ...]:
    kinds = kind.types if isinstance(kind, UnionType) else (kind,)
    return tuple(each.type if isinstance(each, Metadata) else each for each in kinds)


@cache
def _numbers(shape: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of a struct's fields that are whole numbers."""
    fields = cast("StructType", type_info(shape)).fields
    return frozenset(
        field.encode_name for field in fields if any(isinstance(kind, IntType) for kind in _kinds(field.type))
    )


def _mismatch(value: object, kinds: Sequence[Type], *, is_text: bool) -> str:
    """Return why a value matches none of these types; empty if it matches one."""
    wanted = next(kind for kind in kinds if not isinstance(kind, NoneType))
    if isinstance(wanted, LiteralType):
        return "" if value in wanted.values else f"has to be {' or '.join(map(str, wanted.values))}"
    if is_text and isinstance(wanted, IntType) and isinstance(value, str) and _NUMBER.fullmatch(value):
        value = _whole(value)
    if isinstance(wanted, (AnyType, RawType)) or any(type(value) is _PYTHON.get(type(kind)) for kind in kinds):
        return _out_of_bounds(value, wanted)
    got = "a number that is too large" if value == math.inf else _GOT.get(type(value), "null")
    return f"is {'' if is_text else got + ', '}not {_WANTED.get(type(wanted), 'what is taken there')}"


def _out_of_bounds(value: object, kind: Type) -> str:
    if isinstance(kind, IntType) and isinstance(value, int):
        if kind.ge is not None and value < kind.ge:
            return f"has to be at least {kind.ge}"
        if kind.le is not None and value > kind.le:
            return f"has to be at most {kind.le}"
    return ""
