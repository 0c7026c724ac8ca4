"""Every command there is: what it takes, what it does, an example, and what to call, which loads the rest."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.commands.operator import Operator


class Words(NamedTuple):
    """A command's words, taken apart: what its options were given (a flag: nothing), and the words beside them."""

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

    ``word_for_word`` says that from the first word that is no option on, all of them belong to somebody else.
    """

    summary: str
    example: str
    call: Callable[[Words], int]
    options: tuple[Option, ...] = ()
    arguments: tuple[str, ...] = ()
    word_for_word: str = ""

    @property
    def usage(self) -> str:
        """Return what may follow its name."""
        options = [f"[{option.usage}]" for option in self.options if not option.refused]
        return " ".join([*options, *self.arguments, *([self.word_for_word] if self.word_for_word else [])])


def _run(words: Words) -> int:
    from supervisor.system.signals import Inbox

    # Before anything that takes time: a process 1 without handlers does not notice that it is to stop.
    inbox = Inbox()
    inbox.open()
    from supervisor.commands.run import run

    return run(words.options.get("--config"), words.options.get("--restart"), words.rest, inbox)


def _check(words: Words) -> int:
    from supervisor.commands.check import check

    return check(os.environ, words.options.get("--config"), sys.stdout, sys.stderr, as_json="--json" in words.options)


def _operator() -> Operator:
    from supervisor.commands.operator import Operator

    return Operator(os.environ, sys.stdin, sys.stdout, sys.stderr)


def _status(words: Words) -> int:
    from supervisor.commands.status import status

    return status(words, _operator())


def _logs(words: Words) -> int:
    from supervisor.commands.logs import logs

    return logs(words, _operator())


def _start(words: Words) -> int:
    from supervisor.commands.processes import start

    return start(words, _operator())


def _stop(words: Words) -> int:
    from supervisor.commands.processes import stop

    return stop(words, _operator())


def _restart(words: Words) -> int:
    from supervisor.commands.processes import restart

    return restart(words, _operator())


def _connect(words: Words) -> int:
    from supervisor.commands.tailnet import connect

    return connect(words, _operator())


def _disconnect(words: Words) -> int:
    from supervisor.commands.tailnet import disconnect

    return disconnect(words, _operator())


def _auth_url(words: Words) -> int:
    from supervisor.commands.tailnet import auth_url

    return auth_url(words, _operator())


def _token(words: Words) -> int:
    from supervisor.commands.sign_in import token

    return token(words, _operator())


_CONFIG = Option("--config", "the TOML file, as SUPERVISOR_CONFIG names it", "FILE")
_JSON = Option("--json", "write JSON, for programs")

COMMANDS = {
    "run": Command(
        "Runs tailscaled and the app until it is told to stop. COMMAND replaces the app's command; one that begins "
        "with - is appended to it.",
        "run --restart on-failure -- moltis",
        _run,
        (_CONFIG, Option("--restart", "when an app that ended is started again", "always|on-failure|never")),
        word_for_word="[-- COMMAND …]",
    ),
    "check": Command(
        "Reads every setting and shows what `run` would do, or everything that keeps it from starting.",
        "check --config supervisor.toml",
        _check,
        (_CONFIG, _JSON),
    ),
    "status": Command(
        "Shows the processes, the tailnet and the health of a running supervisor. Ends with 1 where health fails.",
        "status",
        _status,
        (_JSON,),
    ),
    "logs": Command(
        "Shows the last lines of the merged log, and goes on with new ones where asked to.",
        "logs -f --process moltis",
        _logs,
        (
            Option("-f", "follow: go on with new lines, also over a restart of the supervisor, until Ctrl-C"),
            Option("-n", "how many of the last lines to begin with (100)", "N"),
            Option("--process", "the lines of this process alone", "NAME"),
            _JSON,
        ),
    ),
    "start": Command(
        "Starts a process that is stopped or waits for its next try.", "start moltis", _start, (_JSON,), ("NAME",)
    ),
    "stop": Command("Stops a process until it is started again.", "stop moltis", _stop, (_JSON,), ("NAME",)),
    "restart": Command("Stops a process and starts it again.", "restart moltis", _restart, (_JSON,), ("NAME",)),
    "connect": Command(
        "Connects the device to its tailnet: with a key it logs in, without one it reconnects or asks for a login "
        "URL, which it shows with its QR code.",
        "connect --auth-key-file -",
        _connect,
        (
            Option("--auth-key-file", "where the auth key is; - reads it from standard input, or asks for it", "FILE"),
            Option(
                "--auth-key",
                "",
                "KEY",
                "a command line is open to every user of the machine and kept by shells; write the key into a file, "
                "or give it on standard input: connect --auth-key-file -",
            ),
            _JSON,
        ),
    ),
    "disconnect": Command(
        "Disconnects the device from its tailnet until `connect`; the app goes on.",
        "disconnect --forget",
        _disconnect,
        (
            Option("--forget", "log out as well: the next connect is a new login"),
            Option("--yes", "agree beforehand where the supervisor wants a confirmation"),
            _JSON,
        ),
    ),
    "auth-url": Command(
        "Shows the login URL that waits to be opened; it never starts a login.",
        "auth-url --qr",
        _auth_url,
        (Option("--qr", "show its QR code too"), _JSON),
    ),
    "token": Command(
        "Prints a fresh one-time code for signing in to the panel.",
        "token",
        _token,
        (_JSON,),
    ),
}
