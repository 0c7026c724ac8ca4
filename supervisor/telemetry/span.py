"""One span as plain data: something that took time, told when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Attribute = str | int | bool | tuple[str, ...]


class Parent(NamedTuple):
    """A span of someone else's that this one belongs to, as W3C Trace Context names it."""

    trace_id: int
    span_id: int
    flags: int


class Span(NamedTuple):
    """It began and ended at these moments of the monotonic clock; ``error`` says why it failed, where it did.

    ``answers`` tells that it is the answer to a request, ``parent`` whose, where the caller said so.
    """

    name: str
    begun_s: float
    ended_s: float
    attributes: Mapping[str, Attribute]
    error: str = ""
    children: tuple[Span, ...] = ()
    answers: bool = False
    parent: Parent | None = None
