"""Small files of ours in the state folder: they hold what tailscaled does not keep for us."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from supervisor.errors import ConfigError
from supervisor.system import folders

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class KeptFile:
    """One file in a folder that may belong to another user: no link in it is followed.

    What cannot be kept on the disk is kept in memory for this run; ``why_not`` then says why, else it is empty.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._name = name
        self._memory: bytes | None = None
        self.why_not = ""

    def read(self) -> bytes | None:
        """Return what is kept; None where nothing is, or where it is not a small regular file."""
        if self._memory is not None:
            return self._memory
        try:
            with _opened(self._folder, _FOLDER) as folder_fd, _opened(self._name, _FILE, folder_fd) as fd:
                data = os.read(fd, MOST_BYTES + 1)
        except OSError:
            return None
        return data if len(data) <= MOST_BYTES else None

    def write(self, data: bytes) -> None:
        """Keep this from now on."""
        self._memory = data
        try:
            with _opened(self._folder, _FOLDER) as folder_fd:
                folders.put_file(folder_fd, self._name, data.decode())
        except (OSError, ConfigError) as error:
            self.why_not = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        else:
            self._memory = None
            self.why_not = ""


@contextmanager
def _opened(path: str, flags: int, folder_fd: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags, dir_fd=folder_fd)
    try:
        yield fd
    finally:
        os.close(fd)
