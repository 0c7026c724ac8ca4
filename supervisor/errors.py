"""What can go wrong, by who has to act on it: each error knows the exit code of the command it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

EX_USAGE = 64
EX_SOFTWARE = 70
EX_IOERR = 74
EX_CONFIG = 78


class SupervisorError(Exception):
    """A failure told to a person: one text that says what failed, why, and what to do next.

    ``body`` is the same for programs, as the supervisor's API answered it.
    """

    exit_code = EX_SOFTWARE
    body: Mapping[str, Any] | None = None


class UsageError(SupervisorError):
    """The command line cannot be understood."""

    exit_code = EX_USAGE


class OutputError(SupervisorError):
    """Standard output cannot be written to."""

    exit_code = EX_IOERR


class ConfigError(SupervisorError):
    """The configuration or the environment has to be changed before the program can start.

    ``problems`` holds all of them, so that they can be fixed in one go.
    """

    exit_code = EX_CONFIG

    def __init__(self, problems: list[str] | tuple[str, ...] | str) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


def host_port(host: str, port: int) -> str:
    """Return an address as it is written: an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def printable(text: str) -> str:
    """Return text without anything that a terminal would obey or that ends a line; tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\t" else ascii(character)[1:-1] for character in text
    )
