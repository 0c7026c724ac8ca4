"""Which file system a path lies on, and whether that outlives the container."""

from __future__ import annotations

import os

from supervisor.system import procfs

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
# What the root of a container is, with Docker, Podman and gVisor; on a machine it is a disk.
_OF_CONTAINERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs", "9p", "gofer", "none"})


def file_system(path: str) -> tuple[str, str]:
    """Return the mount point that a path lies on, and the type of what is mounted there; empty if unknown."""
    real = os.path.realpath(path)
    found = ("", "")
    # proc(5): the mount point is the fifth word, the type the first after a lone dash; the last mount counts.
    for line in procfs.read("/proc/self/mountinfo").decode(errors="replace").splitlines():
        words = line.split(" ")
        place = words[4].encode().decode("unicode_escape")
        is_above = real == place or real.startswith(f"{place.rstrip('/')}/")
        if is_above and len(place) >= len(found[0]) and "-" in words:
            found = (place, words[words.index("-") + 1])
    return found


def is_kept(path: str) -> bool:
    """Tell whether what is written there outlives the container, as far as the kernel tells."""
    place, kind = file_system(path)
    if kind in _IN_MEMORY:
        return False
    return place != "/" or kind not in _OF_CONTAINERS
