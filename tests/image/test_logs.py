"""The entries that Docker's json-file driver stores: each line is one entry, and none is split."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

LINES = r"""
import sys, time
print("x" * 40000)
print("an ordinary line")
sys.stderr.write("to the other stream\n")
print('{"level": "warn", "message": "structured", "number": 7}', flush=True)
for number in range(500): print(f"line {number}")
sys.stdout.write("the last, without a newline")
"""
LIMIT_BYTES = 16 * 1024


def _stored(box: Container) -> list[dict[str, str]]:
    """Return the driver's entries from the disk."""
    with open(box.inspect()["LogPath"], encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_a_line_is_an_entry(run: Run) -> None:
    """Docker splits at 16 KiB: each entry is a complete JSON line below that, and no line is lost or out of order."""
    env = {"SUPERVISOR_LOG_FORMAT": "json", "SUPERVISOR_APP_HEALTH_URL": "", "SUPERVISOR_RESTART": "never"}
    with run("python3", "-c", LINES, **env) as box:
        assert box.wait_end() == 0
        entries = _stored(box)
    assert all(entry["log"].endswith("\n") and len(entry["log"].encode()) <= LIMIT_BYTES for entry in entries)
    records = [json.loads(entry["log"]) for entry in entries]
    of_the_app = [
        record["message"] for record in records if (record["process"], record["stream"]) == ("moltis", "stdout")
    ]
    assert sum(text.count("x") for text in of_the_app if "xxx" in text) == 40000
    assert "an ordinary line" in of_the_app
    assert [text for text in of_the_app if text.startswith("line ")] == [f"line {number}" for number in range(500)]
    assert of_the_app[-1] == "the last, without a newline"
    lifted = next(record for record in records if record["message"] == "structured")
    assert (lifted["level"], lifted["number"], lifted["stream"]) == ("warning", 7, "stdout")
    assert any(record["message"] == "to the other stream" and record["stream"] == "stderr" for record in records)


def test_pretty_lines_are_entries_too(run: Run) -> None:
    """In the format for people each entry names its process, without colours, as there is no terminal."""
    with run("python3", "-c", LINES, SUPERVISOR_APP_HEALTH_URL="", SUPERVISOR_RESTART="never") as box:
        assert box.wait_end() == 0
        entries = _stored(box)
    assert all(entry["log"].startswith(("moltis", "supervisor")) for entry in entries)
    assert all(entry["log"].endswith("\n") and len(entry["log"].encode()) <= LIMIT_BYTES for entry in entries)
    assert not any("\x1b" in entry["log"] for entry in entries)
