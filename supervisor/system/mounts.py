"""The file system of a path, and whether it outlives the container."""

from __future__ import annotations

import os
import re

from supervisor.system import procfs

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
# mountinfo escapes spaces, newlines and backslashes.
_ESCAPED = re.compile(rb"\\([0-7]{3})")
# Types of a container's root with Docker, Podman and gVisor; on a machine it is a disk.
_OF_CONTAINERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs", "9p", "gofer", "none"})


def file_system(path: str) -> tuple[str, str]:
    """Return the mount point of a path, and the type of its file system; empty if unknown."""
    real = os.fsencode(os.path.realpath(path))
    found = (b"", b"")
    # proc(5): the mount point is the fifth word, the type the first after a lone dash; the last mount counts.
    for line in procfs.read("/proc/self/mountinfo").splitlines():
        words = line.split(b" ")
        place = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8)]), words[4])
        is_above = real == place or real.startswith(place.rstrip(b"/") + b"/")
        if is_above and len(place) >= len(found[0]) and b"-" in words:
            found = (place, words[words.index(b"-") + 1])
    return os.fsdecode(found[0]), os.fsdecode(found[1])


def is_kept(path: str) -> bool:
    """Return whether files there outlive the container, as far as the kernel reports."""
    place, kind = file_system(path)
    if kind in IN_MEMORY:
        return False
    return place != "/" or kind not in _OF_CONTAINERS
