"""Reads screenshots of the page, decoded by the browser."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import segno

if TYPE_CHECKING:
    from playwright.sync_api import Locator

# Behind round corners, the background is visible.
_EDGE_PX = 6
# Runs on an empty page, which has no content security policy. Returns the picture's brightness, row by row.
_DECODE = """async (text) => {
  const picture = new Image();
  picture.src = `data:image/png;base64,${text}`;
  await picture.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0);
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  const bright = (at) => Math.round((data[at] + data[at + 1] + data[at + 2]) / 3);
  return Array.from({ length: canvas.height }, (_, y) =>
    Array.from({ length: canvas.width }, (_, x) => bright(4 * (y * canvas.width + x))));
}"""


def pixels(picture: Locator) -> list[list[int]]:
    """Return the brightness of an element's screenshot, from 0 to 255, row by row."""
    text = base64.b64encode(picture.screenshot()).decode()
    blank = picture.page.context.new_page()
    try:
        found: Any = blank.evaluate(_DECODE, text)
    finally:
        blank.close()
    return list(found)


def qr_matrix(picture: Locator, text: str) -> bool:
    """Return whether a picture shows the QR code of a text, dark on light, with a light margin around it."""
    wanted = [[bool(module) for module in row] for row in segno.make_qr(text).matrix_iter(border=0)]
    rows = [[value < 128 for value in row[_EDGE_PX:-_EDGE_PX]] for row in pixels(picture)[_EDGE_PX:-_EDGE_PX]]
    dark = [(x, y) for y, row in enumerate(rows) for x, ink in enumerate(row) if ink]
    left, top = min(x for x, _ in dark), min(y for _, y in dark)
    right, bottom = max(x for x, _ in dark) + 1, max(y for _, y in dark) + 1
    step_x, step_y, count = (right - left) / len(wanted), (bottom - top) / len(wanted), range(len(wanted))
    read = [[rows[int(top + (y + 0.5) * step_y)][int(left + (x + 0.5) * step_x)] for x in count] for y in count]
    return read == wanted and min(left, top, len(rows[0]) - right, len(rows) - bottom) >= step_x
