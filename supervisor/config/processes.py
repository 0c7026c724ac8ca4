"""Reads `[process.NAME]` tables."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from supervisor.config import parsers
from supervisor.config.diagnostics import Report, nearest, shown
from supervisor.config.model import ExtraProcess
from supervisor.config.parsers import UnfitError
from supervisor.core.process import HttpProbe, Restart, TcpProbe

if TYPE_CHECKING:
    from collections.abc import Callable

# SIGKILL asks for nothing, SIGSTOP ends nothing; the first real-time signal number differs between libraries.
LAST_SIGNAL = 31


def read_process(path: str, name: str, table: object, report: Report) -> ExtraProcess | None:
    """Return the process that a table describes; None where it is not good enough to go on with."""
    where = f"[process.{name}] of {path}"
    try:
        parsers.process_name(name)
    except UnfitError as error:
        report.problem(f"use {where}", str(error), f"write {parsers.NAME.form}")
        return None
    if not isinstance(table, dict):
        report.problem(f"use {where}", "it is not a table", f"write [process.{name}] on a line of its own")
        return None
    values: dict[str, object] = {}
    for key, value in table.items():
        if key not in _FIELDS:
            hint = nearest(key, _FIELDS)
            report.problem(
                f"use {key} in {where}", f"there is no such field{hint}", f"write one of {', '.join(_FIELDS)}"
            )
            continue
        field, parse, form = _FIELDS[key]
        try:
            values[field] = parse(value)
        except UnfitError as error:
            report.problem(f"use {key} in {where}", str(error), f"write {form}")
    if "command" not in table:
        report.problem(f"use {where}", "it has no command", 'write command = ["program", "argument"]')
    if "command" not in values:
        return None
    return ExtraProcess(name=name, **values)  # type: ignore[arg-type]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise UnfitError("it is not text")
    return parsers.plain(value)


def _command(value: object) -> tuple[str, ...]:
    words = _texts(value)
    if not words or not words[0]:
        raise UnfitError("it names no program")
    return words


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UnfitError("it is not a list of words")
    if any("\0" in item for item in value):
        raise UnfitError("it has a NUL character")
    return tuple(value)


def _environment(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise UnfitError("it is not a table")
    for name, text in value.items():
        if not name or "=" in name or "\0" in name:
            raise UnfitError(f"{shown(name)} cannot be the name of a variable")
        if not isinstance(text, str) or "\0" in text:
            raise UnfitError(f"the value of {name} is not text")
    return dict(value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise UnfitError("it is neither true nor false")
    return value


def _restart(value: object) -> Restart:
    try:
        return Restart(value)
    except ValueError as error:
        raise UnfitError("there is no such choice") from error


def _signal(value: object) -> int:
    if isinstance(value, str):
        try:
            number = int(signal.Signals["SIG" + value.upper().removeprefix("SIG")])
        except KeyError as error:
            raise UnfitError("there is no such signal") from error
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise UnfitError("it is not a signal")
    if number in {signal.SIGKILL, signal.SIGSTOP} or not 1 <= number <= LAST_SIGNAL:
        raise UnfitError("a process cannot be asked to end with it")
    return number


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise UnfitError("it is not a duration")
    return parsers.duration_s(value)


def _health(value: object) -> HttpProbe | TcpProbe:
    text = _text(value)
    if text.startswith("tcp://"):
        host, port = parsers.address(text.removeprefix("tcp://"))
        return TcpProbe(host or "127.0.0.1", port)
    return HttpProbe(parsers.url(text))


_FIELDS: dict[str, tuple[str, Callable[[object], object], str]] = {
    "command": ("command", _command, 'a list of words such as ["program", "argument"]'),
    "user": ("user", _text, "the name of a user in the image"),
    "env": ("env", _environment, 'a table of texts such as { LEVEL = "info" }'),
    "critical": ("critical", _switch, "true or false"),
    "after": ("after", _texts, 'a list of process names such as ["moltis"]'),
    "restart": ("restart", _restart, "one of always, on-failure, never"),
    "stop_signal": ("stop_signal", _signal, 'a signal such as "TERM" or "INT"'),
    "stop_timeout": ("stop_timeout_s", _duration, "a duration such as 500ms, 10s or 5m, in quotes"),
    "health": ("health", _health, "a URL such as http://127.0.0.2:9000/health, or tcp://127.0.0.2:9000"),
}
