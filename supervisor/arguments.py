"""A command's arguments: what it declares, how they are parsed, and its help.

Written by hand rather than on argparse: `run` has to start its first process before anything heavy is imported, and
hands on another program's arguments word for word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.errors import UsageError
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "moltis-supervisor"


class ParsedArguments(NamedTuple):
    """A command's arguments: the options' values (a flag has an empty one), and the words beside them."""

    options: dict[str, str]
    rest: list[str]


class Option(NamedTuple):
    """One option; a flag has no ``value``. ``refused`` says why it may not be used, however often people try."""

    name: str
    text: str
    value: str = ""
    refused: str = ""

    @property
    def usage(self) -> str:
        """Return it as it is to be written."""
        return f"{self.name} {self.value}" if self.value else self.name


class Command(NamedTuple):
    """One command. ``arguments`` are the words it needs.

    ``word_for_word`` says that from the first word that is no option on, all of them belong to somebody else;
    ``optional`` are words that it takes and checks itself.
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
        """Return what may follow its name."""
        options = [f"[{option.usage}]" for option in self.options if not option.refused]
        return " ".join([*options, *self.arguments, *filter(None, [self.word_for_word, self.optional])])


def parse_arguments(words: Sequence[str], name: str, command: Command) -> ParsedArguments:
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
    if not command.word_for_word and not command.optional:
        _check_arguments(rest, name, command)
    return ParsedArguments(options, rest)


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
        from supervisor.errors import quoted

        extra = quoted(rest[len(command.arguments)])
        raise UsageError(f"{name} does not take {extra}; usage: {PROGRAM} {name} {command.usage}")
