"""How much memory this container may use and does, as its control group tells; gVisor and bare machines do not."""

from __future__ import annotations

_V2, _V1 = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"
# Version 1 writes a number of this size where there is no limit.
_NO_LIMIT = 2**60


def limit_bytes() -> int | None:
    """Return the container's limit; None where there is none, or the kernel does not tell."""
    for path in (f"{_V2}/memory.max", f"{_V1}/memory.limit_in_bytes"):
        found = _number(_read(path))
        if found is not None:
            return found if found < _NO_LIMIT else None
    return None


def used_bytes() -> int | None:
    """Return what the container uses and cannot be taken from it, so without the disk's cache; None if unknown."""
    for path, name in ((f"{_V2}/memory.stat", "anon"), (f"{_V1}/memory.stat", "total_rss")):
        for line in _read(path).splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return _number(value)
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdecimal() else None
