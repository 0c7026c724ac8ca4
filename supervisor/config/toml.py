"""Reads the TOML file: `[settings]` as text, as the environment would give it, and the `[process.NAME]` tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config import parsers
from supervisor.config.diagnostics import Report, nearest
from supervisor.config.processes import read_process
from supervisor.config.table import BY_SPELLING
from supervisor.config.tailscale_env import OURS, sort_out
from supervisor.system import dirs

if TYPE_CHECKING:
    from supervisor.config.model import ExtraProcess

MOST_BYTES = 1024 * 1024
_MOST_BITS = 64


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
    try:
        text = dirs.read_text(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        report.problem(f"read {path}", dirs.reason(error), "check --config or SUPERVISOR_CONFIG, and the file")
        return found
    # Loaded where there is a file to read: most have none.
    import tomllib

    try:
        document = tomllib.loads(text)
    except RecursionError:
        report.problem(f"read {path}", "it is not TOML: too deeply nested", "make it flatter")
        return found
    except ValueError as error:
        # Python takes no number of more than 4,300 digits.
        known = isinstance(error, tomllib.TOMLDecodeError)
        why = f"it is not TOML: {error}" if known else "a number in it has too many digits"
        report.problem(f"read {path}", why, "mend that line")
        return found
    _take_settings(path, document.pop("settings", {}), found, report)
    _take_processes(path, document.pop("process", {}), found, report)
    for name in document:
        hint = nearest(name, ("settings", "process"))
        report.problem(f"use [{name}] in {path}", f"no such table is known{hint}", "write [settings] or [process.NAME]")
    return found


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
        # Hexadecimal, one may have been read that is too long to be written.
        return str(value) if not isinstance(value, int) or value.bit_length() <= _MOST_BITS else None
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        row = BY_SPELLING.get(name)
        if row is not None and row.kind in {parsers.COMMAND, parsers.WORDS}:
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
