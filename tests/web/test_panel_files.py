"""The panel's files as a browser gets them: small, under a strict policy, and only the existing ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest

from supervisor.web import static
from tests.conventions.tree import ROOT
from tests.web.serving import BEARER, Answer, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.serving import Served

FOLDER = ROOT / "supervisor/web/panel"
NAMES = sorted(path.name for path in FOLDER.iterdir())
ASSETS = [name for name in NAMES if name != "index.html"]
GZIP = "Accept-Encoding: gzip, deflate, br\r\n"
MOST_BYTES = 60 * 1024
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
# Text that an edge might take for an address and rewrite.
EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w")


def text_of(name: str) -> str:
    """Return a file's text."""
    return (FOLDER / name).read_text(encoding="utf-8")


async def wire_bytes(served: Served, path: str) -> int:
    """Return the size of a response in bytes, including the head."""
    reader, writer = await served.connect()
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{GZIP}\r\n".encode())
        data = await reader.read()
    finally:
        writer.close()
    assert Answer.of(data).status == 200, path
    return len(data)


async def test_the_whole_panel_is_small() -> None:
    """Everything that a first visit loads is counted, including headers."""
    async with serving() as served:
        total = await wire_bytes(served, "/")
        for name in ASSETS:
            total += await wire_bytes(served, f"/panel/{name}")
    assert total < MOST_BYTES


@pytest.mark.parametrize("path", ["/", *(f"/panel/{name}" for name in ASSETS)])
async def test_each_file_as_it_is(path: str) -> None:
    """The content is that of the file, compressed or not, with its type and a strict policy."""
    name = path.rpartition("/")[2] or "index.html"
    async with serving() as served:
        plain = await served.ask("GET", path)
        packed = await served.ask("GET", path, GZIP)
    assert (plain.status, packed.status) == (200, 200)
    assert plain.body == zlib.decompress(packed.body, 31) == (FOLDER / name).read_bytes()
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["ETag"] != packed.headers["ETag"]
    for answer in (plain, packed):
        assert answer.headers["Content-Type"] == TYPES.get(os.path.splitext(name)[1], "text/html; charset=utf-8")
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' data:",
            "connect-src": "'self'",
            "form-action": "'none'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
        }


@pytest.mark.parametrize("head", ["", GZIP])
async def test_what_a_browser_has_is_not_sent_again(head: str) -> None:
    """Its tag matches, weakened by a proxy or not; another tag gets the file."""
    async with serving() as served:
        tag = (await served.ask("GET", "/", head)).headers["ETag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = await served.ask("GET", "/", f"{head}If-None-Match: {known}\r\n")
            assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag)
            assert "Content-Encoding" not in answer.headers
        assert (await served.ask("GET", "/", f'{head}If-None-Match: "other"\r\n')).status == 200


@pytest.mark.parametrize(
    ("head", "packed"),
    [
        ("Accept-Encoding: GZIP;q=0.5\r\n", True),
        ("Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", True),
        ("Accept-Encoding: *\r\n", True),
        ("Accept-Encoding: gzip;q=0\r\n", False),
        ("Accept-Encoding: gzip; q=0.000, br\r\n", False),
        ("Accept-Encoding: br, identity\r\n", False),
        ("Accept-Encoding:\r\n", False),
        ("Accept-Encoding: *, gzip;q=0\r\n", False),
        ("Accept-Encoding: gzip;Q=0\r\n", False),
        ("Accept-Encoding: *;q=0, gzip\r\n", True),
    ],
)
async def test_packed_for_those_alone_who_take_it(head: str, packed: bool) -> None:  # noqa: FBT001 - a table's column
    """The header is understood in any form."""
    async with serving() as served:
        for path, more in (("/panel/main.js", ""), ("/metrics", BEARER)):
            answer = await served.ask("GET", path, head + more)
            assert ("Content-Encoding" in answer.headers) == packed, path


async def test_head() -> None:
    """Only the headers are sent, with the length of the omitted body."""
    async with serving() as served:
        whole, head = [await served.ask(verb, "/panel/style.css", GZIP) for verb in ("GET", "HEAD")]
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.body))
    assert head.headers["ETag"] == whole.headers["ETag"]


@pytest.mark.parametrize(
    "path",
    [
        "/panel/",
        "/panel/index.html",
        "/panel/nothing.js",
        "/panel/../server.py",
        "/panel/..%2fserver.py",
        "/panel/%2e%2e%2fserver.py",
        "/panel/..%5cserver.py",
        "/panel/.%00./main.js",
        "/panel/main.js%00.css",
        "/panel//main.js",
        "/panel/%2fetc%2fpasswd",
        "/panel/main.js/",
        "/main.js",
    ],
)
async def test_nothing_else_is_given(path: str) -> None:
    """Only names of existing files lead to a file."""
    async with serving() as served:
        assert (await served.ask("GET", path)).refusal == (404, "NOT_FOUND")


async def test_nothing_is_read_before_the_first_browser() -> None:
    """If the panel is never opened, it takes no memory."""
    static._files.cache_clear()
    async with serving() as served:
        for path in ("/health", "/api/processes"):
            await served.get(path)
        assert static._files.cache_info().currsize == 0
        await served.ask("GET", "/")
        assert static._files.cache_info().currsize == 1


def test_nothing_is_loaded_before_the_first_browser() -> None:
    """Not even the module that serves it is loaded."""
    loaded = "import sys, supervisor.web.server; sys.exit('supervisor.web.static' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_an_edge_would_rewrite(name: str) -> None:
    """There are no texts that look like e-mail addresses, no absolute paths and nothing from elsewhere."""
    text = text_of(name)
    assert not EMAIL.search(text)
    assert not re.search(r"""(?:src|href|from|fetch\()\s*=?\s*["'`](?:/|https?:)""", text)
    assert not re.search(r"\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert not re.search(r"""\bstyle\s*=\s*["']|\bon[a-z]+\s*=\s*["']""", text)


def test_every_file_is_used() -> None:
    """Each is loaded by the page or by another file, and every loaded file exists."""
    page = text_of("index.html")
    used = set(re.findall(r'(?:src|href)="\./panel/([\w.-]+)"', page))
    for name in ASSETS:
        used |= set(re.findall(r'from "\./([\w.-]+)"', text_of(name)))
    assert used == set(ASSETS)


def test_the_wheel_has_them(tmp_path: Path) -> None:
    """The installed package serves the panel too."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {f"supervisor/web/panel/{name}" for name in NAMES} <= inside
