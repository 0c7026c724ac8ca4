"""Text of other programs, such as tailscaled, restic and servers: made fit to be shown where it enters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    Mask = Callable[[str], str]

_MOST_CHARACTERS = 8 * 1024
_USUAL_CHARACTERS = 300


def received(text: str, mask: Mask) -> str:
    """Return a text with secrets masked, and everything invisible escaped; newlines and tabs are kept."""
    # Imported with the first text: there may be none.
    from supervisor.logs.sanitize import sanitize_text

    return sanitize_text(mask(text))


def received_line(text: str, mask: Mask, most_characters: int = _USUAL_CHARACTERS) -> str:
    """Return the same as one line of limited length.

    It is masked before it is cut, since a part of a secret could remain otherwise.
    """
    if len(text) > _MOST_CHARACTERS:
        # Masking would hold up the loop, and cutting it before could leave a part of a secret.
        return f"a text of {len(text)} characters, which is too long to be shown"
    masked = mask(text)
    line = " ".join(masked.split())
    # Masked again, as a secret may consist of words that came on several lines.
    return received(line, mask if line != masked else str)[:most_characters]


def visible(value: Any) -> Any:
    """Return a struct, a tuple, a list or a dictionary with everything invisible in each of its texts escaped."""
    return each_text(
        value, lambda text: text if text.isascii() and text.isprintable() else received(text, str), keys=True
    )


def each_text(value: Any, change: Callable[[str], str], *, keys: bool = False) -> Any:
    """Return a struct, a tuple, a list or a dictionary with each of its texts changed; ``keys``: its keys too."""
    if isinstance(value, str):
        return change(value)
    each = partial(each_text, change=change, keys=keys)
    if isinstance(value, msgspec.Struct):
        return type(value)(**{name: each(getattr(value, name)) for name in value.__struct_fields__})
    if isinstance(value, dict):
        return {each(key) if keys else key: each(part) for key, part in value.items()}
    return type(value)(map(each, value)) if isinstance(value, list | tuple) else value
