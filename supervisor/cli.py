"""The command line: all commands with their options, and the conversion of errors to exit codes.

A command imports what it needs when it is called: `run` must start its first process before any heavy import.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from supervisor.arguments import PROGRAM, Command, Option, help_text, parse_arguments
from supervisor.characters import printable
from supervisor.errors import (
    EX_SOFTWARE,
    EX_USAGE,
    ConfigError,
    OutputError,
    SupervisorError,
    UsageError,
    remedy_for_resources,
)
from supervisor.system import stdio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.arguments import ParsedArguments

_SIGNALLED = 128
_SIGINT = 2
_SIGPIPE = 13


def _run(args: ParsedArguments) -> int:
    from supervisor.system.signals import Inbox

    # Before anything that takes time: process 1 without handlers would miss a request to stop.
    inbox = Inbox()
    inbox.open()
    from supervisor.commands.run import run

    return run(args.options.get("--config"), args.options.get("--restart"), args.rest, inbox)


def _check(args: ParsedArguments) -> int:
    from supervisor.commands.check import check

    return check(os.environ, args.options.get("--config"), sys.stdout, sys.stderr, as_json="--json" in args.options)


def _operator(module: str, function: str) -> Callable[[ParsedArguments], int]:
    """Return a command that uses a running supervisor; its module is imported when it is called."""

    def call(args: ParsedArguments) -> int:
        from importlib import import_module

        from supervisor.client.render import Console

        gc.enable()
        console = Console(os.environ, sys.stdin, sys.stdout, sys.stderr)
        code: int = getattr(import_module(f"supervisor.client.{module}"), function)(args, console)
        return code

    return call


_CONFIG = Option("--config", "the TOML file, as SUPERVISOR_CONFIG names it", "FILE")
_JSON = Option("--json", "write JSON, for programs")
_WITHOUT_BACKUP = Option("--without-backup", "agree to a start although nothing was restored from the backups")

COMMANDS = {
    "run": Command(
        "Runs tailscaled and the app until it is stopped. COMMAND replaces the app's command; one that begins "
        "with - is appended to it.",
        "run --restart on-failure -- moltis",
        _run,
        (_CONFIG, Option("--restart", "when an app that has exited is restarted", "always|on-failure|never")),
        word_for_word="[-- COMMAND …]",
    ),
    "check": Command(
        "Reads every setting and shows what `run` would do, or everything that prevents the start.",
        "check --config supervisor.toml",
        _check,
        (_CONFIG, _JSON),
    ),
    "status": Command(
        "Shows the processes, the tailnet and the health of a running supervisor. Exits with 1 if health fails.",
        "status",
        _operator("commands", "status"),
        (_JSON,),
    ),
    "logs": Command(
        "Shows the last lines of the merged log; with -f also new ones.",
        "logs -f --process moltis",
        _operator("log_view", "logs"),
        (
            Option("-f", "follow: show new lines, also across restarts of the supervisor, until Ctrl-C"),
            Option("-n", "how many of the last lines to show first (100)", "N"),
            Option("--process", "only the lines of this process", "NAME"),
            _JSON,
        ),
    ),
    "start": Command(
        "Starts a process that is stopped, or waits for its restart.",
        "start moltis",
        _operator("commands", "start"),
        (_WITHOUT_BACKUP, _JSON),
        ("NAME",),
    ),
    "stop": Command(
        "Stops a process until it is started again.", "stop moltis", _operator("commands", "stop"), (_JSON,), ("NAME",)
    ),
    "restart": Command(
        "Stops a process and starts it again.",
        "restart moltis",
        _operator("commands", "restart"),
        (_WITHOUT_BACKUP, _JSON),
        ("NAME",),
    ),
    "connect": Command(
        "Connects the device to its tailnet: with a key it logs in, without one it reconnects or asks for a login "
        "URL, which it shows with its QR code.",
        "connect --auth-key-file -",
        _operator("commands", "connect"),
        (
            Option(
                "--auth-key-file",
                "the file with the auth key; - reads it from standard input, or prompts for it",
                "FILE",
            ),
            Option(
                "--auth-key",
                "",
                "KEY",
                "a command line is visible to every user of the machine, and shells store it; write the key into a "
                "file, or give it on standard input: connect --auth-key-file -",
            ),
            _JSON,
        ),
    ),
    "disconnect": Command(
        "Disconnects the device from its tailnet until `connect`; the app keeps running.",
        "disconnect --forget",
        _operator("commands", "disconnect"),
        (
            Option("--forget", "log out as well: the next connect is a new login"),
            Option("--yes", "agree beforehand if the supervisor asks for a confirmation"),
            _JSON,
        ),
    ),
    "auth-url": Command(
        "Shows the pending login URL; it never starts a login.",
        "auth-url --qr",
        _operator("commands", "auth_url"),
        (Option("--qr", "also show its QR code"), _JSON),
    ),
    "backup": Command(
        "Takes a snapshot now; `list` shows all snapshots, `restore` restores the app's folders from one.",
        "backup restore 2a588ecc",
        _operator("backup_commands", "backup"),
        (Option("--yes", "agree beforehand to what a restore replaces"), _JSON),
        optional="[list | restore ID]",
    ),
    "doctor": Command(
        "Checks settings, rights, machine, tailnet, app and backups, whether or not a supervisor runs. The output is "
        "masked, and can be used in a bug report. Exits with 1 if there is a problem.",
        "doctor",
        _operator("doctor_command", "doctor"),
        (_JSON,),
    ),
    "token": Command(
        "Prints a new one-time code for signing in to the panel.",
        "token",
        _operator("commands", "token"),
        (_JSON,),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command named in ``argv`` and return the exit code."""
    stdio.prepare()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            code = _dispatch(words)
        finally:
            # Flushed here, where a closed pipe can be distinguished from a failure; there may be no output at all.
            if sys.stdout is not None:
                sys.stdout.flush()
    except SupervisorError as error:
        if isinstance(error, OutputError):
            stdio.give_up(sys.stdout)
        _complain(error)
        return error.exit_code
    except BrokenPipeError:
        # The reader has closed the pipe, which is normal: `| head`.
        stdio.give_up(sys.stdout)
        return _SIGNALLED + _SIGPIPE
    except KeyboardInterrupt:
        return _SIGNALLED + _SIGINT
    except OSError as error:
        # A machine without room, or a file of the program's own that cannot be read.
        where = f" ({error.filename})" if error.filename else ""
        remedy = remedy_for_resources(error)
        to_do = f"; {remedy}" if remedy else ""
        _complain(SupervisorError(f"cannot go on: {(error.strerror or str(error)).lower()}{where}{to_do}"))
        return EX_SOFTWARE
    except Exception:  # noqa: BLE001 - a defect of ours has an exit code too
        import traceback

        traceback.print_exc()
        return EX_SOFTWARE
    return code


def _complain(error: SupervisorError) -> None:
    try:
        sys.stderr.write(explain(error))
    except OSError:
        # Only the exit code can report it.
        stdio.give_up(sys.stderr)


def explain(error: SupervisorError) -> str:
    """Return the text for a person: one line, or a list if there are several problems."""
    # A path, or the supervisor's response, may contain control characters.
    problems = [printable(text) for text in (error.problems if isinstance(error, ConfigError) else (str(error),))]
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
        from supervisor.commands.version import report

        sys.stdout.write(report())
        return 0
    if not name:
        sys.stderr.write(usage())
        return EX_USAGE
    command = COMMANDS.get(name)
    if command is None:
        from supervisor.errors import did_you_mean, quoted

        raise UsageError(f"there is no command {quoted(name)}{did_you_mean(name, COMMANDS)}; see {PROGRAM} --help")
    if {"-h", "--help"} & set(words[1:2] if command.word_for_word else words[1:]):
        sys.stdout.write(help_text(name, command))
        return 0
    args = parse_arguments(words[1:], name, command)
    try:
        return command.call(args)
    except SupervisorError as error:
        if "--json" in args.options and error.body is not None:
            import json

            sys.stdout.write(json.dumps(error.body) + "\n")
        raise


def usage() -> str:
    """Return the help text: all commands with their descriptions."""
    commands = "".join(f"  {name} {command.usage}\n      {command.summary}\n" for name, command in COMMANDS.items())
    return (
        f"usage: {PROGRAM} COMMAND …\n\nRuns an app and Tailscale together in one container.\n\n{commands}\n"
        f"{PROGRAM} COMMAND --help shows more, with an example.\n"
        "Settings are environment variables: see docs/reference/settings.md; exit codes: docs/reference/commands.md.\n"
    )
