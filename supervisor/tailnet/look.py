"""What one look at tailscaled brings, and the other devices, which it brings now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.tailnet import report

if TYPE_CHECKING:
    from supervisor.core.snapshot import PeerView
    from supervisor.tailnet.wire import Status

_EVERY_S = 30.0
_SOON_S = 5.0


class Look(NamedTuple):
    """What one look at tailscaled brought.

    ``life`` tells one of its lives from another; ``removed`` says that its log speaks of a device that control does
    not know.
    """

    status: Status
    errors: tuple[str, ...]
    url: str
    life: object
    has_network: bool
    removed: bool
    now_s: float


class Others:
    """The other devices of the tailnet, as they were when they were last asked for."""

    def __init__(self) -> None:
        self.views: tuple[PeerView, ...] = ()
        self._at_s: float | None = None

    def see(self, look: Look) -> None:
        """Take them from a look that has them."""
        if look.status.peers is not None:
            self.views, self._at_s = report.peers_of(look.status), look.now_s

    def due(self, now_s: float, *, soon: bool) -> bool:
        """Tell whether it is time to ask for them again; ``soon``: somebody waits for news."""
        every_s = _SOON_S if soon else _EVERY_S
        return self._at_s is None or now_s - self._at_s >= every_s
