"""The version of tailscaled that this program was tested with, and the note about other versions."""

from __future__ import annotations

# The version in scripts/tailscaled.pin, with which all tests run.
TESTED = "1.102.5"
# Versions whose source scripts/check-tailscale has checked, but which were not run.
LOOKED_UP = ("1.104.7",)
ADVICE = "how to look it up, and what changed: docs/how-to/upgrade.md"


def untried(version: str) -> str:
    """Return the note about an untested version; empty for the tested series, and for an unknown version."""
    plain = version.partition("-")[0]
    if not plain or _series(plain) == _series(TESTED):
        return ""
    found = "what the supervisor relies on was found in its source" if plain in LOOKED_UP else ADVICE
    return f"tailscaled {plain} was not tested with this version of the supervisor, unlike {TESTED}; {found}"


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])
