"""Collects what is wrong with the settings, so that all of it is told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.errors import ConfigError, printable
from supervisor.secret import REDACTED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

SHOWN_CHARACTERS = 80
_KEY = "tskey-"
_KEY_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Texts(list[str]):
    """Messages, fit to be shown: whatever was pasted into a setting, no key and no control character is in them."""

    __slots__ = ()

    def append(self, text: str) -> None:
        """Add one."""
        super().append(_showable(text))

    def __iadd__(self, texts: Iterable[str]) -> Self:  # type: ignore[override, misc]
        for text in texts:
            self.append(text)
        return self


def _showable(text: str) -> str:
    head, *keys = text.split(_KEY)
    return printable("".join([head, *(REDACTED + key.lstrip(_KEY_CHARACTERS) for key in keys)]))


class Report:
    """Problems keep the program from starting; warnings and notices are said in the log and by ``check``."""

    __slots__ = ("notices", "problems", "warnings")

    def __init__(self) -> None:
        self.problems = Texts()
        self.warnings = Texts()
        self.notices = Texts()

    def problem(self, what: str, why: str, remedy: str) -> None:
        """Add something that has to be changed before the program can start."""
        self.problems.append(f"cannot {what}: {why}; {remedy}")

    def raise_problems(self) -> None:
        """Raise ConfigError with every problem, if there is one."""
        if self.problems:
            raise ConfigError(tuple(dict.fromkeys(self.problems)))


def shown(text: str) -> str:
    """Return a value as it may stand in a message: quoted, short, and without anything that looks like a key."""
    if "tskey-" in text:
        return "[redacted]"
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")


def nearest(name: str, known: object) -> str:
    """Return ' (did you mean X?)' for the known name most like this one, or nothing."""
    # Loaded for a misspelt name alone: it costs the start milliseconds.
    from difflib import get_close_matches

    found = get_close_matches(name, list(known), n=1, cutoff=0.6)  # type: ignore[call-overload]
    return f" (did you mean {found[0]}?)" if found else ""
