"""The panel's static files: read and compressed at the first request, then served from memory."""

from __future__ import annotations

import hashlib
import os
import zlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from supervisor.runtime.loop_latency import run_in_thread
from supervisor.web.error_codes import Code, RefusedError
from supervisor.web.requests import takes_gzip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.web.context import Context


_FOLDER = os.path.join(os.path.dirname(__file__), "panel")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
# Browsers revalidate at each load, and mostly get 304.
_HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": _CSP, "Vary": "Accept-Encoding"}
# zlib's wbits: a 32 KiB window with a gzip header.
_GZIP = 31


class _File(NamedTuple):
    content_type: str
    digest: str
    plain: bytes
    packed: bytes


async def asset(_context: Context, request: web.Request) -> web.Response:
    """Return the panel's page, or a file that it refers to. Raises RefusedError if there is no file of that name."""
    found = (await run_in_thread(_files)).get(request.match_info.get("file", ""))
    if found is None:
        raise RefusedError(Code.NOT_FOUND)
    packed = takes_gzip(request)
    # The two encodings have different entity tags, since their bytes differ.
    tag = f"{found.digest}-gzip" if packed else found.digest
    headers = _HEADERS | {"ETag": f'"{tag}"', "Content-Type": found.content_type}
    if any(known.value in {tag, "*"} for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=found.packed if packed else found.plain, headers=headers)


@cache
def _files() -> Mapping[str, _File]:
    """Return the files by name; the page itself has none."""
    names = sorted(name for name in os.listdir(_FOLDER) if os.path.splitext(name)[1] in _TYPES)
    return {"" if name == "index.html" else name: _read(name) for name in names}


def _read(name: str) -> _File:
    with open(os.path.join(_FOLDER, name), "rb") as file:
        plain = file.read()
    packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    packed = packer.compress(plain) + packer.flush()
    return _File(_TYPES[os.path.splitext(name)[1]], hashlib.sha256(plain).hexdigest()[:16], plain, packed)
