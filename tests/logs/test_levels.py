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
        assert any(marker in text.encode() for marker in levels.MARKERS)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("Switching ipn state NeedsLogin -> Starting (WantRunning=true, nm=true)", "info"),
        ("[v1] netcheck: report", "debug"),
        ("[v2] x", "debug"),
        ("magicsock: home is now derp-999", "debug"),
        ("netstack: could not connect", "debug"),
        ("health(warnable=not-in-map-poll): error: x", "warning"),
        ("health(warnable=not-in-map-poll): ok", "info"),
        ("Received error: register request: http 400", "warning"),
        ("safesocket.Listen: address already in use", "error"),
        ("panic: x", "error"),
    ],
)
def test_of_tailscaled(text: str, level: str) -> None:
    """With its time before it or without."""
    assert levels.of_line("tailscaled", f"2026/11/22 21:36:03 {text}") == level
    assert levels.of_line("tailscaled", text) == level
