"""Executes decided actions: the only code that changes anything in tailscaled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core.retry import doubling_s
from supervisor.core.snapshot import ServeView
from supervisor.core.tailnet import Action, Choice, LoginPrefs, TailnetEvent, TailnetEventKind
from supervisor.tailnet import preferences
from supervisor.tailnet.localapi import ForbiddenError, LocalApiError, SilentError, UnreachableError
from supervisor.tailnet.oauth_client import Keys, OAuthRefusedError, OAuthUnavailableError
from supervisor.tailnet.serve.publisher import Serve
from supervisor.tailnet.view import MAY_NOT, holder, is_suffixed, label, wished

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from supervisor.config.plan import Plan
    from supervisor.core.tailnet import TailnetMachine
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.logs.redact import Redactor
    from supervisor.secret import Secret
    from supervisor.tailnet.localapi import Bus, LocalApi
    from supervisor.tailnet.oauth_client import Credential, Usable
    from supervisor.tailnet.wire import Json, Node, Status

# A refused connection to a control server can block tailscaled for nearly a minute.
LOGOUT_S = 60.0
# A logout that is given up is over in tailscaled within milliseconds, unless the machine is crowded.
OVER_S = 2.0


class Executor:
    """Commands for one tailscaled, and its login keys.

    ``at_next_login`` is a text about settings that differ from those of the device's last login.
    """

    def __init__(self, plan: Plan, api: LocalApi, bus: Bus, redactor: Redactor) -> None:
        tailnet = plan.settings.tailnet
        self._api = api
        self._bus = bus
        self._wanted = preferences.wanted(tailnet.prefs)
        self._given: AbstractSet[str] | None = tailnet.prefs.given if tailnet.mode == "attach" else None
        self._before_logout: Json = {}
        self._keyless = False
        self._credential: Credential | None = None
        self._ready: Usable | None = None
        self.keys = Keys(tailnet, redactor)
        self.at_next_login: tuple[str, ...] = ()

    async def find_key(self) -> bytes | None:
        """Return the fingerprint of the current key; None if there is none."""
        self._credential = await self.keys.current()
        return None if self._credential is None else self._credential.fingerprint

    async def login_prefs(self) -> LoginPrefs | None:
        """Return the preferences that control logins; None if tailscaled does not return them.

        After a logout that did not succeed, the device counts as logged out until the control client is restarted. The
        one of tailscaled 1.102 has dropped its node key (controlclient.Direct.TryLogout), and switched on it would try
        to get another one with the key of the last login; a late message of it can reset the preference.
        """
        try:
            found = _login_prefs(await self._api.prefs())
        except LocalApiError:
            return None
        return found._replace(logged_out=found.logged_out or self._keyless)

    async def execute(self, action: Action, machine: TailnetMachine, *, logout_s: float | None = None) -> TailnetEvent:
        """Execute one action, and return its result; ``logout_s`` is how long a logout may take at a stop."""
        try:
            if action is Action.FETCH_KEY:
                return await self._fetch_key()
            return TailnetEvent(TailnetEventKind.DONE, action=action, prefs=await self._do(action, machine, logout_s))
        except LocalApiError as error:
            return failure(action, error)

    async def _do(self, action: Action, machine: TailnetMachine, logout_s: float | None) -> LoginPrefs | None:
        """Execute an action; return the resulting preferences if they are known."""
        prefs = None
        if action is Action.LOG_IN:
            prefs = await self._log_in(self._ready and self._ready.key, anew=machine.replaces)
        elif action is Action.ASK_URL:
            prefs = await self._log_in(None)
        elif action in {Action.KEEP_LOGIN, Action.RELEASE_KEY}:
            # A device to be disconnected stays switched off, and one without a login has nothing to resume.
            goes_on = machine.choice is Choice.CONNECTED and machine.have_node_key
            prefs = await self._keep_login(on=goes_on or action is Action.KEEP_LOGIN)
        elif action in {Action.SWITCH_ON, Action.SWITCH_OFF}:
            await self._api.change_prefs({"WantRunning": action is Action.SWITCH_ON})
        elif action is Action.LOG_OUT:
            await self._log_out(logout_s)
        elif action is Action.ADJUST:
            await self._adjust()
        return prefs

    async def _fetch_key(self) -> TailnetEvent:
        """Return a key that tailscaled accepts: an OAuth client secret is exchanged for one."""
        if self._credential is None:
            return TailnetEvent(TailnetEventKind.BROKEN_OFF)
        try:
            usable = await self.keys.usable(self._credential)
        except OAuthRefusedError as error:
            return TailnetEvent(TailnetEventKind.NO_KEY, why=str(error), refusal=error.kind)
        except OAuthUnavailableError as error:
            return TailnetEvent(TailnetEventKind.NO_KEY, why=str(error))
        self._ready = usable
        return TailnetEvent(TailnetEventKind.KEY_READY, ephemeral=usable.ephemeral)

    async def _log_in(self, key: Secret | None, *, anew: bool = False) -> LoginPrefs:
        """Start a login with a key; without one tailscaled asks for a login URL.

        ``anew`` is for a device that is still logged in: it gets a new node key, and if that is refused, KEEP_LOGIN
        restores the old login.
        """
        async with self._bus.muted():
            current, wanted = await self._api.prefs(), self._wanted
            if self._given is not None:
                wanted = preferences.of_sidecar(current, self._before_logout, self._wanted, self._given)
            options = {} if key is None else {"AuthKey": key.reveal()}
            prefs = await self._start_with(preferences.for_login(current, {**wanted, "LoggedOut": anew}), **options)
            # Not before: an earlier login that was still under way may have got a node key until then.
            known = (await self._api.status()).have_node_key
        # `start` itself logs in a device that has a node key, as `tailscale up` does, unless it has logged out. With
        # two logins at once, the first may use up the key, or reach the control server last and register a node key
        # that tailscaled has dropped.
        if anew or not known:
            await self._api.login()
        return prefs

    async def _keep_login(self, *, on: bool) -> LoginPrefs:
        """Drop any key and return to the device's own login, if it has one; switched ``on`` or off.

        Switching off alone does not stop tailscaled 1.102 from trying a key.
        """
        async with self._bus.muted():
            wanted = {"WantRunning": on, "LoggedOut": False}
            return await self._start_with(preferences.for_login(await self._api.prefs(), wanted))

    async def _start_with(self, prefs: Json, **options: Any) -> LoginPrefs:
        await self._api.start({"UpdatePrefs": prefs, **options})
        self._keyless = False
        return _login_prefs(prefs)

    async def _log_out(self, limit_s: float | None) -> None:
        """Log the device out of its tailnet."""
        if self._given is not None:
            self._before_logout = await self._api.prefs()
        if self._keyless:
            await self._api.start({})
        # After a failed logout, tailscaled 1.102 has no key to log out with until it rereads its state.
        self._keyless = True
        try:
            # At a stop no login follows, and the time is up.
            await (self._api.logout(LOGOUT_S, over_s=OVER_S) if limit_s is None else self._api.logout(limit_s))
        except ForbiddenError:
            # It was not begun.
            self._keyless = False
            raise
        self._keyless = False

    async def _adjust(self) -> None:
        """Set the preferences to those of the settings."""
        current, wanted = await self._api.prefs(), self._wanted
        if self._given is not None:
            wanted = preferences.on_purpose(current, wanted, self._given)
        changes = preferences.differing(current, wanted)
        if changes:
            await self._api.change_prefs(changes)
        self.at_next_login = tuple(preferences.at_next_login(current, wanted))


def failure(action: Action, error: LocalApiError) -> TailnetEvent:
    """Return the result of an action that tailscaled did not execute."""
    return TailnetEvent(
        TailnetEventKind.FAILED,
        action=action,
        why=str(error),
        forbidden=isinstance(error, ForbiddenError),
        passing=isinstance(error, UnreachableError | SilentError),
    )


def _login_prefs(prefs: Json) -> LoginPrefs:
    return LoginPrefs(bool(prefs.get("LoggedOut")), not prefs.get("WantRunning"))


_NAME_AGAIN_S = 30.0
_NAME_LONGEST_S = 3600.0
_NAME_ADVICE = (
    "after overlapping deploys it reclaims the name automatically; else remove the other device in the admin console, "
    "or set TS_HOSTNAME to another name"
)


class DeviceMaintenance:
    """Maintains the connected device; results are in ``serve`` and ``warnings``."""

    def __init__(self, plan: Plan, log: LogPipeline, api: LocalApi) -> None:
        tailnet = plan.settings.tailnet
        self._log = log
        self._api = api
        self._publisher = Serve(plan, log)
        self._hostname = tailnet.prefs.hostname
        self._keeps_name = tailnet.mode == "embedded" or "hostname" in tailnet.prefs.given
        self._forbidden = ""
        self._peers: tuple[Node, ...] = ()
        self._name_tries = 0
        self._name_next_s = 0.0
        self._has_other_name = False
        self.serve = ServeView()
        self.warnings: tuple[str, ...] = ()

    async def run(self) -> None:
        """Fetch certificates in the background until cancelled."""
        await self._publisher.run()

    @property
    def notes(self) -> tuple[str, ...]:
        """Return notes about publishing the app."""
        return (*self._publisher.notes, *([self._forbidden] if self._forbidden else []))

    @property
    def waits_for_name(self) -> bool:
        """Whether the device has a different name than it should, so that changes of peers matter."""
        return bool(self.warnings)

    def see_peers(self, status: Status) -> None:
        """Update the peers from a status that includes them."""
        if status.peers is not None:
            self._peers = tuple(status.peers.values())

    def reset(self) -> None:
        """Discard what was known of tailscaled: it was restarted, or the device has logged out."""
        self._publisher.forget()
        self.allow()
        self.serve = ServeView()
        self.warnings = ()

    def allow(self) -> None:
        """Retry refused actions: a person has asked for it."""
        self._forbidden = ""

    async def run_once(self, status: Status, now_s: float, *, restart_client: bool) -> None:
        """Do everything that is due. Raises LocalApiError."""
        try:
            if restart_client and not self._forbidden:
                self._log.record("warning", "tailnet: restarting the control client", why="no connection to control")
                # Connections continue meanwhile.
                await self._api.start({})
            if self._has_other_name and not self._forbidden:
                await self._restore_name()
            await self._keep_name(status, now_s)
        except ForbiddenError as error:
            self._forbidden = f"cannot help in an outage, nor take the plain name back: {error}; {MAY_NOT}"
            self._log.record("warning", "tailnet: cannot look after the device", why=str(error), what_to_do=MAY_NOT)
        self.serve = await self._publisher.reconcile(self._api, status)

    async def _keep_name(self, status: Status, now_s: float) -> None:
        dns_name = status.node.dns_name if status.node is not None else ""
        if not self._keeps_name or not is_suffixed(dns_name, self._hostname):
            self.warnings = ()
            self._name_tries = 0
            return
        other = holder(self._hostname, self._peers)
        online = other is not None and other.online
        taken = "another device, online just now, has that name" if online else "another device had that name"
        called = f"the device is called {label(dns_name)} and not {wished(self._hostname)}"
        self.warnings = (f"{called}: {taken}; {_NAME_ADVICE}",)
        if online or now_s < self._name_next_s or self._forbidden:
            return
        self._name_next_s = now_s + doubling_s(_NAME_AGAIN_S, self._name_tries, _NAME_LONGEST_S)
        self._name_tries += 1
        self._log.record("info", "tailnet: asking for the plain name", name=wished(self._hostname))
        await self._ask_for_name()

    async def _ask_for_name(self) -> None:
        """Request the plain name again: control evaluates a name only when it changes."""
        self._has_other_name = True
        await self._api.change_prefs({"Hostname": f"{self._hostname}-again"})
        try:
            await self._api.start({})
        finally:
            await self._restore_name()

    async def _restore_name(self) -> None:
        """Set the plain name; if that fails or is cancelled, the next run does it."""
        await self._api.change_prefs({"Hostname": self._hostname})
        self._has_other_name = False
