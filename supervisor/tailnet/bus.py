"""Follows tailscaled's IPN bus: keeps what only the bus tells, and wakes whoever looks at the status."""

from __future__ import annotations

import contextlib
import time
from importlib import import_module
from typing import TYPE_CHECKING

import anyio

from supervisor.runtime.loop_latency import run_in_thread
from supervisor.tailnet.localapi import LocalApi, LocalApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from supervisor.tailnet.wire import Notify

_AGAIN_FIRST_S = 0.01
_AGAIN_LONGEST_S = 2.0
_MOST_ERRORS = 100
_OPEN_S = 2.0
_MUTED_S = 1.0


class Bus:
    """One stream, opened again whenever it ends. ``learn`` is told each login URL before anything else is."""

    def __init__(self, wake: Callable[[], None], learn: Callable[[str], None]) -> None:
        self._wake = wake
        self._learn = learn
        self._errors: list[str] = []
        self._stream = anyio.CancelScope()
        self._opened = anyio.Event()
        self._muted_until_s = 0.0
        self.login_url = ""

    async def run(self, api: LocalApi) -> None:
        """Follow until cancelled."""
        # A stream that has told something proves that there is someone: the next is opened at once.
        while await self._follow(api):
            pass
        # Loaded where there was nobody: the login does not wait for it.
        tenacity = await run_in_thread(import_module, "tenacity")
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda told: not told),
            wait=tenacity.wait_exponential(_AGAIN_FIRST_S, _AGAIN_LONGEST_S),
        )
        while True:
            await retrying(self._follow, api)

    def take_errors(self) -> list[str]:
        """Return the errors that came since this was last asked."""
        errors, self._errors = self._errors, []
        return errors

    def renew(self) -> None:
        """Leave the present stream for another one: it may come from a tailscaled that nobody else reaches."""
        self._stream.cancel()

    @contextlib.asynccontextmanager
    async def muted(self) -> AsyncIterator[None]:
        """Tell no error that is older than the start of tailscaled's control client in the block.

        An error names no key. tailscaled says that its preferences are set before the new client logs in, and drops
        what the one of before still has to say (1.102: ipnlocal.Start, ipnlocal.SetControlClientStatus).
        """
        self._errors, self._muted_until_s = [], float("inf")
        self._opened = anyio.Event()
        # What waits in the present stream may be older than any later word.
        self._stream.cancel()
        try:
            with anyio.move_on_after(_OPEN_S):
                await self._opened.wait()
            yield
        finally:
            # Where nothing is said of preferences.
            self._muted_until_s = min(self._muted_until_s, time.monotonic() + _MUTED_S)

    async def _follow(self, api: LocalApi) -> bool:
        """Follow one stream to its end; tell whether there was anything in it."""
        told = False
        # Where the stream breaks, the status tells the same at once, with its reason.
        with contextlib.suppress(LocalApiError), anyio.CancelScope() as self._stream:
            async for frame in api.watch():
                if told and frame.prefs is not None and self._muted_until_s:
                    self._muted_until_s = 0.0
                    self.login_url = ""
                self._take(frame)
                told = True
                self._opened.set()
        self.login_url = ""
        self._wake()
        return told

    def _take(self, frame: Notify) -> None:
        if frame.browse_to_url is not None:
            self._learn(frame.browse_to_url)
            self.login_url = frame.browse_to_url
        if frame.login_finished is not None:
            self.login_url = ""
        if frame.error and time.monotonic() >= self._muted_until_s:
            self._errors = [*self._errors, frame.error][-_MOST_ERRORS:]
        if frame.error or frame.state is not None or frame.browse_to_url is not None or frame.self_change is not None:
            self._wake()
