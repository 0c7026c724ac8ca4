"""Whether the kernel ended something for want of memory, as the control group counts it."""

from __future__ import annotations

_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


class OomCounter:
    """Tells whether the kernel's count of out-of-memory kills rose since it was last asked."""

    def __init__(self) -> None:
        self._seen = _kills()

    def rose(self) -> bool | None:
        """Return None where this kernel does not say (gVisor, no control group)."""
        seen, self._seen = self._seen, _kills()
        if seen is None or self._seen is None:
            return None
        return self._seen > seen


def _kills() -> int | None:
    for path in _COUNTERS:
        try:
            with open(path, encoding="ascii") as file:
                for line in file:
                    key, _, value = line.partition(" ")
                    if key == "oom_kill":
                        return int(value)
        except (OSError, ValueError):
            continue
    return None
