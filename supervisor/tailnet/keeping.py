"""Small files of ours in the state folder: they hold what tailscaled does not keep for us."""

from __future__ import annotations

import os
import threading

from supervisor.errors import ConfigError
from supervisor.runtime import loop_latency
from supervisor.system import dirs

MOST_BYTES = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class KeptFile:
    """One file in a folder that may belong to another user: no link in it is followed.

    What cannot be kept on the disk is kept in memory for this run; ``why_not`` then says why, else it is empty.
    ``why_unread`` says why what is there could not be read; it is empty where it could, or where nothing is there.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._name = name
        self._memory: bytes | None = None
        self._storing = False
        self._lock = threading.Lock()
        self.why_not = ""
        self.why_unread = ""

    def read(self) -> bytes | None:
        """Return what is kept; None where nothing is, or where it cannot be read."""
        kept = self._memory
        if kept is not None:
            return kept
        self.why_unread = ""
        try:
            folder_fd = os.open(self._folder, _FOLDER)
        except OSError as error:
            # What cannot be entered has nothing of ours; a run beside a sidecar does without.
            self.why_not = "" if isinstance(error, FileNotFoundError) else dirs.reason(error)
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

    def write(self, data: bytes) -> None:
        """Keep this from now on; ``loop_latency.join_background`` waits for the disk."""
        with self._lock:
            self._memory = data
            if self._storing:
                return
            self._storing = True
        loop_latency.run_in_background(self._store)

    def _store(self) -> None:
        """Put the newest on the disk."""
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
            folder_fd = os.open(self._folder, _FOLDER)
            try:
                dirs.put_file(folder_fd, self._name, data.decode(), durable=True)
            finally:
                os.close(folder_fd)
        except OSError as error:
            return error.strerror or str(error)
        except ConfigError as error:
            return str(error)
        return ""
