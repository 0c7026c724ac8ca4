"""The tailnet service: observes tailscaled, steps the state machine, executes actions and publishes the state.

``core.login_machine`` decides, ``executor`` executes, and ``view`` describes the state for people.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from supervisor.config.plan import TAILSCALED
from supervisor.core import orders, process
from supervisor.core.login_machine import step
from supervisor.core.orders import Connect
from supervisor.core.tailnet import (
    BEGIN_ANEW,
    IN_A_TAILNET,
    Action,
    Backend,
    Choice,
    LogEntry,
    Observation,
    Stage,
    TailnetEvent,
    TailnetEventKind,
    TailnetMachine,
)
from supervisor.core.tailnet_states import TailnetState
from supervisor.secret import Secret
from supervisor.system.interfaces import has_network
from supervisor.tailnet.executor import DeviceMaintenance, Executor, failure
from supervisor.tailnet.held import wait_until_let_go
from supervisor.tailnet.localapi import Bus, LocalApi, LocalApiError, SilentError, UnreachableError, life_of
from supervisor.tailnet.log import LogWatcher, StateLogger
from supervisor.tailnet.oauth_client import fingerprint
from supervisor.tailnet.state_file import DesiredStateStore
from supervisor.tailnet.view import (
    DeviceDetails,
    Situation,
    down,
    effective,
    has_expired,
    is_unreached,
    of_status,
    peers_of,
    trouble_of,
    with_details,
    with_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from supervisor.config.plan import Plan
    from supervisor.core.orders import Orders, TailnetOrder
    from supervisor.core.snapshot import PeerView, TailnetView
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.store import Channels, SnapshotStore
    from supervisor.tailnet.view import Meaning
    from supervisor.tailnet.wire import Status

# An outage causes no event on tailscaled's bus for minutes, but its status shows it at once and costs 2 ms. Its log may
# show it too (see log.py); polling covers the other cases, and sidecars, whose log is not available here.
LOOK_EVERY_S = 2.0
LOOK_EARLY_S = 0.1
STATUS_TIMEOUT_S = 2.0
_YOUNG_S = 15.0
# tailscaled does not answer before it is ready, which takes long on slow disks.
_BOOT_S = 60.0
# Of two seconds each: a busy machine must not look like a hung daemon.
MOST_SILENCES = 3
_RESTARTS = {
    Action.RESTART_TAILSCALED: "the tailnet has been away for long, and nothing else has helped",
    Action.DROP_REMAINS: "it keeps what is left of a login, without its key",
}
_PEERS_EVERY_S = 30.0
_PEERS_SOON_S = 5.0
_ABANDONED = "the supervisor's part for the tailnet was restarted; give the order again"


class TailnetService:
    """Owns the state of the tailnet, and receives the orders for it."""

    def __init__(self, plan: Plan, store: SnapshotStore, log: LogPipeline, engine: Engine, channels: Channels) -> None:
        tailnet = plan.settings.tailnet
        self._settings = tailnet
        self._attached = tailnet.mode == "attach"
        self._store = store
        self._log = log
        self._engine = engine
        self._channels = channels
        self._desired = DesiredStateStore(tailnet.state_dir)
        self._new = not self._desired.found
        # With backups the device is restored with its identity, whatever key it was logged in with.
        self._comes_back = plan.settings.backup is not None
        record = self._desired.record
        self._machine = TailnetMachine(self._attached, Choice(record.choice), record.ephemeral)
        self._bus = Bus(self._wake_up, log.redactor.learn_short_lived)
        self._api = LocalApi(tailnet.socket, log.redactor.mask_text)
        self._executor = Executor(plan, self._api, self._bus, log.redactor)
        self._maintenance = DeviceMaintenance(plan, log, self._api)
        self._watcher = LogWatcher(log, self._wake_up)
        self._logger = StateLogger(log)
        self._orders: Orders = orders.abandon(store.snapshot.tailnet.orders, _ABANDONED)
        self._wake = anyio.Event()
        self._group: anyio.abc.TaskGroup | None = None
        self._command = anyio.CancelScope()
        self._changes = 0
        self._restart_client = False
        self._status: Status | None = None
        self._url: Secret | None = None
        self._peers: tuple[PeerView, ...] = ()
        self._peers_at_s: float | None = None
        self._node_key = ""
        self._silences = 0
        self._answered: object = None
        self._has_network = True

    async def run(self) -> None:
        """Observe and control tailscaled until cancelled, while the backups do not hold it."""
        while True:
            if self._store.snapshot.backup.holds:
                await self._wait_until_let_go()
            await self._run_until_held()

    async def _wait_until_let_go(self) -> None:
        """Publish the reason of the hold and queue orders until it ends; then reload the restored state."""
        self._feed(TailnetEvent(TailnetEventKind.HOLD))
        stop_taking = self._channels.tailnet.set_handler(self._take)
        try:
            await wait_until_let_go(self._store, lambda found: self._publish(found, None, time.monotonic()))
        finally:
            stop_taking()
        self._desired = DesiredStateStore(self._settings.state_dir)
        self._new = not self._desired.found
        stored = self._desired.record
        choice = Choice(stored.choice)
        self._feed(TailnetEvent(TailnetEventKind.LET_GO, choice=choice, ephemeral=stored.ephemeral))

    async def _run_until_held(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._store.watch(lambda snapshot: self._wake_up() if snapshot.backup.holds else None))
            stack.callback(self._watcher.listen())
            stack.callback(self._channels.set_metrics_reader(partial(_user_metrics, self._api)))
            stack.callback(setattr, self, "_group", None)
            async with anyio.create_task_group() as group:
                self._group = group
                stop_taking = self._channels.tailnet.set_handler(self._take)
                group.start_soon(self._bus.run, self._api)
                group.start_soon(self._maintenance.run)
                try:
                    await self._drive()
                finally:
                    stop_taking()
                group.cancel_scope.cancel()

    async def _drive(self) -> None:
        while not self._store.snapshot.backup.holds:
            begin_s = time.monotonic()
            self._wake = anyio.Event()
            early = await self._turn()
            wait_s = LOOK_EARLY_S if early else LOOK_EVERY_S
            with anyio.move_on_after(max(0.0, begin_s + wait_s - time.monotonic())):
                await self._wake.wait()

    def _wake_up(self) -> None:
        self._wake.set()

    # Events and actions

    def _take(self, order: TailnetOrder) -> None:
        now_s = time.monotonic()
        self._changes += 1
        view = self._store.snapshot.tailnet
        idle = view.up if isinstance(order, Connect) else view.state == TailnetState.OFF
        self._orders = orders.add(self._orders, order, now_s, idle=idle)
        if isinstance(order, Connect):
            self._executor.keys.pasted = order.auth_key or self._executor.keys.pasted
            self._maintenance.allow()
            key = None if order.auth_key is None else fingerprint(order.auth_key)
            self._feed(TailnetEvent(TailnetEventKind.CONNECT, key=key))
        else:
            self._feed(TailnetEvent(TailnetEventKind.DISCONNECT, forget=order.forget))
        self._orders = orders.begin(self._orders, order.id, self._machine.wish)
        self._store.update_tailnet(view._replace(orders=self._orders))
        self._wake_up()

    def _feed(self, event: TailnetEvent) -> None:
        """Step the machine, store its result, and start the next action."""
        self._machine, actions = step(self._machine, event, time.monotonic())
        if not self._machine.pasted:
            self._executor.keys.pasted = None
        ordered = event.kind in {TailnetEventKind.CONNECT, TailnetEventKind.DISCONNECT}
        first = ordered or (self._machine.had_login and not self._attached)
        if self._machine.stage is not Stage.HELD:
            # Held, the files there are about to be replaced.
            self._desired.keep(self._machine.choice, ephemeral=self._machine.ephemeral, first=first)
        for action in actions:
            if isinstance(action, LogEntry):
                self._log.record(action.level, action.event, **dict(action.fields))
            elif action is Action.CANCEL:
                self._command.cancel()
            elif action is Action.RESET:
                self._maintenance.reset()
            elif action is Action.RESTART_CLIENT:
                self._restart_client = True
            elif action in {Action.RESTART_TAILSCALED, Action.DROP_REMAINS}:
                self._restart(_RESTARTS[action], hung=action is Action.RESTART_TAILSCALED)
            elif action is Action.MAINTAIN:
                self._begin(self._maintain)
            else:
                self._command = anyio.CancelScope()
                self._begin(partial(self._execute, action, self._command))

    def _begin(self, command: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._group is not None:
            self._group.start_soon(command)

    async def _execute(self, action: Action, scope: anyio.CancelScope) -> None:
        """Execute an action; its result is an event, followed by another observation."""
        event = TailnetEvent(TailnetEventKind.BROKEN_OFF)
        if action in BEGIN_ANEW:
            # The result no longer matters; the status shows the state of the current login.
            self._bus.login_url = ""
        with scope:
            began_s = time.monotonic()
            event = await self._executor.execute(action, self._machine)
            if action is Action.LOG_OUT and event.kind is TailnetEventKind.DONE:
                self._logged_out(began_s)
        self._changes += 1
        self._feed(event)
        self._wake_up()

    def _logged_out(self, began_s: float) -> None:
        self._maintenance.reset()
        self._log.record("info", "tailnet: logged out", took_s=round(time.monotonic() - began_s, 3))

    async def _maintain(self) -> None:
        """Maintain the device; observe again only if that had a result, to avoid a loop."""
        before, event = self._found(), TailnetEvent(TailnetEventKind.DONE, action=Action.MAINTAIN)
        restart_client, self._restart_client = self._restart_client, False
        try:
            if self._status is not None:
                await self._maintenance.run_once(self._status, time.monotonic(), restart_client=restart_client)
        except LocalApiError as error:
            event = failure(Action.MAINTAIN, error)
        self._feed(event)
        if self._found() != before:
            self._wake_up()

    # Observation

    async def _turn(self) -> bool:
        """Observe once and handle the result; return whether to observe again soon."""
        now_s, changes = time.monotonic(), self._changes
        try:
            status = await self._ask_status(now_s)
        except LocalApiError as error:
            return self._take_failure(error, now_s)
        self._silences = 0
        before = self._answered
        # tailscaled has just responded, so it was running, even if its socket is gone by now.
        self._answered = life = self._life() or before
        if self._attached and life != before and before is not None:
            self._bus.renew()
        seen = await self._observe(status, life)
        if self._changes != changes:
            # An order or result arrived meanwhile: the observation may be outdated, and is repeated.
            return False
        self._status = status
        if seen.node_key != self._node_key:
            # With another login the device may be in another tailnet, with other peers.
            self._node_key, self._peers, self._peers_at_s = seen.node_key, (), None
        self._maintenance.see_peers(status)
        if status.peers is not None:
            self._peers, self._peers_at_s = peers_of(status), now_s
        for text in self._bus.take_errors():
            self._feed(TailnetEvent(TailnetEventKind.REFUSED, why=text))
        self._feed(TailnetEvent(TailnetEventKind.OBSERVED, seen=seen))
        self._see_url(status)
        self._show(status, now_s)
        return self._store.snapshot.tailnet.state == TailnetState.STARTING and self._is_young(_YOUNG_S)

    async def _ask_status(self, now_s: float) -> Status:
        every_s = _PEERS_SOON_S if self._maintenance.waits_for_name else _PEERS_EVERY_S
        due = self._peers_at_s is None or now_s - self._peers_at_s >= every_s
        if self._machine.state == Backend.RUNNING and due:
            try:
                return await self._api.status(peers=True, timeout_s=STATUS_TIMEOUT_S)
            except (UnreachableError, SilentError):
                # A peer without details makes tailscaled close the stream (facts of 1.102), so it is ignored.
                pass
        return await self._api.status(timeout_s=STATUS_TIMEOUT_S)

    async def _observe(self, status: Status, life: object) -> Observation:
        machine = self._machine
        node, running = status.node, status.backend_state == Backend.RUNNING
        online = node is not None and node.online
        self._watcher.follow(running=running, online=online, trying=machine.trying)
        if running:
            # The URL was used, or is not needed any more.
            self._bus.login_url = ""
        state = effective(status)
        idle = machine.running is Action.NOTHING
        # A device that has logged out can look like one in an outage.
        anew = machine.prefs is None or machine.lost or (life, state) != (machine.life, machine.state)
        prefs_due = idle and status.have_node_key and (anew or (running and not online))
        prefs = await self._executor.login_prefs() if prefs_due else None
        key = await self._executor.find_key() if idle and (state == Backend.NEEDS_LOGIN or machine.replaces) else None
        self._has_network = has_network()
        return Observation(
            state=state,
            life=life,
            node_key=node.public_key if node is not None else "",
            have_node_key=status.have_node_key,
            online=online,
            url=bool(self._pending_url(status)),
            unreached=is_unreached(trouble_of(status)),
            removed=self._watcher.removed,
            key=key,
            prefs=prefs,
        )

    def _pending_url(self, status: Status) -> str:
        return status.auth_url or (self._bus.login_url if status.backend_state == Backend.NEEDS_LOGIN else "")

    def _see_url(self, status: Status) -> None:
        """Store the URL that tailscaled reports; the same URL keeps the same object."""
        url = self._pending_url(status) if self._machine.pending_url else ""
        if not url:
            self._url = None
        elif self._url is None or not self._url.matches(url):
            self._log.redactor.learn_short_lived(url)
            self._url = Secret(url)

    def _take_failure(self, error: LocalApiError, now_s: float) -> bool:
        gone = self._attached and self._answered is not None
        begun = isinstance(error, UnreachableError) and self._is_young(_YOUNG_S) and not gone
        if isinstance(error, SilentError):
            begun = self._is_young(_BOOT_S) and self._answered != self._life()
            self._silences += 1
            if self._silences >= MOST_SILENCES and not begun and not self._machine.leaving:
                self._restart("it does not answer")
        self._feed(TailnetEvent(TailnetEventKind.LOST))
        if isinstance(error, UnreachableError):
            # Its login URL is lost with it, so nobody can complete that login.
            self._url = None
        daemon = self._store.snapshot.process(TAILSCALED)
        stopped = daemon is not None and daemon.state is process.State.INACTIVE
        meaning = down(str(error), begun=begun, attached=self._attached, stopped=stopped)
        if self._machine.choice is not Choice.CONNECTED:
            meaning = meaning._replace(by_owner=True)
        self._publish(meaning, None, now_s)
        return begun

    def _restart(self, why: str, *, hung: bool = True) -> None:
        """Have tailscaled restarted; if it hangs, it logs its stacks."""
        self._silences = 0
        view = self._store.snapshot.process(TAILSCALED)
        if view is not None and view.state is process.State.RUNNING:
            level, what = ("error", "hung") if hung else ("warning", "tailnet: restarting tailscaled")
            self._log.record(level, what, child=TAILSCALED, why=why)
            kind = process.EventKind.HUNG if hung else process.EventKind.RESTART
            self._engine.dispatch(TAILSCALED, process.Event(kind))

    def _life(self) -> object:
        """Return an identifier of tailscaled's current process."""
        if self._attached:
            return life_of(self._settings.socket)
        view = self._store.snapshot.process(TAILSCALED)
        return None if view is None else view.pid

    def _is_young(self, limit_s: float) -> bool:
        """Return whether tailscaled was started just now, so that a missing response is normal."""
        view = self._store.snapshot.process(TAILSCALED)
        started_s = view.started_s if view is not None else self._store.snapshot.started_s
        alive = view is None or view.pid is not None
        return alive and started_s is not None and time.monotonic() - started_s < limit_s

    # Publishing

    def _show(self, status: Status, now_s: float) -> None:
        expired = has_expired(status, datetime.now(UTC))
        about = Situation(self._machine, now_s, self._has_network, expired, self._desired.why_unread)
        self._publish(of_status(status, about), status, now_s)
        self._logger.tell_url(self._url)

    def _publish(self, meaning: Meaning, status: Status | None, now_s: float) -> None:
        before = self._store.snapshot.tailnet
        new = self._new and not self._attached and self._machine.stage is not Stage.HELD
        view = with_details(before, self._machine, self._status, self._found(), self._desired, now_s, new=new)
        view = with_state(view, meaning, status, now_s)
        open_before, self._orders = self._orders, orders.follow(self._orders, self._progress(view))
        for order in orders.newly_done(open_before, self._orders):
            name = "connects" if order.connects else "disconnects"
            view = view._replace(**{name: getattr(view, name).plus(now_s - order.at_s)})
        view = view._replace(orders=self._orders)
        self._store.update_tailnet(view)
        if not self._store.snapshot.stopping:
            self._logger.tell(view, now_s)

    def _progress(self, view: TailnetView) -> orders.Progress:
        machine = self._machine
        return orders.Progress(
            wish=machine.wish,
            connected=view.up and not (machine.trying or machine.replaces),
            disconnected=view.state == TailnetState.OFF and machine.stage is not Stage.RELEASING,
            forgotten=not machine.have_node_key,
            waits=view.auth_url is not None and machine.wants_url,
            failure=machine.failure if machine.failure and machine.failure.wish == machine.wish else None,
        )

    def _found(self) -> DeviceDetails:
        return DeviceDetails(
            url=self._url,
            peers=self._peers,
            routes=self._settings.prefs.advertise_routes,
            serve=self._maintenance.serve,
            warnings=(self._executor.keys.trouble, *self._maintenance.warnings),
            notes=(*self._executor.at_next_login, *self._maintenance.notes),
        )

    # Closing

    @property
    def needs_closing(self) -> bool:
        """Whether an orderly stop has to do something.

        The device is to be logged out, or a sidecar would keep trying a new key without supervision.
        """
        return self._logs_out or self._machine.closing_action is not Action.NOTHING

    @property
    def _logs_out(self) -> bool:
        return not self._comes_back and (self._settings.logs_out_at_stop or self._machine.ephemeral)

    async def close(self, deadline_s: float) -> None:
        """Log the device out by ``deadline_s`` on the monotonic clock, and log the result."""
        self._feed(TailnetEvent(TailnetEventKind.LEAVE))
        if not self._logs_out:
            await self._executor.execute(self._machine.closing_action, self._machine)
            return
        if await self._last_state() not in IN_A_TAILNET:
            return
        began_s = time.monotonic()
        event = failure(Action.LOG_OUT, SilentError("tailscaled gives no answer"))
        if not self._machine.lost:
            timeout_s = max(0.1, deadline_s - began_s)
            event = await self._executor.execute(Action.LOG_OUT, self._machine, logout_s=timeout_s)
        if event.kind is TailnetEventKind.DONE:
            self._logged_out(began_s)
            self._feed(event)
            return
        self._log.record(
            "warning",
            "tailnet: could not log out",
            why=event.why,
            took_s=round(time.monotonic() - began_s, 3),
            what_to_do="until control removes the device, its name stays taken: remove it in the admin console",
        )

    async def _last_state(self) -> str:
        """Return tailscaled's last known state; it is asked now if it never was, as after crashes of this service."""
        try:
            seen = self._machine.seen
            return self._machine.state if seen else effective(await self._api.status(timeout_s=STATUS_TIMEOUT_S))
        except LocalApiError:
            return Backend.NO_STATE


async def _user_metrics(api: LocalApi, timeout_s: float) -> bytes | None:
    try:
        return await api.user_metrics(timeout_s)
    except LocalApiError:
        return None
