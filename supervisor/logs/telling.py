"""Puts one remembered line into words for people: its level and its message, whatever its writer's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.logs import levels
from supervisor.logs.clean import clean
from supervisor.logs.lift import lift, message_of

if TYPE_CHECKING:
    from supervisor.logs.redact import Redactor


def tell(process: str, line: bytes, redactor: Redactor) -> tuple[str, str]:
    """Return the level and the message of a masked, clean line; Moltis' setup code is masked too."""
    lifted = lift(line)
    if lifted is None:
        text = redactor.mask_setup_code(line).decode(errors="backslashreplace")
        return levels.of_line(process, text), text
    # What JSON's escapes stood for may be a secret, a control character or a line's end.
    told = message_of(lifted).replace("\r\n", "\n").replace("\n", " ⏎ ").encode(errors="backslashreplace")
    told = redactor.mask_setup_code(redactor.mask(clean(told, colors=False)))
    return lifted.level or "info", told.decode(errors="backslashreplace")
