"""How often a key may be refused, and when it is tried again. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import NamedTuple

# tailscaled itself would try for ever, several times a second at first.
MOST_REFUSALS = 3
_MINUTE_S = 60.0
_LONGEST_S = 15 * _MINUTE_S
# A login that brings neither success nor an error for so long brings none.
FRUITLESS_S = 60.0
# So long an answer may take; a second login meanwhile would use up a key that has just been taken.
_FRESH_S = 10.0
# Where Tailscale's API cannot be asked for a key, the first wait; it doubles.
_UNAVAILABLE_S = 5.0
_RATE_LIMIT = "rate limit"
# Refusals say it in words of their control server; these are what the known ones have in common.
_KINDS = (
    ("tag not permitted", ("tag",)),
    ("expired", ("expired",)),
    ("used up", ("already used", "used up", "been used", "single-use", "not reusable")),
)


class Attempt(NamedTuple):
    """The tries with one key. ``fingerprint`` tells keys apart, ``begun_s`` is when tailscaled was last given it.

    ``wish`` is the owner's wish that it was begun for: what comes of it is an answer to that and to no other.

    ``rounds`` counts the times it was given up on, ``next_try_s`` is when it is tried again; ``error`` is the last
    refusal as the other side put it, ``kind`` what it comes down to, ``note`` what is worth knowing meanwhile.
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
        """Whether tailscaled has the key and has not given up on it, nor have we."""
        return self.begun_s is not None

    def due(self, fingerprint: bytes, now_s: float) -> bool:
        """Tell whether this key is to be tried now: it is another one, or was never tried, or its wait is over."""
        if fingerprint != self.fingerprint:
            return True
        return not self.under_way and (self.next_try_s is None or now_s >= self.next_try_s)


def begin(attempt: Attempt, fingerprint: bytes, now_s: float, wish: int = 0) -> Attempt:
    """Return the attempt with a key that has just been handed over."""
    if fingerprint != attempt.fingerprint:
        return Attempt(fingerprint, now_s, wish=wish)
    return attempt._replace(begun_s=now_s, refusals=0, next_try_s=None, note="", wish=wish)


def interrupted(attempt: Attempt) -> Attempt:
    """Return it after tailscaled was restarted: what it had been given is lost, and is given again at once."""
    return attempt._replace(begun_s=None) if attempt.under_way else attempt


def refused(attempt: Attempt, text: str, now_s: float, *, final: bool = False) -> Attempt:
    """Take one refusal; the third ends the round, and so does one that is ``final``.

    Being told to wait is none: tailscaled does wait.
    """
    if not attempt.under_way:
        return attempt
    if _RATE_LIMIT in text.lower():
        return attempt._replace(note=text)
    attempt = attempt._replace(refusals=attempt.refusals + 1, kind=kind_of(text), error=text)
    return given_up(attempt, now_s) if final or attempt.refusals >= MOST_REFUSALS else attempt


def given_up(attempt: Attempt, now_s: float) -> Attempt:
    """Return it with the round over: the next one comes after 1, 2, 4, 8 and then every 15 minutes."""
    wait_s = min(_LONGEST_S, _MINUTE_S * 2.0 ** min(attempt.rounds, 10))
    return attempt._replace(begun_s=None, rounds=attempt.rounds + 1, next_try_s=now_s + wait_s)


def unavailable(attempt: Attempt, fingerprint: bytes, text: str, now_s: float) -> Attempt:
    """Return it after no key could be had for a reason that is not the key's fault."""
    attempt = begin(attempt, fingerprint, now_s)
    wait_s = min(_LONGEST_S, _UNAVAILABLE_S * 2.0 ** min(attempt.rounds, 10))
    return attempt._replace(begun_s=None, rounds=attempt.rounds + 1, next_try_s=now_s + wait_s, note=text)


def is_fresh(attempt: Attempt, now_s: float) -> bool:
    """Tell whether a login has begun so lately that its answer, of which there is none yet, may be on the way."""
    return attempt.begun_s is not None and now_s - attempt.begun_s < _FRESH_S and not attempt.refusals


def is_overdue(attempt: Attempt, now_s: float) -> bool:
    """Tell whether a login has been under way for too long."""
    return attempt.begun_s is not None and now_s - attempt.begun_s >= FRUITLESS_S


def is_fruitless(attempt: Attempt, now_s: float) -> bool:
    """Tell whether it has been under way for too long without any word: neither a refusal nor to wait."""
    return is_overdue(attempt, now_s) and not attempt.refusals and not attempt.note


def kind_of(text: str) -> str:
    """Return what a refusal comes down to: invalid, expired, used up or tag not permitted."""
    words = text.lower()
    return next((kind for kind, signs in _KINDS if any(sign in words for sign in signs)), "invalid")


def succeeded(attempt: Attempt, now_s: float) -> Attempt:
    """Return it once the device is in its tailnet. A login that does not last is not repeated without end."""
    wait_s = 0.0 if not attempt.rounds else min(_LONGEST_S, _MINUTE_S * 2.0 ** min(attempt.rounds - 1, 10))
    return Attempt(attempt.fingerprint, rounds=attempt.rounds + 1, next_try_s=now_s + wait_s)
