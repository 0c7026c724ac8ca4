"""Remembers which entries of the serve configuration are ours, in a file of the state folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.tailnet.keeping import KeptFile

if TYPE_CHECKING:
    from supervisor.tailnet.serve.changes import Entries, Record

NAME = "serve.json"


class _Entry(msgspec.Struct):
    path: tuple[str, ...]
    value: Any


class _Kept(msgspec.Struct):
    entries: list[_Entry]


class ServeRecord:
    """What we have written into tailscaled's serve configuration, across restarts of either."""

    def __init__(self, folder: str) -> None:
        self._file = KeptFile(folder, NAME)
        self._entries: Record | None = None
        self._why_unread = ""

    @property
    def why_not_kept(self) -> str:
        """Return why it is forgotten when the supervisor ends; empty where it is not."""
        return self._file.why_not

    @property
    def why_unread(self) -> str:
        """Return why what was recorded could not be read; empty where it could."""
        return self._why_unread

    def entries(self) -> Record:
        """Return what is recorded. A file that cannot be read, or makes no sense, counts as none."""
        if self._entries is None:
            data = self._file.read()
            self._why_unread = self._file.why_unread
            try:
                self._entries = {} if data is None else _decoded(data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._entries, self._why_unread = {}, f"it is damaged: {error}"
        return self._entries

    def put(self, *written: Entries) -> None:
        """Record these from now on, and nothing else."""
        record: Record = {}
        for entries in written:
            for path, value in entries.items():
                if value not in record.get(path, ()):
                    record[path] = (*record.get(path, ()), value)
        if record == self.entries():
            return
        self._entries = record
        found = [_Entry(path, value) for path, values in record.items() for value in values]
        self._file.write(msgspec.json.encode(_Kept(found)))


def _decoded(data: bytes) -> Record:
    kept = msgspec.json.decode(data, type=_Kept)
    record: Record = {}
    for entry in kept.entries:
        record[entry.path] = (*record.get(entry.path, ()), entry.value)
    return record
