"""Where a secret setting comes from: a value given once, or a file that is read anew at each use."""

from __future__ import annotations

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
    # Loaded where there is a file to read: values of the environment need none.
    from supervisor.system import files

    try:
        text = files.read_text(path, MOST_BYTES).strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read {name} from {path}: {files.why(error)}; check the path, and that the supervisor may read it"
        ) from error
    except ValueError as error:
        raise _unfit(name, path, str(error)) from error
    if not text.isprintable() or not text:
        raise _unfit(name, path, "it has more than one line, or control characters" if text else "it is empty")
    return text


def _unfit(name: str, path: str, why: str) -> ConfigError:
    return ConfigError(f"cannot use {name} from {path}: {why}; put the secret alone into the file, in one line")
