"""Which tailscaled this program was tested with, and what to say of another one."""

from __future__ import annotations

# That of scripts/tailscaled.pin, which all tests run.
TESTED = "1.102.5"
# What the program relies on was found in the source of these by scripts/check-tailscale; they have not been run.
LOOKED_UP = ("1.104.7",)
ADVICE = "how to look it up, and what changed: docs/how-to/upgrade.md"


def untried(version: str) -> str:
    """Return what to say of a tailscaled that was never tried; empty for one of the tested series, or unknown."""
    plain = version.partition("-")[0]
    if not plain or _series(plain) == _series(TESTED):
        return ""
    found = "what the supervisor relies on was found in its source" if plain in LOOKED_UP else ADVICE
    return f"tailscaled {plain} was never tried with this version of the supervisor, but {TESTED} was; {found}"


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])
