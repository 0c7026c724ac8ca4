"""Reads the API's answers: what a later version adds is ignored, what this one lacks is empty, the rest has to fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.commands.control import SkewError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Answer:
    """One JSON object; ``what`` is the request it answers. A field of another type than is asked for is a SkewError."""

    __slots__ = ("fields", "what")

    def __init__(self, what: str, fields: Mapping[str, Any]) -> None:
        self.what = what
        self.fields = fields

    def text(self, name: str) -> str:
        """Return a text, fit to be shown: control characters are written out."""
        value = self._field(name, str)
        return "" if value is None else printable(value)

    def number(self, name: str) -> float | None:
        """Return a number; None where there is none."""
        value = self._field(name, int, float)
        return None if value is None or isinstance(value, bool) else value

    def flag(self, name: str) -> bool:
        """Return a yes or no."""
        return bool(self._field(name, bool))

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        values = self._field(name, list) or []
        if not all(isinstance(value, str) for value in values):
            raise SkewError(self.what, f"{name} is not a list of texts")
        return [printable(value) for value in values]

    def objects(self, name: str) -> list[Answer]:
        """Return a list of objects."""
        values = self._field(name, list) or []
        if not all(isinstance(value, dict) for value in values):
            raise SkewError(self.what, f"{name} is not a list of objects")
        return [Answer(self.what, value) for value in values]

    def object(self, name: str) -> Answer:
        """Return an object; an empty one where there is none."""
        return Answer(self.what, self._field(name, dict) or {})

    def _field(self, name: str, *kinds: type) -> Any:
        value = self.fields.get(name)
        if value is not None and not isinstance(value, kinds):
            raise SkewError(self.what, f"{name} is of an unknown kind")
        return value


def printable(text: str) -> str:
    """Return text without anything that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\t" else ascii(character)[1:-1] for character in text
    )
