"""What the owner chose, kept in a file of ours: tailscaled's own WantRunning proves nothing, we clear it ourselves."""

from __future__ import annotations

from typing import Literal

import msgspec

from supervisor.tailnet.course import UNKNOWN
from supervisor.tailnet.keeping import KeptFile

FILE = "owner.json"


class Record(msgspec.Struct, frozen=True):
    """The file's content. ``ephemeral`` says that the device was logged in with a key for such devices."""

    choice: Literal["connected", "disconnected", "forgotten", "unknown"] = "connected"
    ephemeral: bool = False


class Owner:
    """The choice in force; it holds over restarts as long as the state folder does.

    One that is there and cannot be read is unknown until there is another one: then ``why_unread`` says why.
    """

    def __init__(self, state_dir: str) -> None:
        self._file = KeptFile(state_dir, FILE)
        data = self._file.read()
        self._why_unread = self._file.why_unread
        self.found = data is not None or bool(self._why_unread)
        self.record = Record("unknown" if self._why_unread else "connected")
        if data is not None:
            try:
                self.record = msgspec.json.decode(data, type=Record)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._why_unread = f"it is damaged: {str(error).lower()}" if data else "it is empty"
                self.record = Record("unknown")

    @property
    def choice(self) -> str:
        """Return connected, disconnected, forgotten or unknown."""
        return self.record.choice

    @property
    def why_unread(self) -> str:
        """Return why the choice is unknown; empty where it is not."""
        return (self._why_unread or "it could not be read before") if self.choice == UNKNOWN else ""

    @property
    def why_not_kept(self) -> str:
        """Return why the choice would be lost with this process; empty where it would not."""
        return self._file.why_not

    def choose(self, choice: Literal["connected", "disconnected", "forgotten"]) -> None:
        """Take a choice."""
        self._put(msgspec.structs.replace(self.record, choice=choice))

    def note_login(self, *, ephemeral: bool) -> None:
        """Remember what kind of key the device was logged in with."""
        self._put(msgspec.structs.replace(self.record, ephemeral=ephemeral))

    def note_logout(self) -> None:
        """Remember that there is no device to log out any more."""
        self._put(msgspec.structs.replace(self.record, ephemeral=False))

    def _put(self, record: Record) -> None:
        if record != self.record or not self.found:
            self.record, self.found = record, True
            self._file.write(msgspec.json.encode(record))
