"""Takes rights of root away from a child that does not need them."""

from __future__ import annotations

import os

# capabilities(7).
_CAP_SETPCAP = 8
# Reading folders that are closed to others.
READ = ("dac_override",)
# The same, and giving files to their owners.
RESTORE = ("dac_override", "chown", "fowner")


def only(wanted: tuple[str, ...], launcher: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words before a child's own that leave it these capabilities alone.

    Nothing where this process is not root, or may not take rights away, or there is no setpriv of util-linux.
    """
    if os.geteuid() != 0 or not launcher or not _effective() >> _CAP_SETPCAP & 1:
        return ()
    kept = "".join(f",+{name}" for name in wanted)
    return (launcher[0], "--inh-caps=-all", f"--bounding-set=-all{kept}", "--")


def _effective() -> int:
    try:
        with open("/proc/self/status", "rb", buffering=0) as file:
            return int(file.read().partition(b"\nCapEff:")[2].split(maxsplit=1)[0], 16)
    except (OSError, ValueError, IndexError):
        return 0
