"""The log format for people."""

from __future__ import annotations

import json
import re

from tests.logs.rig import Rig, said

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


async def test_lines_have_their_process_in_a_margin() -> None:
    """The margin is as wide as the longest name; a process with an unknown name gets its own width."""
    assert await said(b"one\n\n\ttwo") == "moltis     │ one\nmoltis     │ \nmoltis     │ \ttwo\n".encode()
    assert await said(b"x\n", process="z") == "z          │ x\n".encode()


async def test_own_records_are_short() -> None:
    """A record is its message and fields, with the last lines below; None is omitted, secrets are masked."""
    rig = Rig(secrets=["geheimnis"])
    rig.log.record(
        "error", "exited", child="moltis", code=1, signal=None, why="a geheimnis", last_lines=("x", "y \x1b[2J")
    )
    lines = rig.end().decode().splitlines()
    assert re.fullmatch(f'supervisor │ {STAMP} ERROR exited child=moltis code=1 why="a \\[redacted\\]"', lines[0])
    assert lines[1:] == ["supervisor │     x", "supervisor │     y \\x1b[2J"]
    (line,) = rig.log.history.read().lines
    assert (line.process, line.level) == ("supervisor", "error")
    assert line.message == 'exited child=moltis code=1 why="a [redacted]" last_lines=x,"y \\x1b[2J"'


async def test_a_story_is_read_by_people_and_by_programs() -> None:
    """People get what happened and why; the last record, and readers of the history, get the whole story as JSON."""
    story = {"id": "1", "what": "moltis crashed", "why": "exit code 3", "cause": "it said \n", "done": "", "code": 3}
    rig = Rig()
    rig.log.record("error", "incident", story=story)
    rig.log.record("info", "stopped", status=70, why="it failed", story=story)
    first, last, whole = (line.partition("│ ")[2] for line in rig.end().decode().splitlines())
    assert first.endswith('ERROR incident what="moltis crashed" why="exit code 3" cause="it said  ⏎ "')
    assert last.endswith('stopped status=70 why="it failed" what="moltis crashed" cause="it said  ⏎ "')
    assert json.loads(whole) == story
    for line in rig.log.history.read().lines:
        assert json.loads(line.message.partition(" story=")[2]) == story


async def test_colours_are_ours_alone() -> None:
    """On a terminal, names and levels are coloured; values of a record are not."""
    rig = Rig(color=True)
    rig.log.record("warning", "odd", why="\x1b[31mred")
    out = rig.end()
    assert b"\x1b[33mWARNING\x1b[0m odd" in out
    assert b"\x1b[31m" not in out.split(b"odd")[1]


async def test_revealed_values_are_in_the_log_alone() -> None:
    """A login URL is shown in the container's log, but not to readers of the history."""
    rig = Rig()
    url = "https://login.tailscale.com/a/1234"
    rig.log.log_unredacted("info", "to log in, visit", {"url": url}, who=url)
    assert f"who=[redacted] url={url}\n".encode() in rig.end()
    (line,) = rig.log.history.read().lines
    assert line.message == "to log in, visit who=[redacted] url=[redacted]"


async def test_a_colour_code_does_not_hide_a_secret() -> None:
    """Whether colours are removed or kept for a terminal, the secret is masked."""
    for color in (True, False):
        out = await said(b"a geh\x1b[31meimnis\x1b[0m b\n", color=color, secrets=["geheimnis"])
        assert b"a [redacted]" in out
        assert b"meimnis" not in out


async def test_tailscaleds_login_url_is_masked() -> None:
    """Anyone who reads the URL can take over the device."""
    out = await said(b"2026/11/22 21:36:03 control: AuthURL is https://hs.example.com/register/x\n", "tailscaled")
    assert out.endswith(b"AuthURL is [redacted]\n")


async def test_the_setup_code_is_on_the_terminal_alone() -> None:
    """The owner needs the setup code in the container's log; the API does not show it."""
    rig = Rig()
    await rig.say(b"\x1b[32m INFO\x1b[0m moltis: setup code: AB12CD34\n")
    assert rig.log.history.read().lines[0].message == " INFO moltis: setup code: [redacted]"
    assert rig.log.history.tail("moltis", 1) == (" INFO moltis: setup code: [redacted]",)
    assert b"setup code: AB12CD34" in rig.end()
