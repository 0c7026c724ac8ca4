"""The level of a line."""

from __future__ import annotations

import pytest

from supervisor.logs.lines import Source
from supervisor.logs.parse import parse_batch, parse_line
from supervisor.logs.redact import Redactor

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
        ("2026/08/21 10:00:00 ERROR x", "error"),
        ("2026/08/21 10:00:00 x ERROR", "info"),
        ("[2026-08-21 10:00:00,123] WARNING x", "warning"),
        ("[2026-08-21T10:00:00Z ERROR app] x", "error"),
        ("time=2026-08-21T10:00:00.000+02:00 level=ERROR msg=x", "error"),
        ('time="2026-08-21 10:00" level=warning msg="x"', "warning"),
        ("ts=2026-08-21T10:00:00Z caller=main.go:7 level=debug msg=x", "debug"),
        ('level=error msg="x"', "error"),
        ('lvl="fatal"', "critical"),
        ("level=info msg=x", "info"),
        ("level=errors msg=x", "info"),
        ("msg=x level=error", "info"),
        ("nothing about an ERROR here", "info"),
        ("", "info"),
    ],
)
def test_of_an_app(text: str, level: str) -> None:
    """The levels of Moltis' own lines, of lines of common loggers, and of crashes are recognised."""
    for before, after in ((0, 0), (3, 2)):
        lines = "x\n" * before + f"{text}\n" + "{}\n" * after
        assert levels_of(lines.encode()) == ({} if level == "info" else {before: level})


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ('{"timestamp":"t","level":"WARN","fields":{"message":"m"}}', "warning"),
        ('{"fields":{"level":"ERROR"},"level":"DEBUG"}', "debug"),
        ('{"level": 50, "msg":"m"}', "error"),
        ('{"\\u006cevel":"fatal"}', "critical"),
        ('{"fields":{"level":"ERROR"}}', "info"),
        ('{"level":"loud"}', "info"),
        ('{"level":["WARN"]}', "info"),
        ('{"level":"WARN"', "info"),
        ('{"level":"WARN","a":"\\ud800"}', "info"),
    ],
)
def test_an_object_says_its_level_itself(line: str, level: str) -> None:
    """An object's level is used in both log formats, among other objects and among other lines."""
    expected = {} if level == "info" else {1: level}
    for records in (True, False):
        for lines in (f"{{}}\n{line}\n{{}}\n", f"x\n{line}\nx\n"):
            assert levels_of(lines.encode(), records=records) == expected


def levels_of(lines: bytes, process: str = "moltis", *, records: bool = False) -> dict[int, str]:
    """Return the levels other than info, by the position of their line."""
    return dict(parse_batch(Source(process, "stdout"), lines, lines, lines.count(b"\n"), records=records).levels)


def test_of_tailscaled() -> None:
    """Only tailscaled's lines are parsed as tailscaled's."""
    line = b"health(warnable=not-in-map-poll): error: x"
    assert levels_of(line + b"\n", "tailscaled") == {0: "warning"}
    assert levels_of(line + b"\n") == {}
    assert parse_line("tailscaled", line, Redactor()).topic == "health"
    assert parse_line("moltis", line, Redactor()).topic == ""


@pytest.mark.parametrize("number", ["1" * 5000, "-" + "9" * 5000, "1e99999", "18446744073709551616"])
@pytest.mark.parametrize(
    "form", ['{{"message":"x","n":{0}}}', '{{"level":{0}}}', '{{"fields":{{"message":"x","n":{0}}}}}']
)
def test_a_number_that_cannot_be_read_is_shown_as_it_stands(form: str, number: str) -> None:
    """An app may log a number with thousands of digits, and its last lines are read when it exits."""
    assert number in parse_line("moltis", form.format(number).encode(), Redactor([])).message
