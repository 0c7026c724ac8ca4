"""When credentials expire, and how health reports it."""

from __future__ import annotations

import base64
import subprocess
from typing import TYPE_CHECKING

import pytest

from supervisor.core.credentials import expiries
from supervisor.core.health import assess
from supervisor.core.snapshot import ServeView, Snapshot, TailnetView
from supervisor.tailnet.serve.certificates import expiry_of

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 24 * 3600.0
# 2026-01-01T00:00:00Z.
BEGIN_S = 1767225600.0
UP = TailnetView("embedded", "connected", up=True)


def at_day(days: float, **more: object) -> Snapshot:
    """Return a snapshot on this day of a connected device whose key and certificate expire on the 31st of January."""
    serve = ServeView(certificate_expiry="2026-01-31T00:00:00Z")
    view = UP._replace(key_expiry="2026-01-31T00:00:00Z", serve=serve)
    return Snapshot(tailnet=view, wall_offset_s=BEGIN_S + days * DAY_S, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("day", "state"), [(10, ""), (15.9, ""), (16.1, "expiring"), (26, "expiring"), (27.1, "expiring soon"), (30.1, "")]
)
def test_two_warnings(day: float, state: str) -> None:
    """They come fourteen and three days before, and none after the expiry: that shows where it was needed."""
    parts = {part.name: part for part in assess(at_day(day), 0.0).components}
    assert (parts["credentials"].state if "credentials" in parts else "") == state
    if state:
        assert "node key" in parts["credentials"].why
        assert "certificate" in parts["credentials"].why


def test_time_alone_brings_the_next_one() -> None:
    """Health is assessed again when a warning is due, though nothing changes; the second differs from the first."""
    first = assess(at_day(0), 0.0)
    assert first.until_s == 16 * DAY_S
    assert assess(at_day(20), 0.0).wrong != assess(at_day(28), 0.0).wrong


def test_switched_off() -> None:
    """The verdict does not mention credentials."""
    verdict = assess(at_day(28, credential_warnings=False), 0.0)
    assert (verdict.status, verdict.until_s) == ("pass", None)


def test_an_end_that_cannot_be_read_is_none() -> None:
    """What control sends is not trusted."""
    assert not list(expiries(Snapshot(tailnet=UP._replace(key_expiry="soon")), 0.0))


def test_a_certificate_tells_its_end(tmp_path: Path) -> None:
    """This is a real one, made by openssl, with its chain behind it; of anything else the expiry is unknown."""
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=a",
    ]
    made = [*words, "-days", "30", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    subprocess.run(made, check=True, capture_output=True)
    pem = (tmp_path / "cert").read_bytes()
    told = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", str(tmp_path / "cert")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert expiry_of(pem + pem).replace("T", " ") == told.strip().removeprefix("notAfter=")
    assert [expiry_of(data) for data in (b"", pem[:200], pem.replace(b"MII", b"AAA", 1))] == ["", "", ""]


@pytest.mark.parametrize("digits", [b"ab1124061346Z", b"26112406134aZ", b"2611240613460", b"\xff61124061346Z"])
def test_the_end_of_a_certificate_that_is_no_time(digits: bytes) -> None:
    """It is unknown, and nothing fails because of it."""

    def part(tag: int, content: bytes) -> bytes:
        return bytes([tag, len(content)]) + content

    validity = part(0x30, part(0x17, b"260101000000Z") + part(0x17, digits))
    certificate = part(0x30, part(0x30, part(2, b"1") + part(0x30, b"") + part(0x30, b"") + validity))
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(certificate) + b"\n-----END CERTIFICATE-----\n"
    assert expiry_of(pem) == ""
    good = pem.replace(base64.b64encode(certificate), base64.b64encode(certificate.replace(digits, b"491231235959Z")))
    assert expiry_of(good) == "2049-12-31T23:59:59Z"
