"""Credentials: the admin token, sessions of 12 hours, and one-time sign-in codes."""

from __future__ import annotations

import asyncio
import base64
import math
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from supervisor.config.plan import WILDCARDS
from supervisor.errors import ConfigError
from supervisor.runtime.loop_latency import TimedReader
from supervisor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.config.parsers import SecretSource
    from supervisor.config.plan import Address
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.store import SnapshotStore

SESSION_S = 12 * 3600.0
CODE_S = 15 * 60.0
CODE_CHARACTERS = 20
_MOST_SESSIONS = 100
_MOST_CODES = 64


class Grant(NamedTuple):
    """What a valid credential grants: ``session`` is the session's digest, None for the admin token.

    ``epoch`` counts the admin tokens so far.
    """

    session: bytes | None
    epoch: int


class SignInCode(NamedTuple):
    """A sign-in code, and when it expires on the monotonic clock."""

    secret: Secret
    ends_s: float


class Keyring:
    """Stores sessions and codes, in memory only. ``token`` is the setting of the admin token, reread at each use.

    ``on_end`` is called when a session was ended before its expiry.
    """

    def __init__(self, token: SecretSource | None, log: LogPipeline) -> None:
        self._token = token
        self._log = log
        self.on_end: Callable[[], object] = lambda: None
        self._reader = TimedReader(token.read) if token is not None else None
        self._admin: Secret | None = None
        self._last: Secret | None = None
        self._reading = asyncio.Lock()
        self._read_s = -math.inf
        self._complaint = ""
        self._epoch = 0
        self._sessions: dict[bytes, float] = {}
        self._codes: list[SignInCode] = []

    @property
    def has_token(self) -> bool:
        """Whether an admin token is set, so that no code is needed."""
        return self._token is not None

    async def is_admin(self, candidate: str) -> bool:
        """Return whether this is the admin token."""
        await self.refresh()
        return self._admin is not None and self._admin.matches(candidate)

    async def grant_of(self, bearer: str) -> Grant | None:
        """Return what a bearer token grants; None if it is wrong or has expired."""
        if await self.is_admin(bearer):
            return Grant(None, self._epoch)
        grant = Grant(_digest(bearer), self._epoch)
        return grant if self.is_valid(grant) else None

    def is_valid(self, grant: Grant) -> bool:
        """Return whether a grant is still valid: sessions end, and the admin token may have changed."""
        if grant.session is None or grant.epoch != self._epoch:
            return grant.epoch == self._epoch
        if self.ends_s(grant) <= time.monotonic():
            self._sessions.pop(grant.session, None)
            return False
        return True

    def ends_s(self, grant: Grant) -> float:
        """Return when a grant expires, on the monotonic clock; infinity for the admin token."""
        return math.inf if grant.session is None else self._sessions.get(grant.session, -math.inf)

    def open_session(self) -> tuple[str, float]:
        """Create a session; return its token, which is stored as a digest only, and when it expires."""
        session = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        ends_s = time.monotonic() + SESSION_S
        self._sessions[_digest(session)] = ends_s
        if len(self._sessions) > _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
            self.on_end()
        return session, ends_s

    def end_session(self, grant: Grant) -> None:
        """End a session; has no effect for the admin token."""
        if grant.session is not None:
            self._sessions.pop(grant.session, None)
            self.on_end()

    def new_code(self) -> SignInCode:
        """Create a sign-in code. Older ones stay valid: a new one must not invalidate that of another person."""
        text = base64.b32encode(os.urandom(CODE_CHARACTERS)).decode()[:CODE_CHARACTERS]
        code = SignInCode(Secret(text), time.monotonic() + CODE_S)
        self._codes = [*self._good_codes(), code][-_MOST_CODES:]
        return code

    def redeem_code(self, candidate: str) -> bool:
        """Return whether this is a valid sign-in code, and use it up. Spaces, dashes and lower case are accepted."""
        text = "".join(candidate.upper().replace("-", " ").split())
        codes = self._good_codes()
        matching = [code for code in codes if code.secret.matches(text)]
        self._codes = [code for code in codes if code not in matching]
        return bool(matching)

    def _good_codes(self) -> list[SignInCode]:
        now_s = time.monotonic()
        return [code for code in self._codes if code.ends_s > now_s]

    async def refresh(self, oldest_s: float = 0.0) -> None:
        """Read the admin token again, unless that was started less than ``oldest_s`` ago.

        It is read in a thread, within a time limit, since a file may hang. A new token is masked in the log, and ends
        the sessions of the old one.
        """
        if self._token is None or self._reader is None or (self._token.path is None and self._admin is not None):
            return
        asked_s = time.monotonic()
        if self._admin is not None and self._read_s > asked_s - oldest_s:
            return
        async with self._reading:
            if self._read_s > asked_s - oldest_s:
                return
            self._read_s = time.monotonic()
            try:
                self._admin = await self._reader.read() if self._token.path else self._token.read()
            except (ConfigError, TimeoutError) as error:
                self._admin = None
                self._complain(str(error if isinstance(error, ConfigError) else self._token.late()))
            else:
                self._complaint = ""
                self._compare(self._admin)

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            self._complaint = why
            self._log.record("error", "cannot check the admin token", why=why)

    def _compare(self, token: Secret) -> None:
        before, self._last = self._last, token
        if before is not None and before.matches(token.reveal()):
            return
        self._log.redactor.learn(token.reveal())
        if before is not None:
            self._sessions.clear()
            self._epoch += 1
            self._log.record("info", "the admin token has changed", sessions="ended")
            self.on_end()


def _digest(session: str) -> bytes:
    # Imported with the first sign-in: it takes half a megabyte.
    import hashlib

    return hashlib.sha256(session.encode(errors="surrogatepass")).digest()


LEAST_WAIT_S = 60.0


class SignInCodes:
    """Prints at most one code a minute, as anyone may ask for it. ``address`` is the panel's address."""

    def __init__(self, keyring: Keyring, log: LogPipeline, store: SnapshotStore, address: Address) -> None:
        self._keyring = keyring
        self._log = log
        self._store = store
        self._address = address
        self._printed_s: float | None = None

    def wait_s(self) -> float:
        """Return the seconds until another code may be printed."""
        return 0.0 if self._printed_s is None else max(0.0, self._printed_s + LEAST_WAIT_S - time.monotonic())

    def print_code(self) -> float:
        """Print a new code; return when it expires, on the monotonic clock."""
        code = self._keyring.new_code()
        self._printed_s = time.monotonic()
        shown = {"code": code.secret.reveal(), "link": self.link(code)}
        self._log.log_unredacted(
            "info", "sign in to the panel with this code", shown, good_for="one sign-in within 15 minutes"
        )
        return code.ends_s

    def link(self, code: SignInCode) -> str:
        """Return the panel's address with the code in its fragment, which browsers do not send to the server."""
        address = self._address
        if address.host in WILDCARDS:
            address = address._replace(host=self._store.snapshot.tailnet.hostname or "localhost")
        return f"http://{address}/#code={code.secret.reveal()}"
