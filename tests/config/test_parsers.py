"""Which texts the settings accept."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config import parsers
from supervisor.config.parsers import InvalidValueError
from supervisor.config.settings import SETTINGS
from supervisor.core.process import GiveUp

# The routes by which subnets with the same IPv4 addresses are told apart.
VIA = "fd7a:115c:a1e0:b1a:"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("5m", 300), ("1h", 3600), ("1m30s", 90), ("0", 0), ("0s", 0), ("1.5s", 1.5)],
)
def test_durations(text: str, seconds: float) -> None:
    """The forms of the contract and those of Go are accepted."""
    assert parsers.duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-5s", "5 s", "5d", "1e3s", "inf", "\u0661s", "9999999h", "5s\n", "NaNs"]
)
def test_what_is_no_duration(text: str) -> None:
    """The unit of a plain number is not guessed."""
    with pytest.raises(InvalidValueError):
        parsers.duration_s(text)


@given(st.floats(0, 10_000))
def test_a_duration_means_what_it_says(seconds: float) -> None:
    """Seconds and milliseconds are converted correctly."""
    text = f"{seconds:.3f}"
    assert parsers.duration_s(f"{text}s") == pytest.approx(float(text))
    assert parsers.duration_s(f"{text}ms") == pytest.approx(float(text) / 1000)


@given(st.text(), st.sampled_from(sorted({row.parser for row in SETTINGS}, key=str)))
def test_a_parser_takes_or_refuses_and_nothing_else(text: str, kind: parsers.Parser) -> None:
    """For any text, the result is a value or a reason."""
    with suppress(InvalidValueError):
        kind.parse(text)


@pytest.mark.parametrize(("text", "value"), [("10/5m", GiveUp(10, 300)), ("1/1s", GiveUp(1, 1)), ("never", None)])
def test_give_up(text: str, value: GiveUp | None) -> None:
    """A count and a window."""
    assert parsers.GIVE_UP.parse(text) == value


@pytest.mark.parametrize("text", ["10", "0/5m", "x/5m", "5/0s", "5/never", "/5m", "5/"])
def test_what_is_no_give_up(text: str) -> None:
    """Each has a part that is missing, zero or invalid."""
    with pytest.raises(InvalidValueError):
        parsers.give_up(text)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "192.168.1.0/24,fd00::/8", "::/0,0.0.0.0/0", f"{VIA}0:7:a01:100/120"])
def test_routes(text: str) -> None:
    """Address ranges are accepted in the form that the tailnet requires."""
    assert ",".join(parsers.routes(text)) == text


def test_a_route_that_is_given_twice() -> None:
    """It counts once, however it is spelled."""
    assert parsers.routes("10.0.0.0/8,fd00::/64, FD00:0::/64,10.0.0.0/255.0.0.0") == ("10.0.0.0/8", "fd00::/64")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1/8", "host bits"),
        ("127.0.0.0/8", "loopback"),
        ("10.0.0.0", "no prefix length"),
        ("nonsense/8", "not an address range"),
        ("::1/128", "loopback"),
        ("0.0.0.0/0", "without ::/0"),
        ("10.0.0.0/8,::/0", "without 0.0.0.0/0"),
        ("fe80::%eth0/64", "zone"),
        ("fd7a:115c:a1e0:b1a::/64", "at least 96"),
        (f"{VIA}1:0:a01:100/120", "site 65536"),
    ],
)
def test_what_is_no_route(text: str, why: str) -> None:
    """tailscaled would accept these silently, or refuse all preferences because of them."""
    with pytest.raises(InvalidValueError, match=why):
        parsers.routes(text)


@pytest.mark.parametrize("text", ["moltis", "tag:", "tag:1x", "tag:a b", "TAG:x"])
def test_what_is_no_tag(text: str) -> None:
    """tailscaled would accept these tags silently too."""
    with pytest.raises(InvalidValueError):
        parsers.tags(text)


@pytest.mark.parametrize("text", ["bad host!", "-x", "x-", "a" * 64, "a..b", ""])
def test_what_is_no_host_name(text: str) -> None:
    """tailscaled would accept these host names silently too."""
    with pytest.raises(InvalidValueError):
        parsers.host_name(text)


def test_a_bracket_that_is_not_closed() -> None:
    """It is refused here, as the code that splits a URL later does not expect it."""
    assert parsers.url("https://[::1]:443/") == "https://[::1]:443/"
    with pytest.raises(InvalidValueError):
        parsers.url("https://[::1/")
