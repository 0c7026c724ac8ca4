"""Where a secret setting comes from: a value given once, or a file that is read anew at each use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.errors import ConfigError
from supervisor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.config.diagnostics import Report

MOST_BYTES = 64 * 1024


class SecretSource:
    """One secret setting. ``path`` is None where the value itself was given."""

    __slots__ = ("_value", "name", "path")

    def __init__(self, name: str, value: Secret | None = None, path: str | None = None) -> None:
        self.name = name
        self.path = path
        self._value = value

    def __repr__(self) -> str:
        return f"SecretSource({self.name!r}, path={self.path!r})"

    def read(self) -> Secret:
        """Return the secret as it is now, without the white space around it.

        Raises ConfigError where its file cannot be read, is empty, too large, or not one line of text.
        """
        return self._value if self._value is not None else Secret(_text_of(self.name, self.path or ""))


def _text_of(name: str, path: str) -> str:
    # Loaded where there is a file to read: values of the environment need none.
    from supervisor.system import dirs

    try:
        text = dirs.read_text(path, MOST_BYTES).strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read {name} from {path}: {dirs.reason(error)}; check the path, and that the supervisor may read it"
        ) from error
    except ValueError as error:
        raise _unfit(name, path, str(error)) from error
    if not text.isprintable() or not text:
        raise _unfit(name, path, "it has more than one line, or control characters" if text else "it is empty")
    return text


def _unfit(name: str, path: str, why: str) -> ConfigError:
    return ConfigError(f"cannot use {name} from {path}: {why}; put the secret alone into the file, in one line")


def source_of(
    setting: str, spellings: tuple[str, ...], texts: Mapping[str, str], report: Report
) -> SecretSource | None:
    """Return where a secret setting comes from; None where it is not set, or badly."""
    present = [name for name in spellings if name in texts]
    if not present:
        return None
    name = present[0]
    if any(other.endswith("_FILE") for other in present[1:]):
        report.problem(f"choose a value of {setting}", f"{' and '.join(present)} are both set", "leave one of them")
        return None
    if len(present) > 1:
        report.warnings.append(f"{present[1]} has no effect: {name} is set as well, and beats it")
    text = texts[name].strip()
    path = text if name.endswith("_FILE") else text.removeprefix("file:") if text.startswith("file:") else None
    if path is None:
        if not text.isprintable():
            report.problem(f"use {name}", "it has more than one line, or control characters", "write the secret alone")
            return None
        return SecretSource(name, value=Secret(text))
    source = SecretSource(name, path=os.path.abspath(path))
    try:
        source.read()
    except ConfigError as error:
        report.problems += error.problems
    return source
