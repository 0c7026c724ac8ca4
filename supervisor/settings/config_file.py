"""Reads the TOML file: `[settings]` as text, as the environment would give it, and the `[process.NAME]` tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.settings import kinds
from supervisor.settings.names import OURS, sort_out
from supervisor.settings.processes import read_process
from supervisor.settings.report import Report, nearest
from supervisor.settings.table import BY_SPELLING

if TYPE_CHECKING:
    from supervisor.settings.model import ExtraProcess

MOST_BYTES = 1024 * 1024


class ConfigFile:
    """What one TOML file says."""

    __slots__ = ("knobs", "processes", "settings")

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}
        self.knobs: dict[str, str] = {}
        self.processes: tuple[ExtraProcess, ...] = ()


def read(path: str, report: Report) -> ConfigFile:
    """Read the file; whatever is wrong with it goes into the report."""
    found = ConfigFile()
    text = _text_of(path, report)
    if text is None:
        return found
    # Loaded where there is a file to read: most have none.
    import tomllib

    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        report.problem(f"read {path}", f"it is not TOML: {error or 'too deeply nested'}", "mend that line")
        return found
    _take_settings(path, document.pop("settings", {}), found, report)
    _take_processes(path, document.pop("process", {}), found, report)
    for name in document:
        hint = nearest(name, ("settings", "process"))
        report.problem(f"use [{name}] in {path}", f"no such table is known{hint}", "write [settings] or [process.NAME]")
    return found


def _text_of(path: str, report: Report) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            chunks: list[bytes] = []
            while sum(len(chunk) for chunk in chunks) <= MOST_BYTES and (chunk := os.read(fd, MOST_BYTES)):
                chunks.append(chunk)
        finally:
            os.close(fd)
    except OSError as error:
        report.problem(
            f"read {path}", error.strerror or str(error), "check --config or SUPERVISOR_CONFIG, and its rights"
        )
        return None
    data = b"".join(chunks)
    if len(data) > MOST_BYTES:
        report.problem(f"read {path}", f"it has more than {MOST_BYTES} bytes", "check --config or SUPERVISOR_CONFIG")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        report.problem(f"read {path}", f"it is not UTF-8 text (at line {line})", "save it as UTF-8")
        return None


def _take_settings(path: str, table: object, found: ConfigFile, report: Report) -> None:
    if not isinstance(table, dict):
        report.problem(f"use settings in {path}", "it is not a table", "write [settings] on a line of its own")
        return
    texts: dict[str, str] = {}
    for name, value in table.items():
        if name == "SUPERVISOR_CONFIG":
            report.problem(
                f"use {name} in {path}", "a file cannot name another", "set it in the environment, or use --config"
            )
        elif name not in BY_SPELLING and not name.startswith(OURS):
            hint = nearest(name.upper(), BY_SPELLING)
            report.problem(
                f"use {name} in [settings] of {path}", f"no such setting is known{hint}", "mend or remove it"
            )
        else:
            text = _as_text(name, value)
            if text is None or "\0" in text:
                report.problem(f"use {name} in {path}", "its value is not text", f'write {name} = "…"')
            else:
                texts[name] = text
    found.settings, found.knobs = sort_out(texts, f" in {path}", report)


def _as_text(name: str, value: object) -> str | None:
    """Return a TOML value as the environment would hold it; None where it cannot."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        row = BY_SPELLING.get(name)
        if row is not None and row.kind in {kinds.COMMAND, kinds.WORDS}:
            from shlex import join

            return join(value)
        return ",".join(value)
    return None


def _take_processes(path: str, tables: object, found: ConfigFile, report: Report) -> None:
    if not isinstance(tables, dict):
        report.problem(f"use process in {path}", "it is not a table", "write [process.NAME] on a line of its own")
        return
    read_all = [read_process(path, name, table, report) for name, table in tables.items()]
    found.processes = tuple(process for process in read_all if process is not None)
