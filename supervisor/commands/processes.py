"""`start`, `stop` and `restart`: order it, wait a moment, and tell where things stand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from supervisor.commands.answers import Answer
from supervisor.commands.operator import EX_NOT_YET, SETTLE_S, settle
from supervisor.commands.status import PROCESSES, process_note
from supervisor.errors import UsageError
from supervisor.settings.report import shown

if TYPE_CHECKING:
    from supervisor.commands.operator import Operator
    from supervisor.commands.table import Words

_OVER = frozenset({"inactive", "ended", "failed"})


def start(words: Words, operator: Operator) -> int:
    """Start a process."""
    return _order("start", words, operator)


def stop(words: Words, operator: Operator) -> int:
    """Stop a process."""
    return _order("stop", words, operator)


def restart(words: Words, operator: Operator) -> int:
    """Stop a process and start it again."""
    return _order("restart", words, operator)


def _order(verb: str, words: Words, operator: Operator) -> int:
    name = _name(verb, words.rest[0])
    before = _find(operator, name)
    operator.control.post(f"{PROCESSES}/{quote(os.fsencode(name), safe='')}/{verb}")
    now = before

    def arrived() -> bool:
        nonlocal now
        now = _find(operator, name)
        state = now.text("state")
        if verb == "stop":
            return state in _OVER
        return state == "running" and (verb == "start" or now.number("pid") != before.number("pid"))

    there = settle(arrived)
    if "--json" in words.options:
        operator.give(now.fields)
    else:
        operator.say(_told(name, now))
        if not there:
            operator.note(f"{verb} was asked for, and is not done after {SETTLE_S:g} s; `status` tells how it goes on")
    return 0 if there else EX_NOT_YET


def _name(verb: str, text: str) -> str:
    """Return the name of a process. Raises UsageError for what can be none, and no part of a path either."""
    if text in {"", ".", ".."}:
        raise UsageError(f"{verb} needs the name of a process, not {shown(text)}; `status` lists them")
    return text


def _find(operator: Operator, name: str) -> Answer:
    """Return one process; an empty answer where there is none of that name, for which the order is refused."""
    listed = Answer(PROCESSES, operator.control.get(PROCESSES)).objects("processes")
    return next((process for process in listed if process.text("name") == name), Answer(PROCESSES, {}))


def _told(name: str, process: Answer) -> str:
    pid = process.number("pid")
    note = process_note(process)
    beside = "".join([f", pid {pid:.0f}" if pid is not None else "", f" ({note})" if note else ""])
    return f"{name} is {process.text('state')}{beside}"
