"""What is wrong with a body or a query, in our words: those of the library that reads it are for programmers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from msgspec.structs import fields

from supervisor.config.diagnostics import shown

if TYPE_CHECKING:
    from msgspec import Struct

_EXPECTED = re.compile(r"Expected `(\w+)(?: \| null)?`(?: ([<>]=) (-?\d+)|, got `(\w+)`)(?: - at `\$\.(\w+)`)?")
_CHOICE = re.compile(r"Invalid enum value .* - at `\$\.(\w+)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_OUT_OF_RANGE = re.compile(r"Number out of range - at `\$\.(\w+)`")
_MALFORMED = "JSON is malformed: "
_TRUNCATED = "Input data was truncated"
_WANTED = {"int": "a whole number", "bool": "true or false", "str": "a text", "object": "an object"}
_GOT = {
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_BOUNDS = {">=": "at least", "<=": "at most"}


def in_json(error: Exception, shape: type[Struct]) -> str:
    """Return what is wrong with JSON that was to be of this shape."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if text == _TRUNCATED:
        return r"it ends too early, or has half of a character in it, as \ud800 is"
    if text.startswith(_MALFORMED):
        return f"it is no JSON: {text.removeprefix(_MALFORMED)}"
    return _of_shape(text, shape, by_type=True)


def in_query(error: Exception, shape: type[Struct]) -> str:
    """Return what is wrong with a query that was to be of this shape. All that it holds is text."""
    return _of_shape(str(error), shape, by_type=False)


def _of_shape(text: str, shape: type[Struct], *, by_type: bool) -> str:
    if found := _EXPECTED.fullmatch(text):
        return _of_type(*found.groups(), by_type=by_type)
    if found := _CHOICE.fullmatch(text):
        return f"{found[1]} has to be {' or '.join(_choices(shape, found[1]))}"
    if found := _MISSING.fullmatch(text):
        return f"{found[1]} is missing"
    if found := _UNKNOWN.fullmatch(text):
        return f"{shown(found[1])} is not known; it takes {_names(shape)}"
    found = _OUT_OF_RANGE.fullmatch(text)
    return f"{found[1]} is a number that is too large" if found else "it is not what is taken here"


def _of_type(wanted: str, relation: str | None, bound: str, got: str, at: str | None, *, by_type: bool) -> str:
    name = at or "it"
    if relation:
        return f"{name} has to be {_BOUNDS[relation]} {bound}"
    given = f"{_GOT[got]}, " if by_type and got in _GOT else ""
    return f"{name} is {given}not {_WANTED.get(wanted, 'what is taken there')}"


def _names(shape: type[Struct]) -> str:
    return ", ".join(field.encode_name for field in fields(shape)) or "nothing"


def _choices(shape: type[Struct], name: str) -> tuple[str, ...]:
    return next((get_args(field.type) for field in fields(shape) if field.encode_name == name), ())
