"""What tailscaled did not do: when it is asked again, and what it does not let this user do at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.tailnet.localapi import ForbiddenError

if TYPE_CHECKING:
    from supervisor.tailnet.course import Act
    from supervisor.tailnet.localapi import LocalApiError

_LONGEST_S = 60.0


class Setbacks:
    """One failure after the other makes the wait longer; any success, or a person's order, begins anew."""

    def __init__(self) -> None:
        self._failures = 0
        self._not_before_s = 0.0
        self._refusals: dict[Act, str] = {}

    def begin_anew(self) -> None:
        """Forget all of them."""
        self.allow()
        self.succeeded()
        self._not_before_s = 0.0

    def allow(self) -> None:
        """Forget what was not allowed: it may be another tailscaled."""
        self._refusals.clear()

    def succeeded(self) -> None:
        """Note that something was done."""
        self._failures = 0

    def failed(self, now_s: float) -> bool:
        """Note that something was not done; tell whether it is the first time in a row."""
        self._failures += 1
        self._not_before_s = now_s + min(_LONGEST_S, 2.0**self._failures / 2)
        return self._failures == 1

    def refused(self, act: Act, error: LocalApiError) -> None:
        """Note why it was not done, where that is for good."""
        if isinstance(error, ForbiddenError):
            self._refusals[act] = f"the supervisor's user may not have this tailscaled {act.value}: {error}"

    def forbids(self, act: Act) -> str:
        """Return why something cannot be done by this user; empty where it can."""
        return self._refusals.get(act, "")

    def hold(self, now_s: float) -> bool:
        """Tell whether it is too early to ask for anything."""
        return now_s < self._not_before_s
