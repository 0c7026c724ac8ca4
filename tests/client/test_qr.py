"""The QR code in the terminal: it shows the URL, whatever the terminal's colours."""

from __future__ import annotations

import pytest
import segno

from tests.client.answering import NEEDS_LOGIN, Supervisor, answering
from tests.client.calling import on_terminal

URL = "https://login.tailscale.com/a/0123456789abcdef"
INK = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
BLACK_ON_WHITE = "\x1b[30;107m"


def showing_url(supervisor: Supervisor) -> None:
    """Make it offer a login URL."""
    order = {"id": "0123456789abcdef", "state": "waiting", "why": None}
    status = {**NEEDS_LOGIN, "auth_url_pending": True, "orders": [order]}
    supervisor.given["GET /api/tailscale/status"] = (200, status)
    supervisor.given["GET /api/tailscale/auth-url"] = (200, {"auth_url": URL})
    supervisor.given["POST /api/tailscale/connect"] = (202, {"ok": True, "order": order["id"]})


def modules(lines: list[str], dark: int) -> list[list[int]]:
    """Return the modules drawn, 1 for dark; ``dark`` is the ink value that counts as dark."""
    pairs = [[INK[character] for character in line] for line in lines]
    rows = [[pair[half] for pair in line] for line in pairs for half in (0, 1)]
    return [[int(ink == dark) for ink in row] for row in rows]


@pytest.mark.parametrize("words", [("auth-url", "--qr"), ("connect",)])
@pytest.mark.parametrize("no_color", ["", "1"])
def test_it_can_be_scanned(words: tuple[str, ...], no_color: str) -> None:
    """It is dark on light if colours may be used, else for light text on a dark background, as in most terminals."""
    with answering() as supervisor:
        showing_url(supervisor)
        out = on_terminal(supervisor.folder, *words, NO_COLOR=no_color).out
    assert URL in out
    lines = out.splitlines()
    if no_color:
        drawn = modules([line for line in lines if line and not set(line) - set(INK)], dark=0)
    else:
        colored = [line.removeprefix(BLACK_ON_WHITE) for line in lines if line.startswith(BLACK_ON_WHITE)]
        drawn = modules([line.removesuffix("\x1b[0m") for line in colored], dark=1)
    wanted = [list(row) for row in segno.make_qr(URL).matrix_iter(border=2)]
    assert drawn[: len(wanted)] == wanted
    assert not any(map(any, drawn[len(wanted) :]))


def test_a_terminal_that_is_too_narrow() -> None:
    """The URL is shown, the code is not."""
    with answering() as supervisor:
        showing_url(supervisor)
        out = on_terminal(supervisor.folder, "auth-url", "--qr", columns=30).out
    assert URL in out.replace("\n", "")
    assert "too narrow" in out
    assert "█" not in out
