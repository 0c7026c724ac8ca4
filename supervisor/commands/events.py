"""Takes a stream of server-sent events apart, as far as ours go: id, event and data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor.commands.control import SkewError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Event(NamedTuple):
    """One event; its data is one JSON object."""

    id: str
    kind: str
    data: dict[str, Any]


def events(what: str, lines: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events in the lines of a stream; an unfinished one does not count."""
    fields: dict[str, str] = {}
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields['data']}\n{value}" if name == "data" and "data" in fields else value
            continue
        if "data" in fields:
            yield Event(fields.get("id", ""), fields.get("event", "message"), _data(what, fields["data"]))
        fields = {}


def _data(what: str, text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SkewError(what, "an event is not JSON") from error
    if not isinstance(data, dict):
        raise SkewError(what, "an event is not a JSON object")
    return data
