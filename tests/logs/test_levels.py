"""How bad a line says it is."""

from __future__ import annotations

import pytest

from supervisor.logs import levels

STAMP = "2026-08-21T10:00:00.000000Z "


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (f"{STAMP} INFO moltis::httpd: listening", "info"),
        (f"{STAMP} WARN moltis::httpd: SPA request", "warning"),
        (f"{STAMP}ERROR moltis::gateway: request{{id=1}}: failed", "error"),
        (f"{STAMP}DEBUG moltis: x", "debug"),
        (f"{STAMP}TRACE moltis: x", "debug"),
        ("Error: cannot bind", "error"),
        ("Caused by:", "error"),
        ("thread 'main' panicked at src/main.rs:1:", "error"),
        ("Traceback (most recent call last):", "error"),
        ("[ERROR] x", "error"),
        ("nothing about an ERROR here", "info"),
        ("", "info"),
    ],
)
def test_of_an_app(text: str, level: str) -> None:
    """Moltis' own lines, and what a crash looks like."""
    assert levels.of_line("moltis", text) == level
    if level != "info":
        assert levels.suspect().search(b"\n" + text.encode())


def test_of_tailscaled() -> None:
    """Its lines are read as its own, and no other's are."""
    line = "health(warnable=not-in-map-poll): error: x"
    assert (levels.of_line("tailscaled", line), levels.topic_of_line("tailscaled", line)) == ("warning", "health")
    assert (levels.of_line("moltis", line), levels.topic_of_line("moltis", line)) == ("info", "")
