"""The command line: finds the command, loads what it takes and nothing else, and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from supervisor import __version__
from supervisor.errors import EX_USAGE, ConfigError, SupervisorError, UsageError
from supervisor.system import streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "moltis-supervisor"


class Words(NamedTuple):
    """A command's words, taken apart: what its options were given, and what follows them."""

    options: dict[str, str]
    rest: list[str]


class Command(NamedTuple):
    """One command: what it takes, what it does, and the function to call, which loads the rest."""

    usage: str
    summary: str
    options: tuple[str, ...]
    takes_rest: bool
    call: Callable[[Words], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command named in ``argv`` and return the exit code."""
    streams.mend()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except SupervisorError as error:
        sys.stderr.write(explain(error))
        return error.exit_code


def explain(error: SupervisorError) -> str:
    """Return the text for a person: one line, or a list where there is more than one problem."""
    problems = error.problems if isinstance(error, ConfigError) else (str(error),)
    if len(problems) == 1:
        return f"{PROGRAM}: {problems[0]}\n"
    listed = "".join(f"  - {problem}\n" for problem in problems)
    return f"{PROGRAM}: cannot start, there are {len(problems)} problems:\n{listed}"


def _dispatch(words: list[str]) -> int:
    name = words[0] if words else ""
    if name in {"-h", "--help", "help"}:
        sys.stdout.write(usage())
        return 0
    if name in {"-V", "--version"}:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return 0
    if not name:
        sys.stderr.write(usage())
        return EX_USAGE
    command = COMMANDS.get(name)
    if command is None:
        from supervisor.settings.report import nearest

        raise UsageError(f"there is no command {name!r}{nearest(name, COMMANDS)}; see {PROGRAM} --help")
    if words[1:2] in (["-h"], ["--help"]):
        sys.stdout.write(f"usage: {PROGRAM} {name} {command.usage}\n\n{command.summary}\n")
        return 0
    return command.call(take_apart(words[1:], name, command))


def take_apart(words: Sequence[str], name: str, command: Command) -> Words:
    """Return the options with their values, and the words after them.

    Raises UsageError for an option that is not known, lacks its value, or comes twice, and for words too many.
    """
    options: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("--"):
        word = rest.pop(0)
        if word == "--":
            break
        option, equals, value = word.partition("=")
        if option not in command.options:
            raise UsageError(f"{name} does not know {option}; usage: {PROGRAM} {name} {command.usage}")
        if option in options:
            raise UsageError(f"{name} was given {option} twice; leave one of them")
        if not equals:
            if not rest:
                raise UsageError(f"{option} needs a value; usage: {PROGRAM} {name} {command.usage}")
            value = rest.pop(0)
        options[option] = value
    if rest and not command.takes_rest:
        raise UsageError(f"{name} does not take {rest[0]!r}; usage: {PROGRAM} {name} {command.usage}")
    return Words(options, rest)


def usage() -> str:
    """Return the help text: every command with what it does."""
    commands = "".join(f"  {name} {command.usage}\n      {command.summary}\n" for name, command in COMMANDS.items())
    return (
        f"usage: {PROGRAM} COMMAND …\n\nRuns an app and Tailscale together in one container.\n\n{commands}\n"
        "Settings are environment variables: see docs/reference/settings.md.\n"
    )


def _run(words: Words) -> int:
    from supervisor.system.signals import Inbox

    # Before anything that takes time: a process 1 without handlers does not notice that it is to stop.
    inbox = Inbox()
    inbox.open()
    from supervisor.commands.run import run

    return run(words.options.get("--config"), words.options.get("--restart"), words.rest, inbox)


def _check(words: Words) -> int:
    from supervisor.commands.check import check

    return check(os.environ, words.options.get("--config"), sys.stdout, sys.stderr)


COMMANDS = {
    "run": Command(
        "[--config FILE] [--restart always|on-failure|never] [-- COMMAND …]",
        "Runs tailscaled and the app until it is told to stop. COMMAND replaces the app's command; one that begins "
        "with - is appended to it.",
        ("--config", "--restart"),
        True,
        _run,
    ),
    "check": Command(
        "[--config FILE]",
        "Reads every setting and shows what `run` would do, or everything that keeps it from starting.",
        ("--config",),
        False,
        _check,
    ),
}
