"""Draws a QR code in the terminal, two of its rows in one line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.commands.operator import Operator

_BORDER = 2
# Whether the upper and the lower of two modules are ink.
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_BLACK_ON_WHITE = "30;107"


def draw(operator: Operator, text: str) -> list[str]:
    """Return the lines of the code; none where the terminal is too narrow for it."""
    # Loaded for the first code: most commands draw none.
    import segno

    rows = [[bool(module) for module in row] for row in segno.make_qr(text).matrix_iter(border=_BORDER)]
    if len(rows[0]) > operator.width:
        return []
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    # Where colours cannot be chosen, light text on a dark ground is what most terminals have: then the light is ink.
    ink = operator.color
    return [
        operator.paint("".join(_BLOCKS[a is ink, b is ink] for a, b in zip(upper, lower, strict=True)), _BLACK_ON_WHITE)
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
