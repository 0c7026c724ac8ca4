"""Downloads a file over TLS only: `python3 -I scripts/download.py URL FILE`; on failure exits with 1 and the reason.

It needs only Python, which is a requirement anyway.
"""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from http.client import HTTPMessage

SILENCE_S = 30.0
TLS = "https://"


class _TlsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Follow redirects to TLS only."""
        if not newurl.startswith(TLS):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not TLS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, path: str) -> None:
    """Download ``url`` into the file ``path``. Raises OSError if it is incomplete, or not over TLS."""
    if not url.startswith(TLS):
        raise urllib.error.URLError("it is not TLS")
    tls = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    opener = urllib.request.build_opener(_TlsOnly, tls)
    with opener.open(url, timeout=SILENCE_S) as answer, open(path, "wb") as file:
        shutil.copyfileobj(answer, file)
        expected = answer.headers.get("Content-Length")
    if expected is not None and os.path.getsize(path) != int(expected):
        raise urllib.error.URLError("it was cut off")


def main(url: str, path: str) -> int:
    """Return the exit code; print failures to standard error."""
    try:
        download(url, path)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        sys.stderr.write(f"cannot download {url}: {reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
