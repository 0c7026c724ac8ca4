"""The arguments of commands: their declaration, parser and help.

Written by hand instead of using argparse: `run` has to start its first process before any heavy import, and passes on
another program's arguments unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.errors import UsageError
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "moltis-supervisor"


class ParsedArguments(NamedTuple):
    """Parsed arguments: the values of options (empty for flags), and the positional words."""

    options: dict[str, str]
    rest: list[str]


class Option(NamedTuple):
    """An option; a flag has no ``value``. ``refused`` is why a commonly tried option must not be used."""

    name: str
    text: str
    value: str = ""
    refused: str = ""

    @property
    def usage(self) -> str:
        """Return its notation in the help."""
        return f"{self.name} {self.value}" if self.value else self.name


class Command(NamedTuple):
    """A command. ``arguments`` are its required words.

    ``word_for_word`` is whether everything from the first positional word on belongs to another program; ``optional``
    are words that the command checks itself.
    """

    summary: str
    example: str
    call: Callable[[ParsedArguments], int]
    options: tuple[Option, ...] = ()
    arguments: tuple[str, ...] = ()
    word_for_word: str = ""
    optional: str = ""

    @property
    def usage(self) -> str:
        """Return the notation of its options and arguments."""
        options = [f"[{option.usage}]" for option in self.options if not option.refused]
        return " ".join([*options, *self.arguments, *filter(None, [self.word_for_word, self.optional])])


def parse_arguments(words: Sequence[str], name: str, command: Command) -> ParsedArguments:
    """Return the options with their values, and the positional words.

    Raises UsageError for an option that is unknown, repeated, lacks its value or has one too many, and for too few or
    too many words.
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
            raise UsageError(f"{name} was given {option} twice; remove one of them")
        options[option] = value
    if not command.word_for_word and not command.optional:
        _check_arguments(rest, name, command)
    return ParsedArguments(options, rest)


def help_text(name: str, command: Command) -> str:
    """Return the help of one command."""
    options = [option for option in command.options if not option.refused]
    width = max((len(option.usage) for option in options), default=0)
    parts = [
        f"usage: {PROGRAM} {name} {command.usage}\n",
        f"{command.summary}\n",
        "".join(f"  {option.usage:<{width}}  {option.text}\n" for option in options),
        f"Example: {PROGRAM} {command.example}\n",
    ]
    return "\n".join(filter(None, parts))


def _is_option(word: str, command: Command) -> bool:
    """Return whether a word is an option; one with a single dash is the app's, if the command takes one."""
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
        from supervisor.errors import quoted

        extra = quoted(rest[len(command.arguments)])
        raise UsageError(f"{name} does not take {extra}; usage: {PROGRAM} {name} {command.usage}")
