"""Reads the TOML file: `[settings]`, as the environment would give them, and the `[process.NAME]` tables."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from supervisor.config import parsers
from supervisor.config.parsers import InvalidValueError
from supervisor.config.settings import BY_SPELLING, ExtraProcess
from supervisor.config.tailscale_env import OURS, classify
from supervisor.core.process import HttpProbe, Restart, TcpProbe
from supervisor.errors import did_you_mean, quoted
from supervisor.namedtuples import NamedTuple
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.errors import Diagnostics

LARGEST_BYTES = 1024 * 1024
# The first real-time signal number differs between C libraries.
LAST_SIGNAL = 31
_LONGEST_INTEGER_BITS = 64


class ConfigFile(NamedTuple):
    """The contents of a TOML file: settings and tailscaled's variables as text, and further processes."""

    settings: Mapping[str, str]
    passthrough: Mapping[str, str]
    processes: tuple[ExtraProcess, ...]


def read(path: str, diags: Diagnostics) -> ConfigFile:
    """Read the file and report what is wrong with it."""
    document = _document(path, diags)
    texts = _settings(path, document.pop("settings", {}), diags)
    settings, passthrough = classify(texts, f" in {path}", diags)
    processes = _processes(path, document.pop("process", {}), diags)
    for name in document:
        why = f"there is no such table{did_you_mean(name, ('settings', 'process'))}"
        diags.problem(f"use [{name}] in {path}", why, "write [settings] or [process.NAME]")
    return ConfigFile(settings, passthrough, processes)


def _document(path: str, diags: Diagnostics) -> dict[str, object]:
    try:
        text = dirs.read_text(path, LARGEST_BYTES)
    except (OSError, ValueError) as error:
        diags.problem(f"read {path}", dirs.reason(error), "check --config or SUPERVISOR_CONFIG, and the file")
        return {}
    # Loaded when needed: most runs have no file.
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:
        diags.problem(f"read {path}", "invalid TOML: too deeply nested", "make it flatter")
    except ValueError as error:
        # Python limits a number to 4,300 digits.
        why = error if isinstance(error, tomllib.TOMLDecodeError) else "a number has too many digits"
        diags.problem(f"read {path}", f"invalid TOML: {why}", "fix that line")
    return {}


def _settings(path: str, table: object, diags: Diagnostics) -> dict[str, str]:
    texts: dict[str, str] = {}
    if not isinstance(table, dict):
        diags.problem(f"use settings in {path}", "it is not a table", "write [settings] on a line of its own")
        return texts
    for name, value in table.items():
        what = f"use {name} in {path}"
        text = _as_text(name, value)
        if name == "SUPERVISOR_CONFIG":
            diags.problem(what, "a file cannot name another", "set it in the environment, or use --config")
        elif name not in BY_SPELLING and not name.startswith(OURS):
            hint = did_you_mean(name.upper(), BY_SPELLING)
            diags.problem(f"use {name} in [settings] of {path}", f"there is no such setting{hint}", "fix or remove it")
        elif text is None or "\0" in text:
            diags.problem(what, "its value is not text", f'write {name} = "…"')
        else:
            texts[name] = text
    return texts


def _as_text(name: str, value: object) -> str | None:
    """Return a TOML value as an environment variable would hold it; None if it cannot."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python can read longer hexadecimal numbers than it can write as decimal ones.
        return str(value) if value.bit_length() <= _LONGEST_INTEGER_BITS else None
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        return None
    parser = BY_SPELLING[name].parser if name in BY_SPELLING else None
    if parser not in {parsers.COMMAND, parsers.WORDS}:
        return (":" if parser is parsers.FOLDERS else ",").join(value)
    from shlex import join

    return join(value)


def _processes(path: str, tables: object, diags: Diagnostics) -> tuple[ExtraProcess, ...]:
    if not isinstance(tables, dict):
        diags.problem(f"use process in {path}", "it is not a table", "write [process.NAME] on a line of its own")
        return ()
    found = (_process(path, name, table, diags) for name, table in tables.items())
    return tuple(process for process in found if process is not None)


def _process(path: str, name: str, table: object, diags: Diagnostics) -> ExtraProcess | None:
    """Return the process of a table; None if its name or command is invalid."""
    what = f"use [process.{name}] of {path}"
    try:
        parsers.process_name(name)
    except InvalidValueError as error:
        diags.problem(what, str(error), f"write {parsers.NAME.form}")
        return None
    if not isinstance(table, dict):
        diags.problem(what, "it is not a table", f"write [process.{name}] on a line of its own")
        return None
    values: dict[str, object] = {}
    for key, value in table.items():
        what_key = f"use {key} in [process.{name}] of {path}"
        if key not in _FIELDS:
            why = f"there is no such field{did_you_mean(key, _FIELDS)}"
            diags.problem(what_key, why, f"write one of {', '.join(_FIELDS)}")
            continue
        field, parse, form = _FIELDS[key]
        try:
            values[field] = parse(value)
        except InvalidValueError as error:
            diags.problem(what_key, str(error), f"write {form}")
    if "command" not in table:
        diags.problem(what, "it has no command", 'write command = ["program", "argument"]')
    return ExtraProcess(name=name, **values) if "command" in values else None  # type: ignore[arg-type]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidValueError("it is not text")
    return parsers.line(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidValueError("it is not a list of words")
    if any("\0" in item for item in value):
        raise InvalidValueError("it contains a NUL character")
    return tuple(value)


def _command(value: object) -> tuple[str, ...]:
    words = _texts(value)
    if not words or not words[0]:
        raise InvalidValueError("it names no program")
    return words


def _environment(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidValueError("it is not a table")
    for name, text in value.items():
        if not name or "=" in name or "\0" in name:
            raise InvalidValueError(f"{quoted(name)} cannot be the name of a variable")
        if not isinstance(text, str) or "\0" in text:
            raise InvalidValueError(f"the value of {name} is not text")
    return dict(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValueError("it is neither true nor false")
    return value


def _restart(value: object) -> Restart:
    try:
        return Restart(value)
    except ValueError as error:
        raise InvalidValueError("there is no such choice") from error


def _signal(value: object) -> int:
    try:
        number = int(signal.Signals["SIG" + value.upper().removeprefix("SIG")]) if isinstance(value, str) else value
    except KeyError as error:
        raise InvalidValueError("there is no such signal") from error
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidValueError("it is not a signal")
    if number in {signal.SIGKILL, signal.SIGSTOP} or not 1 <= number <= LAST_SIGNAL:
        raise InvalidValueError("a process cannot be asked to end with it")
    return number


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise InvalidValueError("it is not a duration")
    return parsers.duration_s(value)


def _health(value: object) -> HttpProbe | TcpProbe:
    text = _text(value)
    if not text.startswith("tcp://"):
        return HttpProbe(parsers.url(text))
    host, port = parsers.address(text.removeprefix("tcp://"))
    return TcpProbe(host or "127.0.0.1", port)


# Key; field of ExtraProcess, parser, and what to write.
_FIELDS: dict[str, tuple[str, Callable[[object], object], str]] = {
    "command": ("command", _command, 'a list of words such as ["program", "argument"]'),
    "user": ("user", _text, "the name of a user in the image"),
    "env": ("env", _environment, 'a table of texts such as { LEVEL = "info" }'),
    "critical": ("critical", _boolean, "true or false"),
    "after": ("after", _texts, 'a list of process names such as ["moltis"]'),
    "restart": ("restart", _restart, "one of always, on-failure, never"),
    "stop_signal": ("stop_signal", _signal, 'a signal such as "TERM" or "INT"'),
    "stop_timeout": ("stop_timeout_s", _duration, "a duration such as 500ms, 10s or 5m, in quotes"),
    "health": ("health", _health, "a URL such as http://127.0.0.2:9000/health, or tcp://127.0.0.2:9000"),
}
