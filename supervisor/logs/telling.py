"""Puts one remembered line into words for people: its level and its message, whatever its writer's format."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.logs import levels
from supervisor.logs.clean import clean

if TYPE_CHECKING:
    from supervisor.logs.redact import Redactor

_ESC = b"\x1b"


class Told(NamedTuple):
    """What a line says: how bad it is, what it is about (empty where it does not tell), and its text.

    ``colored`` is the text with its colour codes; empty where it has none.
    """

    level: str
    topic: str
    message: str
    colored: str = ""


def tell(process: str, line: bytes, redactor: Redactor) -> Told:
    """Return what a masked line says, clean but for its colours; Moltis' setup code is masked too."""
    if _ESC in line:
        plain = clean(line, colors=False)
        words = tell(process, plain, redactor)
        # What had to be masked, or is put together from JSON, is shown without colours.
        return words._replace(colored=line.decode()) if words.message.encode() == plain else words
    if line.startswith(b"{"):
        told = _tell_object(line, redactor)
        if told is not None:
            return told
    text = redactor.mask_setup_code(line).decode(errors="backslashreplace")
    return Told(levels.of_line(process, text), levels.topic_of_line(process, text), text)


def _tell_object(line: bytes, redactor: Redactor) -> Told | None:
    # Loaded for the first such line: an app that crashes does not wait for what reads JSON.
    from supervisor.logs.lift import lift, message_of

    lifted = lift(line)
    if lifted is None:
        return None
    # What JSON's escapes stood for may be a secret, a control character or a line's end.
    told = message_of(lifted).replace("\r\n", "\n").replace("\n", " ⏎ ").encode(errors="backslashreplace")
    told = redactor.mask_setup_code(redactor.mask(clean(told, colors=False), again=True))
    return Told(lifted.level or "info", "", told.decode(errors="backslashreplace"))
