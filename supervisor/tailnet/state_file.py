"""Small files in the state folder, and the owner's choice.

tailscaled's own WantRunning does not show the choice, since the supervisor clears it.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from typing import Literal

import msgspec

from supervisor.core.tailnet import Choice
from supervisor.errors import ConfigError
from supervisor.json_input import decode_json
from supervisor.runtime import loop_latency
from supervisor.system import dirs

MOST_BYTES = 1024 * 1024
# How often what could not be written is written again.
AGAIN_S = 30.0


class StateFile:
    """A file in a folder that may belong to another user: no symbolic link is followed.

    Content that cannot be written is kept in memory for this run; ``why_not`` then has the reason, else it is empty.
    ``why_unread`` is why an existing file or folder could not be read, else empty.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._name = name
        self._memory: bytes | None = None
        self._storing = False
        self._tried_s = 0.0
        self._lock = threading.Lock()
        self.why_not = ""
        self.why_unread = ""

    def read(self) -> bytes | None:
        """Return the content; None if there is no file, or it cannot be read."""
        kept = self._memory
        if kept is not None:
            return kept
        self.why_unread = ""
        try:
            folder_fd = os.open(self._folder, dirs.FOLDER)
        except FileNotFoundError:
            self.why_not = ""
            return None
        except OSError as error:
            self._take_failure(error)
            return None
        try:
            return dirs.read(self._name, MOST_BYTES, folder_fd=folder_fd, flags=os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.why_unread = dirs.reason(error)
            return None
        finally:
            os.close(folder_fd)

    def _take_failure(self, error: OSError) -> None:
        """Note why the folder cannot be opened; it does not exist if a part of its path is a file."""
        why = dirs.reason(error)
        if isinstance(error, NotADirectoryError):
            try:
                is_link = stat.S_ISLNK(os.lstat(self._folder).st_mode)
            except (FileNotFoundError, NotADirectoryError):
                # A run beside a sidecar works without one.
                self.why_not = why
                return
            except OSError as unseen:
                why = dirs.reason(unseen)
            else:
                why = "it is a link" if is_link else why
        self.why_unread = f"the folder cannot be opened: {why}"

    def write(self, data: bytes) -> None:
        """Store this content; ``loop_latency.join_background`` waits for the disk."""
        with self._lock:
            self._memory = data
            if self._storing:
                return
            self._storing = True
        loop_latency.run_in_background(self._store)

    def write_again(self) -> None:
        """Store what could not be stored, once some time has passed: a full disk may have room again."""
        with self._lock:
            if self._memory is None or self._storing or time.monotonic() - self._tried_s < AGAIN_S:
                return
            self._storing = True
        loop_latency.run_in_background(self._store)

    def _store(self) -> None:
        """Write the newest content to the disk."""
        self._tried_s = time.monotonic()
        while (data := self._memory) is not None:
            why_not = self._put(data)
            with self._lock:
                if self._memory is not data:
                    continue
                self.why_not = why_not
                self._memory = data if why_not else None
                self._storing = False
                return

    def _put(self, data: bytes) -> str:
        try:
            with dirs.opened(self._folder) as folder_fd:
                dirs.put_file(folder_fd, self._name, data.decode(), durable=True)
        except OSError as error:
            return error.strerror or str(error)
        except ConfigError as error:
            return str(error)
        return ""


FILE = "owner.json"


class Record(msgspec.Struct, frozen=True):
    """The content of the file. ``ephemeral`` is whether the device was logged in with an ephemeral key."""

    choice: Literal["connected", "disconnected", "forgotten", "unknown"]
    ephemeral: bool = False


class DesiredStateStore:
    """The owner's choice, which persists across restarts as long as the state folder does.

    If it exists and cannot be read, it is unknown until it is set again, and ``why_unread`` has the reason.
    """

    def __init__(self, state_dir: str) -> None:
        self._file = StateFile(state_dir, FILE)
        data = self._file.read()
        self._why_unread = self._file.why_unread
        self.found = data is not None or bool(self._why_unread)
        self.record = Record("unknown" if self._why_unread else "connected")
        if data is not None:
            try:
                self.record = decode_json(data, Record)
            except msgspec.DecodeError as error:
                self._why_unread = f"it is damaged: {str(error).lower()}" if data else "it is empty"
                self.record = Record("unknown")

    @property
    def choice(self) -> str:
        """The choice: connected, disconnected, forgotten or unknown."""
        return self.record.choice

    @property
    def why_unread(self) -> str:
        """Why the choice is unknown; empty if it is known."""
        return (self._why_unread or "it could not be read before") if self.choice == Choice.UNKNOWN else ""

    @property
    def why_not_kept(self) -> str:
        """Why the choice would be lost with this process; empty if it would not."""
        return self._file.why_not

    def keep(self, choice: str, *, ephemeral: bool, first: bool = False) -> None:
        """Store the choice if it has changed; ``first`` also stores an unchanged one if there is no file yet."""
        before = self.record
        if (choice, ephemeral) != (before.choice, before.ephemeral) or (first and not self.found):
            self.record = msgspec.convert({"choice": choice, "ephemeral": ephemeral}, Record)
            self.found = True
            self._file.write(msgspec.json.encode(self.record))
        else:
            self._file.write_again()
