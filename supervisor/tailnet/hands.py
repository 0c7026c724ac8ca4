"""Carries out what was decided: the only place that changes anything in tailscaled, serve aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.tailnet import wishes

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from supervisor.config.plan import Plan
    from supervisor.secret import Secret
    from supervisor.tailnet.bus import Bus
    from supervisor.tailnet.localapi import LocalApi
    from supervisor.tailnet.wire import Json

# A refused connection to a control server may keep tailscaled waiting for nearly a minute.
LOGOUT_S = 60.0


class Hands:
    """Each method raises LocalApiError where tailscaled does not do it.

    ``logged_out`` is the preference of that name, None where it has to be looked up: a device with it set does not log
    in by itself, whatever login it has. ``switched_off`` is how it was found then.
    """

    def __init__(self, plan: Plan, api: LocalApi, bus: Bus) -> None:
        self._api = api
        self._bus = bus
        self._wishes = wishes.wanted(plan.settings.tailnet.prefs)
        tailnet = plan.settings.tailnet
        self._given: AbstractSet[str] | None = tailnet.prefs.given if tailnet.mode == "attach" else None
        self._before_logout: Json = {}
        self._keyless = False
        self.logged_out: bool | None = None
        self.switched_off = False

    async def look(self) -> None:
        """Look up what is not known."""
        if self.logged_out is None:
            self._see(await self._api.prefs())

    def _see(self, prefs: Json) -> None:
        self.logged_out, self.switched_off = bool(prefs.get("LoggedOut")), not prefs.get("WantRunning")

    async def _start_with(self, prefs: Json, **options: Any) -> None:
        self.logged_out = None
        await self._api.start({"UpdatePrefs": prefs, **options})
        self._see(prefs)

    async def log_in(self, key: Secret | None, *, anew: bool = False) -> None:
        """Hand tailscaled a key and have it log in; without one it asks for a login URL.

        ``anew`` is for a device whose login still holds: it gets another node key, and ``keep_login`` is for when it is
        refused one.
        """
        async with self._bus.muted():
            known = (await self._api.status()).have_node_key
            current, wanted = await self._api.prefs(), self._wishes
            if self._given is not None:
                wanted = wishes.of_sidecar(current, self._before_logout, self._wishes, self._given)
            options = {} if key is None else {"AuthKey": key.reveal()}
            await self._start_with(wishes.for_login(current, {**wanted, "LoggedOut": anew}), **options)
        # `start` itself logs in a device with a node key, as `tailscale up` knows, save one that has logged out. Of two
        # logins at once, the first may use the key up, or come last at control, which then knows a node key that
        # tailscaled has dropped.
        if anew or not known:
            await self._api.login()

    async def keep_login(self, *, on: bool) -> None:
        """Let go of any key, and take up the login that the device has, if any; ``on`` or off.

        Being switched off alone does not keep tailscaled 1.102 from trying a key.
        """
        wanted = {"WantRunning": on, "LoggedOut": False}
        async with self._bus.muted():
            await self._start_with(wishes.for_login(await self._api.prefs(), wanted))
        self._keyless = False

    async def switch(self, *, on: bool) -> None:
        """Connect or disconnect; the device stays logged in."""
        await self._api.change_prefs({"WantRunning": on})

    async def log_out(self, timeout_s: float = LOGOUT_S) -> None:
        """Take the device out of its tailnet."""
        if self._given is not None:
            self._before_logout = await self._api.prefs()
        if self._keyless:
            await self._api.start({})
        # After one that fails, tailscaled 1.102 has no key to log out with until it looks into its state again.
        self._keyless = True
        self.logged_out = None
        await self._api.logout(timeout_s)
        self._keyless = False

    async def adjust(self) -> list[str]:
        """Bring the preferences to what the settings say; return what only another login would change."""
        current, wanted = await self._api.prefs(), self._wishes
        self._see(current)
        if self._given is not None:
            wanted = wishes.on_purpose(current, wanted, self._given)
        changes = wishes.differing(current, wanted)
        if changes:
            await self._api.change_prefs(changes)
        return wishes.at_next_login(current, wanted)

    async def ask_for_name(self, name: str) -> None:
        """Ask for the plain name once more: control looks at a name only when it changes."""
        await self._api.change_prefs({"Hostname": f"{name}-again"})
        try:
            await self._api.start({})
        finally:
            await self._api.change_prefs({"Hostname": name})

    async def restart_control_client(self) -> None:
        """Begin the connection to the control server anew; traffic goes on meanwhile."""
        await self._api.start({})
