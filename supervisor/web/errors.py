"""Errors as every client gets them: `{"code": "SCREAMING_SNAKE", "error": "text for people"}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

_encode = msgspec.json.Encoder().encode
_TEXTS = {
    400: ("BAD_REQUEST", "the request cannot be understood"),
    404: ("NOT_FOUND", "there is nothing at this path"),
    405: ("METHOD_NOT_ALLOWED", "this path does not take that method"),
    408: ("REQUEST_TIMEOUT", "the request took too long to arrive"),
    413: ("PAYLOAD_TOO_LARGE", "the body is larger than 64 KiB"),
    417: ("EXPECTATION_FAILED", "that expectation is not met here"),
    500: ("INTERNAL_ERROR", "something failed in the supervisor; its log says more"),
}


def error(status: int, code: str = "", text: str = "", headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an error response; code and text default to the status's own."""
    default_code, default_text = _TEXTS.get(status, ("ERROR", "the request failed"))
    body = _encode({"code": code or default_code, "error": text or default_text}) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
