"""The project's quick named tuples behave like typing's; only creating a class costs less."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import TYPE_CHECKING, Any

import pytest

from supervisor import namedtuples

if TYPE_CHECKING:
    from collections.abc import Callable


class Ours(namedtuples.NamedTuple):
    """A class that has fields with and without a default."""

    name: str
    state: str = "idle"
    since_s: float | None = None

    @property
    def words(self) -> str:
        """Return a text made from the fields."""
        return f"{self.name} is {self.state}"


class Typings(typing.NamedTuple):
    """The same class, made by typing."""

    name: str
    state: str = "idle"
    since_s: float | None = None

    @property
    def words(self) -> str:
        """Return a text made from the fields."""
        return f"{self.name} is {self.state}"


class Nothing(namedtuples.NamedTuple):
    """A class without fields."""


USES: dict[str, Callable[[Any], Any]] = {
    "by position": lambda made: tuple(made("a", "b", 1.0)),
    "by name": lambda made: tuple(made(since_s=1.0, name="a")),
    "defaults": lambda made: tuple(made("a")),
    "fields": lambda made: (made._fields, made._field_defaults, made.__match_args__),
    "attributes": lambda made: (made("a").name, made("a").state, made("a").words),
    "replace": lambda made: tuple(made("a")._replace(state="b")),
    "as dict": lambda made: made("a")._asdict(),
    "make": lambda made: tuple(made._make(["a", "b", None])),
    "representation": lambda made: repr(made("a")).partition("(")[2],
    "equal to a tuple": lambda made: made("a") == ("a", "idle", None),
    "hash": lambda made: hash(made("a")),
    "name": lambda made: (made.__module__, made.__doc__ is not None, isinstance(made("a"), tuple)),
    "no further attributes": lambda made: hasattr(made("a"), "__dict__"),
    "copy": lambda made: type(copy.copy(made("a"))) is made,
    "pickle": lambda made: pickle.loads(pickle.dumps(made("a"))) == made("a"),  # noqa: S301 - its own
}
MISUSES: dict[str, Callable[[Any], Any]] = {
    "too few": lambda made: made(),
    "too many": lambda made: made("a", "b", 1.0, 2),
    "no such field": lambda made: made("a", other=1),
    "replaces no such field": lambda made: made("a")._replace(other=1),
    "makes of too few": lambda made: made._make(["a"]),
    "changed": lambda made: setattr(made("a"), "name", "b"),
}
# If the type of typing's own error has changed, the newer one, here of Python 3.13.
NEWER: dict[str, type[Exception]] = {"replaces no such field": TypeError}


@pytest.mark.parametrize("use", USES)
def test_every_use_gives_what_it_gives_with_typings(use: str) -> None:
    """Arguments, defaults, fields, methods and copies have the same result."""
    assert USES[use](Ours) == USES[use](Typings)


@pytest.mark.parametrize("misuse", MISUSES)
def test_every_misuse_is_refused_as_by_typings(misuse: str) -> None:
    """Both raise the same type of error."""
    refused: list[type[Exception]] = []
    for made in (Ours, Typings):
        with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
            MISUSES[misuse](made)
        refused.append(caught.type)
    assert refused[0] is NEWER.get(misuse, refused[1])


def test_a_class_without_fields_is_an_empty_tuple() -> None:
    """Orders without parameters are such classes."""
    assert Nothing() == ()
    assert Nothing._fields == ()


def test_a_field_without_a_default_cannot_follow_one_with() -> None:
    """As with typing's, the error comes when the class is created."""
    with pytest.raises(TypeError, match="without a default"):

        class Wrong(namedtuples.NamedTuple):
            first: int = 1
            second: int  # type: ignore[misc] # that is the question
