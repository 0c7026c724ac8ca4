"""Decodes JSON from untrusted sources."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decode_json(data: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """Decode JSON as ``kind``, which may be a union, such as ``list[int] | None``.

    Raises msgspec.DecodeError for all invalid input: msgspec itself raises other exceptions if it is not UTF-8, or is
    nested too deeply.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError("it is not UTF-8") from error
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error


def decode_object(data: bytes | str) -> dict[str, Any] | None:
    """Decode a JSON object; None if the data is not one."""
    try:
        return decode_json(data, dict[str, Any])
    except msgspec.DecodeError:
        return None
