"""Decodes JSON that somebody else wrote."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decode_json(data: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """Return what the JSON says, as ``kind``; ``kind`` may be a union, such as ``list[int] | None``.

    Raises msgspec.DecodeError whatever is wrong with it: msgspec itself raises others for text that is not UTF-8, and
    for what is nested too deeply.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError("it is not UTF-8") from error
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error


def decode_object(data: bytes | str) -> dict[str, Any] | None:
    """Return an object with whatever is in it; None where this is none."""
    try:
        return decode_json(data, dict[str, Any])
    except msgspec.DecodeError:
        return None
