"""Where a secret setting comes from: a value given once, or a file that is read anew at each use."""

from __future__ import annotations

import os

from supervisor.errors import ConfigError
from supervisor.secret import Secret

MOST_BYTES = 64 * 1024


class SecretSource:
    """One secret setting. ``path`` is None where the value itself was given."""

    __slots__ = ("_value", "name", "path")

    def __init__(self, name: str, value: Secret | None = None, path: str | None = None) -> None:
        self.name = name
        self.path = path
        self._value = value

    def __repr__(self) -> str:
        return f"SecretSource({self.name!r}, path={self.path!r})"

    def read(self) -> Secret:
        """Return the secret as it is now, without the white space around it.

        Raises ConfigError where its file cannot be read, is empty, too large, or not one line of text.
        """
        return self._value if self._value is not None else Secret(_text_of(self.name, self.path or ""))


def _text_of(name: str, path: str) -> str:
    try:
        # O_NONBLOCK: a pipe that no one writes to must not hold up the start.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            data = os.read(fd, MOST_BYTES + 1)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"cannot read {name} from {path}: {why}; check the path, and that the supervisor may read it"
        ) from error
    why = _unfit(data)
    if why:
        raise ConfigError(f"cannot use {name} from {path}: {why}; put the secret alone into the file, in one line")
    return data.decode().strip()


def _unfit(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        return f"it has more than {MOST_BYTES} bytes"
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        return "it is not UTF-8 text"
    if not text:
        return "it is empty"
    return "" if text.isprintable() else "it has more than one line, or control characters"
