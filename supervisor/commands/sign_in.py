"""`token`: a fresh code for signing in to the panel, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.commands.answers import Answer
from supervisor.commands.layout import moment

if TYPE_CHECKING:
    from supervisor.commands.operator import Operator
    from supervisor.commands.table import Words

CODE = "/api/session/code"


def token(words: Words, operator: Operator) -> int:
    """Print the code alone, so that it can be piped; what it is good for stands beside it."""
    body = operator.control.post(CODE)
    if "--json" in words.options:
        operator.give(body)
        return 0
    answer = Answer(CODE, body)
    operator.say(answer.text("code"))
    if operator.on_terminal:
        until = moment(answer.text("expires_at"))
        ends = "" if until is None else f", until {until.astimezone():%H:%M}"
        operator.note(f"good for one sign-in to the panel{ends}")
        if answer.text("link"):
            operator.note(f"or open {answer.text('link')}")
    return 0
