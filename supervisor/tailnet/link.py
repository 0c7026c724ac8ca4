"""Drives tailscaled: looks how it is, decides what is next, has that done, and keeps the store up to date.

It works by level, not by edge: each look starts from what is, so nothing is lost when tailscaled, or this, is restarted
half-way through anything.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio

from supervisor.config.plan import TAILSCALED
from supervisor.core.process import Event, EventKind, State
from supervisor.core.tailnet import STARTING
from supervisor.tailnet import report, sidecar, states
from supervisor.tailnet.answers import Answers
from supervisor.tailnet.bus import Bus
from supervisor.tailnet.complaints import Complaints
from supervisor.tailnet.course import CONNECTED, Act
from supervisor.tailnet.localapi import LocalApi, LocalApiError, SilentError, UnreachableError
from supervisor.tailnet.look import Look
from supervisor.tailnet.pilot import Pilot
from supervisor.tailnet.remedies import MOST_SILENCES
from supervisor.tailnet.telling import Teller

if TYPE_CHECKING:
    from supervisor.config.plan import Plan
    from supervisor.core.orders import TailnetOrder
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.store import Channels, SnapshotStore
    from supervisor.tailnet.wire import Status

# An outage raises no event on tailscaled's bus for minutes; its status tells at once, and costs 2 ms. Its log may tell
# too (see complaints): this is for when it does not, and for a sidecar's, whose log nobody here reads.
LOOK_EVERY_S = 2.0
LOOK_EARLY_S = 0.1
STATUS_TIMEOUT_S = 2.0
_YOUNG_S = 15.0
# Before it is ready, tailscaled lets everybody wait: on slow disks for long.
_BOOT_S = 60.0
_INTERFACE_UP = 1


class Link:
    """The one place that knows how the tailnet is, and the one that orders for it reach."""

    def __init__(self, plan: Plan, store: SnapshotStore, log: LogPipeline, engine: Engine, channels: Channels) -> None:
        self._plan = plan
        self._attached = plan.settings.tailnet.mode == "attach"
        self._store = store
        self._log = log
        self._engine = engine
        self._channels = channels
        self._wake = anyio.Event()
        self._bus = Bus(self._look_soon, log.redactor.learn)
        self._teller = Teller(log)
        self._pilot: Pilot | None = None
        self._silences = 0
        self._answered: object = None
        self._leaving = False
        self._complaints = Complaints(log, self._look_soon)
        self._orders: list[TailnetOrder] = []
        self._answers = Answers(store.snapshot.tailnet.orders)

    async def run(self) -> None:
        """Follow and steer until cancelled."""
        leave = self._channels.tailnet.set_handler(self._take)
        turn_away = self._complaints.listen()
        api = LocalApi(self._plan.settings.tailnet.socket, self._log.redactor.mask_text)
        hand_back = self._channels.set_metrics_reader(partial(_user_metrics, api))
        try:
            self._pilot = Pilot(self._plan, self._log, api, self._bus)
            async with anyio.create_task_group() as group:
                group.start_soon(self._bus.run, api)
                group.start_soon(self._pilot.care.run)
                await self._drive(api, self._pilot, group)
        finally:
            hand_back()
            turn_away()
            leave()

    async def _drive(self, api: LocalApi, pilot: Pilot, group: anyio.abc.TaskGroup) -> None:
        while True:
            begin_s = time.monotonic()
            self._wake = anyio.Event()
            for order in self._take_orders():
                pilot.take(order)
                self._answers.begin(order, pilot.login.wish)
            early = await self._turn(api, pilot, group)
            wait_s = LOOK_EARLY_S if early else LOOK_EVERY_S
            with anyio.move_on_after(max(0.0, begin_s + wait_s - time.monotonic())):
                await self._wake.wait()

    def _look_soon(self) -> None:
        self._wake.set()

    def _take(self, order: TailnetOrder) -> None:
        self._orders.append(order)
        view = self._store.snapshot.tailnet
        self._store.update_tailnet(self._answers.take(order, view, time.monotonic()))
        self._look_soon()

    def _take_orders(self) -> list[TailnetOrder]:
        orders, self._orders = self._orders, []
        return orders

    async def _turn(self, api: LocalApi, pilot: Pilot, group: anyio.abc.TaskGroup) -> bool:
        """Look once and do what is due; tell whether to look again soon."""
        now_s = time.monotonic()
        try:
            status = await self._status(api, pilot, now_s)
        except LocalApiError as error:
            return self._take_failure(error, pilot, now_s)
        self._silences = 0
        before = self._answered
        # What has just answered had a life, though its socket may be gone by now.
        self._answered = life = self._life() or before
        if self._attached and life != before and before is not None:
            self._bus.renew()
        errors = tuple(self._bus.take_errors())
        running = status.backend_state == "Running"
        if running:
            # It has led in, or nobody has any use for it.
            self._bus.login_url = ""
        online, trying = status.node is not None and status.node.online, pilot.login.attempt.under_way
        self._complaints.follow(running=running, online=online, trying=trying)
        pilot.see(Look(status, errors, self._bus.login_url, life, has_network(), self._complaints.removed, now_s))
        if not self._leaving:
            act = await pilot.next_act(now_s)
            if act is not Act.NOTHING:
                group.start_soon(self._perform, pilot, act)
            elif pilot.take_care():
                group.start_soon(self._look_after, pilot)
            if pilot.restart_due:
                self._restart("the tailnet has been away for long, and nothing else has helped")
        self._show(pilot, status, now_s)
        return self._store.snapshot.tailnet.state == STARTING and self._is_young(_YOUNG_S)

    async def _status(self, api: LocalApi, pilot: Pilot, now_s: float) -> Status:
        if pilot.peers_due(now_s):
            try:
                status = await api.status(peers=True, timeout_s=STATUS_TIMEOUT_S)
            except (UnreachableError, SilentError):
                # A peer without particulars makes tailscaled break off (facts of 1.102): go on without.
                status = await api.status(timeout_s=STATUS_TIMEOUT_S)
            return status
        return await api.status(timeout_s=STATUS_TIMEOUT_S)

    async def _perform(self, pilot: Pilot, act: Act) -> None:
        if act is not Act.ADJUST:
            # Whatever it was, it is worth nothing any more; the status tells of the one that counts.
            self._bus.login_url = ""
        await pilot.perform(act)
        self._look_soon()

    async def _look_after(self, pilot: Pilot) -> None:
        """Look after the device; only what comes of it is worth another look, or one would lead to the next."""
        before = pilot.extra()
        await pilot.look_after()
        if pilot.extra() != before:
            self._look_soon()

    def _take_failure(self, error: LocalApiError, pilot: Pilot, now_s: float) -> bool:
        gone = self._attached and self._answered is not None
        begun = isinstance(error, UnreachableError) and self._is_young(_YOUNG_S) and not gone
        if isinstance(error, SilentError):
            begun = self._is_young(_BOOT_S) and self._answered != self._life()
            self._silences += 1
            if self._silences >= MOST_SILENCES and not begun and not self._leaving:
                self._restart("it does not answer")
        pilot.lose(now_s)
        if isinstance(error, UnreachableError):
            # Its login URL has gone with it: nobody waits for the visit any more.
            pilot.login.see_url("")
        before = self._store.snapshot.tailnet
        process = self._store.snapshot.process(TAILSCALED)
        stopped = process is not None and process.state is State.INACTIVE
        meaning = states.down(str(error), begun=begun, attached=self._attached, stopped=stopped)
        if before.choice != CONNECTED:
            meaning = meaning._replace(by_owner=True)
        self._put(pilot, meaning, None, now_s)
        return begun

    def _show(self, pilot: Pilot, status: Status, now_s: float) -> None:
        self._put(pilot, states.of_status(status, pilot.situation(now_s)), status, now_s)
        self._teller.tell_url(pilot.login.url)

    def _put(self, pilot: Pilot, meaning: states.Meaning, status: Status | None, now_s: float) -> None:
        view = report.view(meaning, status, pilot.extra(), self._store.snapshot.tailnet, now_s)
        view = self._answers.follow(view, pilot.progress(view), now_s)
        self._store.update_tailnet(view)
        if not self._store.snapshot.stopping:
            self._teller.tell(view, now_s)

    def _restart(self, why: str) -> None:
        """Have tailscaled restarted; one that hangs says in the log where."""
        self._silences = 0
        view = self._store.snapshot.process(TAILSCALED)
        if view is not None and view.state is State.RUNNING:
            self._log.record("error", "hung", child=TAILSCALED, why=why)
            self._engine.dispatch(TAILSCALED, Event(EventKind.HUNG))

    def _life(self) -> object:
        """Return what tells one life of tailscaled from another."""
        if self._attached:
            return sidecar.life_of(self._plan.settings.tailnet.socket)
        view = self._store.snapshot.process(TAILSCALED)
        return None if view is None else view.pid

    def _is_young(self, limit_s: float) -> bool:
        """Tell whether tailscaled has only just been started, so that no answer is no news."""
        view = self._store.snapshot.process(TAILSCALED)
        started_s = view.started_s if view is not None else self._store.snapshot.started_s
        alive = view is None or view.pid is not None
        return alive and started_s is not None and time.monotonic() - started_s < limit_s

    @property
    def takes_leave(self) -> bool:
        """Whether something is to be done at an orderly end."""
        return self._pilot is not None and self._pilot.takes_leave

    async def farewell(self, deadline_s: float) -> None:
        """Log the device out, by ``deadline_s`` on the monotonic clock, and say how long that took."""
        self._leaving = True
        if self._pilot is not None:
            await self._pilot.farewell(deadline_s)


async def _user_metrics(api: LocalApi, timeout_s: float) -> bytes | None:
    try:
        return await api.user_metrics(timeout_s)
    except LocalApiError:
        return None


def has_network() -> bool:
    """Tell whether any interface but the loopback is up; true where the kernel does not say."""
    try:
        names = os.listdir("/sys/class/net")
    except OSError:
        return True
    return any(_is_up(name) for name in names if name != "lo")


def _is_up(name: str) -> bool:
    try:
        with open(f"/sys/class/net/{name}/flags", encoding="ascii") as file:
            return bool(int(file.read(), 16) & _INTERFACE_UP)
    except (OSError, ValueError):
        return False
