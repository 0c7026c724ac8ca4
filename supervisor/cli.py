"""The command line: finds the command, loads what it takes and nothing else, and turns errors into exit codes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from supervisor import __version__
from supervisor.commands.table import COMMANDS, Words
from supervisor.errors import EX_SOFTWARE, EX_USAGE, ConfigError, OutputError, SupervisorError, UsageError
from supervisor.system import streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.commands.table import Command

PROGRAM = "moltis-supervisor"
_SIGNALLED = 128
_SIGINT = 2
_SIGPIPE = 13


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command named in ``argv`` and return the exit code."""
    streams.mend()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            code = _dispatch(words)
        finally:
            # Here, where a reader that has gone away is still told from a failure; there may be no output at all.
            if sys.stdout is not None:
                sys.stdout.flush()
    except SupervisorError as error:
        if isinstance(error, OutputError):
            streams.give_up(sys.stdout)
        _complain(error)
        return error.exit_code
    except BrokenPipeError:
        # Nobody reads any more, which is no news to anyone.
        streams.give_up(sys.stdout)
        return _SIGNALLED + _SIGPIPE
    except KeyboardInterrupt:
        return _SIGNALLED + _SIGINT
    except Exception:  # noqa: BLE001 - a defect of ours has an exit code too
        import traceback

        traceback.print_exc()
        return EX_SOFTWARE
    return code


def _complain(error: SupervisorError) -> None:
    try:
        sys.stderr.write(explain(error))
    except OSError:
        # The exit code has to say it all.
        streams.give_up(sys.stderr)


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
        from supervisor.settings.report import nearest, shown

        raise UsageError(f"there is no command {shown(name)}{nearest(name, COMMANDS)}; see {PROGRAM} --help")
    if {"-h", "--help"} & set(words[1:2] if command.word_for_word else words[1:]):
        sys.stdout.write(help_text(name, command))
        return 0
    taken = take_apart(words[1:], name, command)
    try:
        return command.call(taken)
    except SupervisorError as error:
        if "--json" in taken.options and error.body is not None:
            import json

            sys.stdout.write(json.dumps(error.body) + "\n")
        raise


def take_apart(words: Sequence[str], name: str, command: Command) -> Words:
    """Return the options with their values, and the words beside them.

    Raises UsageError for an option that is not known, lacks its value, has one too many or comes twice, and for words
    too few or too many.
    """
    options: dict[str, str] = {}
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--" or not _is_option(word, command):
            rest += [word] if word != "--" else []
            if word == "--" or command.word_for_word:
                rest += left
                break
            continue
        option, value = _take_option(word, left, name, command)
        if option in options:
            raise UsageError(f"{name} was given {option} twice; leave one of them")
        options[option] = value
    if not command.word_for_word:
        _check_arguments(rest, name, command)
    return Words(options, rest)


def help_text(name: str, command: Command) -> str:
    """Return all there is to say of one command."""
    options = [option for option in command.options if not option.refused]
    width = max((len(option.usage) for option in options), default=0)
    parts = [
        f"usage: {PROGRAM} {name} {command.usage}\n",
        f"{command.summary}\n",
        "".join(f"  {option.usage:<{width}}  {option.text}\n" for option in options),
        f"Example: {PROGRAM} {command.example}\n",
    ]
    return "\n".join(filter(None, parts))


def usage() -> str:
    """Return the help text: every command with what it does."""
    commands = "".join(f"  {name} {command.usage}\n      {command.summary}\n" for name, command in COMMANDS.items())
    return (
        f"usage: {PROGRAM} COMMAND …\n\nRuns an app and Tailscale together in one container.\n\n{commands}\n"
        f"{PROGRAM} COMMAND --help shows more, with an example.\n"
        "Settings are environment variables: see docs/reference/settings.md; exit codes: docs/reference/commands.md.\n"
    )


def _is_option(word: str, command: Command) -> bool:
    """Tell whether a word is an option; one that begins with a single - is the app's where a command is for it."""
    return word.startswith("--") if command.word_for_word else word.startswith("-") and word != "-"


def _take_option(word: str, left: list[str], name: str, command: Command) -> tuple[str, str]:
    """Return an option and its value, which may be the next of the words ``left``."""
    short = not word.startswith("--")
    option, equals, value = (word[:2], word[2:], word[2:]) if short else word.partition("=")
    known = next((row for row in command.options if row.name == option), None)
    if known is None:
        raise UsageError(f"{name} does not know {option}; usage: {PROGRAM} {name} {command.usage}")
    if known.refused:
        raise UsageError(f"{name} does not take {option}: {known.refused}")
    if known.value:
        if not equals and not left:
            raise UsageError(f"{option} needs a value; usage: {PROGRAM} {name} {command.usage}")
        value = value if equals else left.pop(0)
        if "|" in known.value and value not in known.value.split("|"):
            raise UsageError(
                f"{option} is one of {known.value.replace('|', ', ')}; usage: {PROGRAM} {name} {command.usage}"
            )
        return option, value
    if equals and not short:
        raise UsageError(f"{option} takes no value; usage: {PROGRAM} {name} {command.usage}")
    if equals:
        left.insert(0, f"-{value}")
    return option, ""


def _check_arguments(rest: list[str], name: str, command: Command) -> None:
    if len(rest) < len(command.arguments):
        missing = command.arguments[len(rest)]
        raise UsageError(f"{name} needs {missing}; usage: {PROGRAM} {name} {command.usage}")
    if len(rest) > len(command.arguments):
        from supervisor.settings.report import shown

        extra = shown(rest[len(command.arguments)])
        raise UsageError(f"{name} does not take {extra}; usage: {PROGRAM} {name} {command.usage}")
