"""What is different with a tailscaled that is somebody else's, a sidecar's: it is left as its owner wants it."""

from __future__ import annotations

import os
from typing import NamedTuple

# Whoever runs the sidecar logs it in within moments of its start; a login of ours would break into theirs.
HANDS_OFF_S = 5.0
# So long after an order, being switched off may still be the order's own doing.
OBEYED_S = 5.0
BEFORE_DISCONNECT = (
    "if the sidecar runs the official image's own start program (containerboot), it ends when the device is "
    "disconnected or forgotten, is started again by the platform, logs in again, and is disconnected again, without "
    "end; to stay disconnected, run `tailscaled` itself as the sidecar's command"
)
WHERE_IT_IS = (
    "see that the sidecar runs, and that the folder of its socket is mounted here, at TS_SOCKET, and may be entered by "
    "the supervisor's user"
)
MAY_NOT = (
    "run the supervisor as root or as tailscaled's user, or run `tailscale set --operator=USER` beside tailscaled; "
    "then connect again"
)


class Passivity(NamedTuple):
    """Whether a device that is switched off is to stay so: it is, but for what an order of ours brings about.

    ``ordered_s`` is when the owner last ordered something, None once that has come about.
    """

    attached: bool
    ordered_s: float | None = None

    def order(self, now_s: float) -> Passivity:
        """Return it after an order."""
        return self._replace(ordered_s=now_s)

    def see(self, state: str, now_s: float) -> Passivity:
        """Return it after a look: what was ordered has come about when the device has been seen running since."""
        done = self.ordered_s is not None and state == "Running" and now_s - self.ordered_s >= OBEYED_S
        return self._replace(ordered_s=None) if done else self

    def holds(self) -> bool:
        """Tell whether a device that is switched off stays so."""
        return self.attached and self.ordered_s is None

    def waits(self, state: str, held_s: float) -> bool:
        """Tell whether a login is still left to whoever runs the sidecar."""
        return self.holds() and state == "NeedsLogin" and held_s < HANDS_OFF_S


def life_of(socket_path: str) -> object:
    """Return what tells one socket of a sidecar from its next one; None where there is none."""
    try:
        found = os.stat(socket_path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
