"""Any value that a client writes into a header that is read: it is a client error at most, never a failure of ours."""

from __future__ import annotations

import asyncio

import pytest

from tests.web.serving import BEARER, serving

NASTY = (
    *(b"", b",", b";", b"-", b'"', b"\xff", b'"\xff', b"\xed\xa0\x80", b";;=,=;q=\xff", b"[", "\u0663".encode()),
    *(b"9" * 5000, b"text/plain;version=\xff", b"application/openmetrics-text;version=1.x"),
    b"application/openmetrics-text;version=" + b"9" * 5000,
    b"application/openmetrics-text;version=1.0.0;escaping=\xff",
    *(b"application/json;charset=\xff", b"gzip;q=\xff", b"W/", b"*"),
    *(b"http://[", b"http://[::1", b"http://x:99999999999", b"http://x:\xd9\xa3"),
    *(b"Bearer", b"Bearer \xff", b"Basic \xff", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00"),
)
HEADERS = (
    *("Accept", "Accept-Encoding", "Authorization", "Content-Type", "Expect", "Host", "If-None-Match"),
    *("Last-Event-ID", "Origin", "Sec-Fetch-Site", "Upgrade", "traceparent"),
)
REQUESTS = ("GET /metrics", "GET /health", "GET /", "GET /api/logs", "HEAD /api/events", "POST /api/session", "GET /no")


@pytest.mark.parametrize("header", HEADERS)
async def test_no_header_that_is_read_makes_a_request_fail(header: str) -> None:
    """Bytes that are not text, huge numbers, and incomplete addresses yield no 5xx status and no log entry."""
    async with serving() as served:
        token = b"" if header == "Authorization" else BEARER.encode()
        rest = token if header == "Host" else b"Host: x\r\n" + token
        for request in REQUESTS:
            body = b"Content-Length: 2\r\n%b\r\n{}" if request.startswith("POST") else b"%b\r\n"
            answers = await asyncio.gather(
                *(
                    served.send(
                        f"{request} HTTP/1.1\r\nConnection: close\r\n{header}: ".encode()
                        + body.replace(b"%b", rest).join((nasty + b"\r\n", b""))
                    )
                    for nasty in NASTY
                )
            )
            assert max(answer.status for answer in answers) < 500
        assert not [text for text in served.remembered() if "failed" in text]
