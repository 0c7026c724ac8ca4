"""Puts one remembered line into words for people: its level and its message, whatever its writer's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.logs import levels
from supervisor.logs.clean import clean

if TYPE_CHECKING:
    from supervisor.logs.redact import Redactor


def tell(process: str, line: bytes, redactor: Redactor) -> tuple[str, str]:
    """Return the level and the message of a masked, clean line; Moltis' setup code is masked too."""
    if line.startswith(b"{"):
        told = _tell_object(line, redactor)
        if told is not None:
            return told
    text = redactor.mask_setup_code(line).decode(errors="backslashreplace")
    return levels.of_line(process, text), text


def _tell_object(line: bytes, redactor: Redactor) -> tuple[str, str] | None:
    # Loaded for the first such line: an app that crashes does not wait for what reads JSON.
    from supervisor.logs.lift import lift, message_of

    lifted = lift(line)
    if lifted is None:
        return None
    # What JSON's escapes stood for may be a secret, a control character or a line's end.
    told = message_of(lifted).replace("\r\n", "\n").replace("\n", " ⏎ ").encode(errors="backslashreplace")
    told = redactor.mask_setup_code(redactor.mask(clean(told, colors=False)))
    return lifted.level or "info", told.decode(errors="backslashreplace")
