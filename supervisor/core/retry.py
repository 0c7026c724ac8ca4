"""When a login with a key is retried, and when an outage triggers recovery: pure, no clock, no I/O."""

from __future__ import annotations

from enum import Enum

from supervisor.namedtuples import NamedTuple

# tailscaled itself would retry forever, several times a second at first.
MOST_REFUSALS = 3
_MINUTE_S = 60.0
_LONGEST_S = 15 * _MINUTE_S
# A login without success or error for this long is given up.
FRUITLESS_S = 60.0
# An answer may take this long; a second login meanwhile would use up a key that was just accepted.
_FRESH_S = 10.0
# First delay if Tailscale's API is unavailable; it doubles.
_UNAVAILABLE_S = 5.0
RATE_LIMIT = "rate limit"
# Control servers word refusals differently; these are the common parts.
KINDS = (
    ("tag not permitted", ("tag",)),
    ("expired", ("expired",)),
    ("used up", ("already used", "used up", "been used", "single-use", "not reusable")),
)
SOFT_AFTER_S = 60.0
# A restart drops every connection, and direct ones may still work, so it comes late and rarely.
RESTART_AFTER_S = 1800.0


def doubling_s(first_s: float, times: int, longest_s: float = _LONGEST_S) -> float:
    """Return the delay after this many before it: it doubles each time."""
    return min(longest_s, first_s * 2.0 ** min(times, 10))


class LoginRetry(NamedTuple):
    """The tries with one key, identified by ``fingerprint``; ``begun_s`` is when tailscaled got it.

    ``begun_s`` is None once tailscaled has released the key, or is to. ``rounds`` counts how often it was given up,
    ``next_try_s`` is when it is tried again; ``error`` is the last refusal as received, ``kind`` its kind, ``note`` a
    message for people. ``wish`` is the owner's wish that it was started for, to which its result belongs.
    """

    fingerprint: bytes | None = None
    begun_s: float | None = None
    refusals: int = 0
    rounds: int = 0
    next_try_s: float | None = None
    kind: str = ""
    error: str = ""
    note: str = ""
    wish: int = 0

    @property
    def under_way(self) -> bool:
        """Whether tailscaled is trying the key."""
        return self.begun_s is not None

    def due(self, fingerprint: bytes, now_s: float) -> bool:
        """Return whether this key is to be tried now: it is a new key, was never tried, or its delay is over."""
        if fingerprint != self.fingerprint:
            return True
        return not self.under_way and (self.next_try_s is None or now_s >= self.next_try_s)

    def fresh(self, now_s: float) -> bool:
        """Return whether it was started so recently that its answer may be on the way."""
        return self.begun_s is not None and now_s - self.begun_s < _FRESH_S and not self.refusals

    def overdue(self, now_s: float) -> bool:
        """Return whether it has been under way for too long."""
        return self.begun_s is not None and now_s - self.begun_s >= FRUITLESS_S

    def fruitless(self, now_s: float) -> bool:
        """Return whether it has been under way for too long without any message."""
        return self.overdue(now_s) and not self.refusals and not self.note

    def begin(self, fingerprint: bytes, now_s: float, wish: int = 0) -> LoginRetry:
        """Return the retry with a key that was just handed over."""
        if fingerprint != self.fingerprint:
            return LoginRetry(fingerprint, now_s, wish=wish)
        return self._replace(begun_s=now_s, refusals=0, next_try_s=None, note="", wish=wish)

    def interrupted(self) -> LoginRetry:
        """Return the retry after a restart of tailscaled, which has lost the key and gets it again at once."""
        return self._replace(begun_s=None)

    def refused(self, text: str, now_s: float, *, final: bool = False) -> LoginRetry:
        """Return the retry with one more refusal; the third ends the round, as does a ``final`` one.

        A request to wait is not a refusal: tailscaled waits.
        """
        if not self.under_way:
            return self
        if RATE_LIMIT in text.lower():
            return self._replace(note=text)
        found = self._replace(refusals=self.refusals + 1, kind=kind_of(text), error=text)
        return found.given_up(now_s) if final or found.refusals >= MOST_REFUSALS else found

    def given_up(self, now_s: float, first_s: float = _MINUTE_S) -> LoginRetry:
        """Return the retry with the round over: the next one comes after 1, 2, 4, 8 and then every 15 minutes."""
        next_try_s = now_s + doubling_s(first_s, self.rounds)
        return self._replace(begun_s=None, rounds=self.rounds + 1, next_try_s=next_try_s)

    def unavailable(self, fingerprint: bytes, text: str, now_s: float) -> LoginRetry:
        """Return the retry if no key was available for a reason unrelated to the key."""
        return self.begin(fingerprint, now_s)._replace(note=text).given_up(now_s, _UNAVAILABLE_S)

    def succeeded(self, now_s: float) -> LoginRetry:
        """Return the retry once the device is in its tailnet. A login that does not last is not repeated endlessly."""
        wait_s = doubling_s(_MINUTE_S, self.rounds - 1) if self.rounds else 0.0
        return LoginRetry(self.fingerprint, rounds=self.rounds + 1, next_try_s=now_s + wait_s)


def kind_of(text: str) -> str:
    """Return the kind of a refusal: invalid, expired, used up or tag not permitted."""
    words = text.lower()
    return next((kind for kind, signs in KINDS if any(sign in words for sign in signs)), "invalid")


class Recovery(Enum):
    """The kinds of recovery in an outage."""

    SOFT = "restart the control client"
    RESTART = "restart tailscaled"


class Outage(NamedTuple):
    """An outage: since when, what was tried, and when the next recovery is due."""

    since_s: float
    softs: int = 0
    next_s: float = 0.0
    restarted: bool = False


def recover(
    outage: Outage | None, now_s: float, *, away: bool, removed: bool = False
) -> tuple[Outage | None, Recovery | None]:
    """Return the updated outage, and the recovery that is due.

    ``removed`` is whether control seems not to know the device any more, which the first recovery would reveal.
    """
    if not away:
        return None, None
    if outage is None:
        outage = Outage(now_s, next_s=now_s + SOFT_AFTER_S)
    if removed and not outage.softs:
        return outage._replace(softs=1, next_s=now_s + SOFT_AFTER_S), Recovery.SOFT
    if not outage.restarted and now_s - outage.since_s >= RESTART_AFTER_S:
        return outage._replace(restarted=True), Recovery.RESTART
    if now_s < outage.next_s:
        return outage, None
    return outage._replace(softs=outage.softs + 1, next_s=now_s + doubling_s(SOFT_AFTER_S, outage.softs)), Recovery.SOFT
