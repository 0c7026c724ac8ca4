"""Looks after a device that is in its tailnet: publishes the app, minds its name, and helps in an outage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.snapshot import ServeView
from supervisor.tailnet import naming
from supervisor.tailnet.localapi import ForbiddenError
from supervisor.tailnet.remedies import Outage, Remedy, follow
from supervisor.tailnet.serve.publisher import Serve
from supervisor.tailnet.sidecar import MAY_NOT

if TYPE_CHECKING:
    from supervisor.config.plan import Plan
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.tailnet.hands import Hands
    from supervisor.tailnet.localapi import LocalApi
    from supervisor.tailnet.wire import Node, Status

_NAME_AGAIN_S = 30.0
_NAME_LONGEST_S = 3600.0
_NAME_ADVICE = (
    "after two deploys overlapped it takes the name back by itself; else remove the other device in the admin console, "
    "or set TS_HOSTNAME to another name"
)


class Care:
    """What it found is in ``serve`` and ``warnings``."""

    def __init__(self, plan: Plan, log: LogPipeline, api: LocalApi, hands: Hands) -> None:
        self._log = log
        self._api = api
        self._hands = hands
        self._serve = Serve(plan, log)
        self._hostname = plan.settings.tailnet.prefs.hostname
        tailnet = plan.settings.tailnet
        self._minds_name = tailnet.mode == "embedded" or "hostname" in tailnet.prefs.given
        self._forbidden = ""
        self._outage: Outage | None = None
        self._soft_due = False
        self._peers: tuple[Node, ...] = ()
        self._name_tries = 0
        self._name_next_s = 0.0
        self.serve = ServeView()
        self.warnings: tuple[str, ...] = ()

    async def run(self) -> None:
        """Get certificates in the background until cancelled."""
        await self._serve.run()

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is worth knowing of the way the app is published."""
        return (*self._serve.notes, *([self._forbidden] if self._forbidden else []))

    def afresh(self) -> None:
        """Forget what was known of tailscaled: it was restarted, or the device logged out."""
        self._serve.forget()
        self._forbidden = ""
        self.serve = ServeView()
        self.warnings = ()

    def look(self, status: Status, now_s: float, *, removed: bool) -> Remedy | None:
        """Follow an outage; return the remedy that is due. ``removed``: control may not know the device any more."""
        if status.peers is not None:
            self._peers = tuple(status.peers.values())
        node = status.node
        # Another restart of the control client would make a pending login URL worthless.
        away = status.backend_state == "Running" and not status.auth_url and (node is None or not node.online)
        self._outage, remedy = follow(self._outage, now_s, away=away, removed=removed)
        # What could not be done at once, as something else was under way, is still due.
        self._soft_due = self._outage is not None and (self._soft_due or remedy is Remedy.SOFT)
        return remedy or (Remedy.SOFT if self._soft_due else None)

    @property
    def waits_for_name(self) -> bool:
        """Whether the device has another name than it should, so that news of its peers matter."""
        return bool(self.warnings)

    def hurry(self) -> None:
        """Help at once: a person asks for it."""
        self._forbidden = ""
        if self._outage is not None:
            self._outage = self._outage._replace(next_s=0.0)

    async def work(self, status: Status, remedy: Remedy | None, now_s: float) -> None:
        """Do what there is to do. Raises LocalApiError."""
        try:
            if remedy is Remedy.SOFT and not self._forbidden:
                self._soft_due = False
                self._log.record("warning", "tailnet: restarting the control client", why="no connection to control")
                await self._hands.restart_control_client()
            await self._mind_name(status, now_s)
        except ForbiddenError as error:
            self._forbidden = f"cannot help in an outage, nor take the plain name back: {error}; {MAY_NOT}"
            self._log.record("warning", "tailnet: cannot look after the device", why=str(error), what_to_do=MAY_NOT)
        self.serve = await self._serve.reconcile(self._api, status)

    async def _mind_name(self, status: Status, now_s: float) -> None:
        dns_name = status.node.dns_name if status.node is not None else ""
        if not self._minds_name or not naming.is_suffixed(dns_name, self._hostname):
            self.warnings = ()
            self._name_tries = 0
            return
        holder = naming.holder(self._hostname, self._peers)
        online = holder is not None and holder.online
        taken = "another device, online just now, has that name" if online else "another device had that name"
        called = f"the device is called {naming.label(dns_name)} and not {naming.wished(self._hostname)}"
        self.warnings = (f"{called}: {taken}; {_NAME_ADVICE}",)
        if online or now_s < self._name_next_s or self._forbidden:
            return
        self._name_next_s = now_s + min(_NAME_LONGEST_S, _NAME_AGAIN_S * 2.0**self._name_tries)
        self._name_tries += 1
        self._log.record("info", "tailnet: asking for the plain name", name=naming.wished(self._hostname))
        await self._hands.ask_for_name(self._hostname)
