"""One login after the other: which key, how often it was refused, and the URL a person may be using instead."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor.core.counts import NO_ANSWER, NO_KEY, REFUSED, SUCCEEDED, Counts, plus_one
from supervisor.secret import Secret
from supervisor.tailnet import attempt as attempts
from supervisor.tailnet import states
from supervisor.tailnet.attempt import Attempt
from supervisor.tailnet.course import IN_A_TAILNET, Key
from supervisor.tailnet.keys import Keys, fingerprint
from supervisor.tailnet.localapi import LocalApiError
from supervisor.tailnet.oauth import OAuthRefusedError, OAuthUnavailableError

if TYPE_CHECKING:
    from supervisor.config.plan import Plan
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.tailnet.hands import Hands
    from supervisor.tailnet.keys import Credential
    from supervisor.tailnet.wire import Status

# A login URL that does not come is asked for again.
_URL_AGAIN_S = 30.0
_SETTLED_S = 60.0
_NEEDED = "NeedsLogin"
# Where control has taken a key that was under way.
_TAKEN = frozenset({"Starting", "NeedsMachineAuth"})
# tailscaled does not say what it has until it has heard from control.
_MAY_HAVE_LOGIN = IN_A_TAILNET | {"NoState"}


class Login:
    """What is known of the login under way, of the last one, and of what a person asked for.

    ``wish`` is a number that changes with what the owner wants, ``failure`` the last thing that went wrong with a login
    for a wish. ``give_up`` says that a round of tries has ended and tailscaled still tries; ``again`` that a new login
    is wanted though the device is in a tailnet. ``results`` counts logins by what came of them; ``came_about`` says of
    one whose key control has just taken, and that nobody has noted yet, whether it made the device ephemeral.
    """

    def __init__(self, plan: Plan, log: LogPipeline, hands: Hands) -> None:
        self._log = log
        self._hands = hands
        self._keys = Keys(plan.settings.tailnet, log.redactor)
        self._credential: Credential | None = None
        self._clicked = False
        self._url_clicked = False
        self._url_asked_s: float | None = None
        self.url: Secret | None = None
        self.attempt = Attempt()
        self.again = False
        self.give_up = False
        self._last_error = ""
        self.last_error_s: float | None = None
        self.results: Counts = ()
        self._by_url = self._handing_over = False
        self._node_key = ""
        self.wish = 0
        self.failure: tuple[int, str] | None = None
        self._minting: bytes | None = None
        self._makes_ephemeral: bool | None = None
        self.gone_back_s: float | None = None
        self.came_about: bool | None = None

    @property
    def last_error(self) -> str:
        """Return the last thing that went wrong; ``last_error_s`` is when, on the monotonic clock."""
        return self._last_error

    @last_error.setter
    def last_error(self, text: str) -> None:
        self._last_error = text
        self.last_error_s = time.monotonic() if text else None

    @property
    def key_trouble(self) -> str:
        """Return why the key of the settings cannot be read; empty where it can."""
        return self._keys.trouble

    def connect(self, key: Secret | None, state: str, now_s: float) -> None:
        """Take a person's wish: whatever was tried before is tried at once, unless its answer may be on the way."""
        taken = self.attempt.under_way and not self.again and state in _TAKEN
        waits = taken or self._minting is not None or attempts.is_fresh(self.attempt, now_s)
        if not waits or (key is not None and fingerprint(key) != (self._minting or self.attempt.fingerprint)):
            self.wish += 1
        if key is None and not waits and self.again:
            self._let_go("the device was to connect without it")
        if not waits:
            self.attempt = Attempt()
        if key is not None:
            self._keys.pasted = key
            self.again = self.again or state in _MAY_HAVE_LOGIN
        self._clicked = True
        self._url_clicked = self.give_up = False

    def disconnect(self, *, under_way: bool) -> None:
        """Take the opposite; a login under way is ended, since tailscaled would go on trying."""
        self.wish += 1
        self.give_up = under_way or self.attempt.under_way
        self.attempt = Attempt()
        self._keys.pasted = None
        self._clicked = self._url_clicked = self.again = False
        self._url_asked_s = self._makes_ephemeral = None
        # What went wrong before says nothing of what comes now.
        self.last_error = ""

    def interrupted(self) -> None:
        """Note that tailscaled was restarted: it has forgotten what it was asked."""
        self.attempt = attempts.interrupted(self.attempt)
        self._url_asked_s = None

    def forget(self) -> None:
        """Note that the device was logged out."""
        self.attempt = Attempt()
        self.give_up = False
        self.url = self._url_asked_s = None

    def see_url(self, url: str) -> None:
        """Take the URL that tailscaled tells of; the same one stays the same object."""
        if not url or self._handing_over or self.attempt.under_way or self.give_up:
            # What was pending is worth nothing once a key is handed over.
            self.url = None
        elif self.url is None or not self.url.matches(url):
            self._log.redactor.learn(url)
            self.url = Secret(url)

    def see_error(self, text: str, state: str, now_s: float) -> None:
        """Take an error from the bus: while a login is under way it is about that, else it may be of an earlier one."""
        if self.attempt.under_way or state == _NEEDED:
            self.last_error = text
        before = self.attempt
        self.attempt = attempts.refused(before, text, now_s)
        self.give_up = self.give_up or (before.under_way and not self.attempt.under_way)
        if self.attempt.refusals > before.refusals:
            self._count(REFUSED)
            self._fail(text)
        if self.attempt.refusals == 1 and not before.refusals:
            self._log.record("error", "tailnet: the key was refused", kind=self.attempt.kind, why=text)

    def follow(self, state: str, status: Status, held_s: float, now_s: float) -> None:
        """Draw the conclusions from the state, which has been what it is for ``held_s``."""
        attempt = self.attempt
        node_key = status.node.public_key if status.node is not None else ""
        if not attempt.under_way:
            self._node_key = node_key
        online = status.node is not None and status.node.online
        if attempt.under_way and state in _TAKEN and not (self.again and node_key == self._node_key):
            # An approval may take days, and outlive this process.
            self.came_about = self._makes_ephemeral
        if state == "Running" and online:
            # The old login of a device that logs in anew may hold on until the new one is there.
            if attempt.under_way and not (self.again and node_key == self._node_key):
                self._succeed(now_s)
            if self._by_url:
                self._by_url = self.came_about = False
                self._count(SUCCEEDED)
            self._url_asked_s = None
        if state == "Running" and held_s >= _SETTLED_S and not attempt.under_way and not self.again:
            self._settle(Attempt())
        fruitless = state == _NEEDED and attempts.is_fruitless(self.attempt, now_s) and not _unreached(status)
        unanswered = self.again and node_key == self._node_key and attempts.is_overdue(self.attempt, now_s)
        if fruitless or unanswered:
            self.last_error = attempt.note or attempt.error or "the login brought neither success nor an error"
            self.attempt = attempts.given_up(attempt._replace(note=self.last_error), now_s)
            self.give_up = self.give_up or self.again
            self._count(NO_ANSWER)
            self._fail(self.last_error)
        if state == _NEEDED:
            self._by_url = self.url is not None and not self.attempt.under_way

    def _fail(self, why: str) -> None:
        self.failure = self.attempt.wish, why

    def _count(self, result: str) -> None:
        self.results = plus_one(self.results, result)

    def _succeed(self, now_s: float) -> None:
        self._count(SUCCEEDED)
        self._hands.logged_out = False
        self._settle(attempts.succeeded(self.attempt, now_s))

    def _settle(self, attempt: Attempt) -> None:
        """Note that the device is in its tailnet: what was tried for that has done its duty."""
        self.attempt = attempt
        self.came_about, self._makes_ephemeral = self._makes_ephemeral, None
        self._keys.pasted = None
        self.again = self._clicked = self._url_clicked = False

    async def look_for_key(self, state: str, now_s: float, *, known: bool) -> Key:
        """Return where things stand with a key, should one be needed in this state.

        ``known`` says that tailscaled has a node key: without one there is no login to be replaced.
        """
        self.again = self.again and (known or state != _NEEDED)
        if state != _NEEDED and not self.again:
            return Key.WAITS
        self._credential = await self._keys.current()
        if self._credential is None:
            return Key.NONE
        another = self._credential.fingerprint != self.attempt.fingerprint
        if (self._url_clicked or self.attempt.error) and self.url is not None and not another:
            # A person may be using the URL, and another login would make it worthless.
            return Key.WAITS
        return Key.DUE if self.attempt.due(self._credential.fingerprint, now_s) else Key.WAITS

    @property
    def url_wanted(self) -> bool:
        """Whether a person is to get a login URL: there is no key, or who clicked was left with a bad one."""
        return self._credential is None or self._url_clicked

    def url_asked(self, now_s: float) -> bool:
        """Tell whether there is a URL, or one may still come."""
        return self.url is not None or (self._url_asked_s is not None and now_s - self._url_asked_s < _URL_AGAIN_S)

    async def ask_url(self) -> None:
        """Have tailscaled ask for a login URL. Raises LocalApiError."""
        self.url = None
        await self._hands.log_in(None)
        self._url_asked_s = time.monotonic()

    async def give_up_on_key(self, *, known: bool) -> None:
        """Have tailscaled stop trying; ``known`` says that it has a node key to go on with. Raises LocalApiError."""
        if self.again:
            self._let_go(self.last_error)
            await self._go_back(on=True)
            return
        await self._go_back(on=known)
        self._makes_ephemeral = None
        # Who clicked is not left alone with a key that does not work.
        self._url_clicked = self._clicked

    def goes_back(self, now_s: float) -> bool:
        """Tell whether the device is about to take up the login that it has."""
        going = self.again and self.give_up
        return going or (self.gone_back_s is not None and now_s - self.gone_back_s < states.SILENCE_S)

    def _let_go(self, why: str) -> None:
        """Let go of a new key: the device has a login."""
        self.again = self._clicked = self.give_up = False
        self._keys.pasted = self._makes_ephemeral = None
        self.attempt = Attempt()
        self.last_error = f"the new key was not taken, and the device keeps its login: {why}"

    async def keep_login(self) -> None:
        """Take up the login that the device has, since nothing else is wanted. Raises LocalApiError."""
        self.attempt = Attempt()
        await self._go_back(on=True)

    async def stop_trying(self) -> None:
        """Switch the device off, and have tailscaled let go of the key it was given. Raises LocalApiError."""
        await self._go_back(on=False)

    async def _go_back(self, *, on: bool) -> None:
        # The login URL is worth nothing as soon as tailscaled begins anew.
        self.url = None
        self.gone_back_s = time.monotonic()
        await self._hands.keep_login(on=on)
        self.give_up = False

    async def log_in(self) -> None:
        """Log in with the present key. Raises LocalApiError."""
        credential, wish = self._credential, self.wish
        if credential is None:
            return
        begun = attempts.begin(self.attempt, credential.fingerprint, time.monotonic(), wish)
        # Whoever asked for it may want something else by the time it is there.
        self._minting = credential.fingerprint
        try:
            usable = await self._keys.usable(credential)
        except (OAuthRefusedError, OAuthUnavailableError) as error:
            if self.wish == wish:
                self._go_without_key(begun, credential, error)
            return
        finally:
            self._minting = None
        if self.wish != wish:
            return
        self._makes_ephemeral = usable.ephemeral
        # Known before tailscaled is told: the first refusal may come at once.
        self.attempt = begun._replace(begun_s=time.monotonic())
        self.url = self._url_asked_s = None
        self._log.record("info", "tailnet: logging in with a key")
        self._handing_over = True
        try:
            await self._hands.log_in(usable.key, anew=self.again)
        except LocalApiError:
            self.attempt = attempts.interrupted(self.attempt)
            raise
        finally:
            self._handing_over = False

    def _go_without_key(
        self, begun: Attempt, credential: Credential, error: OAuthRefusedError | OAuthUnavailableError
    ) -> None:
        """Take in that the OAuth client got no key: for good, or for now."""
        self._count(NO_KEY)
        self.last_error = why = str(error)
        self.failure = self.wish, why
        now_s = time.monotonic()
        if not isinstance(error, OAuthRefusedError):
            self._log.record("warning", "tailnet: no key could be had yet", why=why)
            self.attempt = attempts.unavailable(self.attempt, credential.fingerprint, why, now_s)
            return
        self._log.record("error", "tailnet: no key could be had", why=why)
        if self.again:
            self._let_go(why)
            return
        self.attempt = attempts.refused(begun, why, now_s, final=True)._replace(kind=error.kind)
        self._url_clicked = self._clicked


def _unreached(status: Status) -> bool:
    return states.is_unreached(states.trouble_of(status))
