"""Reads small files that people and programs wrote: bounded, without waiting, and told as what they are."""

from __future__ import annotations

import os
import stat


def read(path: str, most_bytes: int, *, folder_fd: int | None = None, flags: int = 0) -> bytes:
    """Return all that is in a file.

    Raises OSError, or ValueError with the reason where it is a pipe (it could be read but once) or too large.
    """
    # O_NONBLOCK: a pipe that no one writes to must not hold anything up.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags, dir_fd=folder_fd)
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            raise ValueError("it is a pipe and no file")
        data = b""
        while len(data) <= most_bytes and (chunk := os.read(fd, most_bytes + 1 - len(data))):
            data += chunk
    finally:
        os.close(fd)
    if len(data) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes")
    return data


def read_text(path: str, most_bytes: int) -> str:
    """Return the text in a file, without a byte order mark. Raises OSError, or ValueError with the reason."""
    return text_of(read(path, most_bytes))


def text_of(data: bytes) -> str:
    """Return the text that bytes are, without a byte order mark. Raises ValueError where they are none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"it is not UTF-8 text (at line {line})") from error


def why(error: OSError | ValueError) -> str:
    """Return the reason that one of these gives."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
