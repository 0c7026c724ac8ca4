"""Decides what is next for a tailscaled and has it done; the link looks and shows."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from supervisor.core.orders import Connect, Progress
from supervisor.core.tailnet import OFF
from supervisor.tailnet import attempt as attempts
from supervisor.tailnet import report, states
from supervisor.tailnet.care import Care
from supervisor.tailnet.course import CONNECTED, FORGOTTEN, IN_A_TAILNET, UNKNOWN, Act, Facts, decide
from supervisor.tailnet.hands import LOGOUT_S, Hands
from supervisor.tailnet.localapi import LocalApiError, SilentError, UnreachableError
from supervisor.tailnet.login import Login
from supervisor.tailnet.look import Others
from supervisor.tailnet.owner import Owner
from supervisor.tailnet.remedies import Remedy
from supervisor.tailnet.setbacks import Setbacks
from supervisor.tailnet.sidecar import BEFORE_DISCONNECT, MAY_NOT, Passivity
from supervisor.tailnet.states import Situation

if TYPE_CHECKING:
    from supervisor.config.plan import Plan
    from supervisor.core.orders import TailnetOrder
    from supervisor.core.snapshot import TailnetView
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.tailnet.bus import Bus
    from supervisor.tailnet.localapi import LocalApi
    from supervisor.tailnet.look import Look


class Pilot:
    """Steers one tailscaled for one run of the link."""

    def __init__(self, plan: Plan, log: LogPipeline, api: LocalApi, bus: Bus) -> None:
        tailnet = plan.settings.tailnet
        self._log = log
        self._attached = tailnet.mode == "attach"
        self._settings = tailnet
        # With backups the device comes back with its identity, whatever key it was logged in with.
        self._comes_back = plan.settings.backup is not None
        self._owner = Owner(tailnet.state_dir)
        self._new = not self._owner.found
        self._passivity = Passivity(self._attached)
        self._hands = Hands(plan, api, bus)
        self.login = Login(plan, log, self._hands)
        self.care = Care(plan, log, api, self._hands)
        self._look: Look | None = None
        self._lost = self._busy = self._adjusted = self._had_login = False
        self._state_since_s = 0.0
        self._others = Others()
        self._at_next_login: list[str] = []
        self._remedy: Remedy | None = None
        self._act = Act.NOTHING
        self._acting = anyio.CancelScope()
        self._setbacks = Setbacks()

    @property
    def _forbidden(self) -> str:
        """Why what is due cannot be done by this user; empty where it can."""
        return self._setbacks.forbids(self._act)

    @property
    def _state(self) -> str:
        return states.effective(self._look.status) if self._look is not None else "NoState"

    def take(self, order: TailnetOrder) -> None:
        """Take what the owner wants from now on."""
        self._setbacks.begin_anew()
        self._passivity = self._passivity.order(time.monotonic())
        if isinstance(order, Connect):
            self._owner.choose("connected")
            self.login.connect(order.auth_key, self._state, time.monotonic())
            self.care.hurry()
        else:
            self._owner.choose("forgotten" if order.forget else "disconnected")
            self.login.disconnect(under_way=self._state == "NeedsLogin")
        if self._act is Act.LOG_OUT and self._owner.choice != FORGOTTEN:
            # It may wait a minute for a control server that is not there.
            self._acting.cancel()

    def progress(self, view: TailnetView) -> Progress:
        """Return how far things are with what the owner wants, the tailnet being as ``view`` says."""
        login = self.login
        wish, why = login.failure or (None, "")
        return Progress(
            wish=login.wish,
            connected=view.up and not (login.again or login.attempt.under_way),
            disconnected=view.state == OFF and not login.give_up,
            forgotten=self._look is not None and not self._look.status.have_node_key,
            waits=view.auth_url is not None and login.url_wanted,
            failure=why if wish == login.wish else "",
        )

    def lose(self, now_s: float) -> None:
        """Note that there was no answer."""
        if not self._lost:
            self._state_since_s = now_s
        self._lost = True

    def see(self, look: Look) -> None:
        """Take in one look at tailscaled."""
        before, now_s = self._look, look.now_s
        if before is not None and (self._lost or look.life != before.life):
            self.login.interrupted()
            self._hands.logged_out = None
            self._adjusted = False
            self._setbacks.allow()
            self.care.afresh()
        before_state = self._state
        self._look = look
        if before is None or self._lost or self._state != before_state:
            self._state_since_s = now_s
        self._lost = False
        self._passivity = self._passivity.see(self._state, now_s)
        self._others.see(look)
        self.login.see_url(look.status.auth_url or (look.url if self._state == "NeedsLogin" else ""))
        for text in look.errors:
            self.login.see_error(text, self._state, now_s)
        self.login.follow(self._state, look.status, now_s - self._state_since_s, now_s)
        if self.login.came_about is not None:
            self._owner.note_login(ephemeral=self.login.came_about)
            self.login.came_about = None
        self._had_login = (self._had_login or self._state in IN_A_TAILNET) and self._owner.choice != FORGOTTEN
        self._remedy = self.care.look(look.status, now_s, removed=look.removed)

    def peers_due(self, now_s: float) -> bool:
        """Tell whether it is time to ask for the peers as well."""
        return self._state == "Running" and self._others.due(now_s, soon=self.care.waits_for_name)

    @property
    def restart_due(self) -> bool:
        """Whether an outage has lasted so long that tailscaled itself is to be restarted."""
        return self._remedy is Remedy.RESTART

    async def next_act(self, now_s: float) -> Act:
        """Return what is to be done now; whoever asks has it done by ``perform``."""
        if self._look is None or self._busy or self._setbacks.hold(now_s):
            return Act.NOTHING
        if self._passivity.waits(self._state, now_s - self._state_since_s) and self._owner.choice == CONNECTED:
            return Act.NOTHING
        status = self._look.status
        if status.have_node_key:
            with suppress(LocalApiError):
                await self._hands.look()
        key = await self.login.look_for_key(self._state, now_s, known=status.have_node_key)
        act = decide(
            Facts(
                state=self._state,
                choice=self._owner.choice,
                have_node_key=status.have_node_key,
                key=key,
                key_given_up=self.login.give_up,
                url_wanted=self.login.url_wanted,
                url_asked=self.login.url_asked(now_s),
                again=self.login.again,
                trying=self.login.again and self.login.attempt.under_way,
                # A logout switches off as well, and beside a sidecar it may have been its owner's.
                logged_out=bool(self._hands.logged_out) and not (self._hands.switched_off and self._passivity.holds()),
                adjusted=self._adjusted,
                passive=self._passivity.holds(),
            )
        )
        self._act = act
        if self._forbidden:
            return Act.NOTHING
        self._busy = act is not Act.NOTHING
        return act

    def take_care(self) -> bool:
        """Tell whether the device is to be looked after now; whoever asks has it done by ``look_after``."""
        # What helps in an outage would have tailscaled drop a key that is under way.
        attempt, now_s = self.login.attempt, time.monotonic()
        trying = attempt.under_way and not attempts.is_overdue(attempt, now_s)
        here = self._state == "Running" and self._owner.choice in {CONNECTED, UNKNOWN} and not trying
        if not here or self._busy or self._setbacks.hold(now_s):
            return False
        self._busy = True
        return True

    async def perform(self, act: Act) -> None:
        """Have it done; what goes wrong is remembered and tried again later."""
        wish = self.login.wish
        try:
            with anyio.CancelScope() as self._acting:
                await self._do(act)
        except LocalApiError as error:
            self._take_failure(act.value, error)
            self._setbacks.refused(act, error)
            if not isinstance(error, UnreachableError | SilentError):
                self.login.failure = wish, self.login.last_error
        else:
            self._setbacks.succeeded()
        finally:
            self._busy = False

    async def look_after(self) -> None:
        """Look after what is needed while the device is in its tailnet."""
        try:
            if self._look is not None:
                await self.care.work(self._look.status, self._remedy, time.monotonic())
        except LocalApiError as error:
            self._take_failure("look after the device", error)
        finally:
            self._busy = False

    async def _do(self, act: Act) -> None:
        if act is Act.LOG_IN:
            await self.login.log_in()
        elif act is Act.ASK_URL:
            await self.login.ask_url()
        elif act is Act.GIVE_UP:
            await self.login.give_up_on_key(known=self._look is not None and self._look.status.have_node_key)
        elif act is Act.KEEP_LOGIN:
            await self.login.keep_login()
        elif act is Act.SWITCH_OFF and self.login.give_up:
            await self.login.stop_trying()
        elif act in {Act.SWITCH_ON, Act.SWITCH_OFF}:
            await self._hands.switch(on=act is Act.SWITCH_ON)
        elif act is Act.LOG_OUT:
            await self._log_out(LOGOUT_S)
            self.login.forget()
        elif act is Act.ADJUST:
            self._at_next_login = await self._hands.adjust()
            self._adjusted = True

    async def _log_out(self, timeout_s: float) -> None:
        began_s = time.monotonic()
        await self._hands.log_out(timeout_s)
        self.care.afresh()
        self._adjusted = self._had_login = False
        self._owner.note_logout()
        self._log.record("info", "tailnet: logged out", took_s=round(time.monotonic() - began_s, 3))

    def _take_failure(self, what: str, error: LocalApiError) -> None:
        self.login.last_error = f"cannot {what}: {error}"
        if self._setbacks.failed(time.monotonic()):
            self._log.record("warning", f"tailnet: cannot {what}", why=str(error))

    def situation(self, now_s: float) -> Situation:
        """Return what people have to know beside tailscaled's own account."""
        look, login = self._look, self.login
        next_s = login.attempt.next_try_s
        return Situation(
            choice=self._owner.choice,
            attempt=login.attempt,
            login_url=login.url is not None,
            logging_in=self._busy and self._act is Act.LOG_IN,
            has_network=look is None or look.has_network,
            held_s=now_s - max(self._state_since_s, login.attempt.begun_s or 0.0),
            retry_s=None if next_s is None else max(0.0, next_s - now_s),
            had_login=self._had_login,
            expired=look is not None and report.has_expired(look.status, datetime.now(UTC)),
            last_error=login.last_error,
            forbidden=self._forbidden,
            why_unread=self._owner.why_unread,
            goes_back=login.goes_back(now_s),
        )

    def extra(self) -> report.Extra:
        """Return what the store shows beside the state."""
        expiry = report.key_expiry(self._look.status) if self._look is not None else None
        expires, soon = report.expiry_words(expiry, datetime.now(UTC))
        kept = self._owner.why_not_kept
        notes = [
            report.NEW_DEVICE if self._new and not self._attached else "",
            f"your choice is not kept over a restart: {kept}; set TS_STATE_DIR to a folder that is" if kept else "",
            "" if soon else expires,
            *self._at_next_login,
            *self.care.notes,
        ]
        forbidden = f"{self._forbidden}; {MAY_NOT}" if self._forbidden else ""
        why = self._owner.why_unread
        unread = f"{states.unread(why)}: connect, or disconnect" if why and self._state in states.NOT_OFF else ""
        warnings = [forbidden, unread, self.login.key_trouble, expires if soon else "", *self.care.warnings]
        return report.Extra(
            choice=self._owner.choice,
            last_error=self.login.last_error,
            last_error_s=self.login.last_error_s,
            login_url=self.login.url if self._owner.choice == CONNECTED else None,
            routes=self._settings.prefs.routes,
            peers=self._others.views if self._state == "Running" else (),
            warnings=tuple(text for text in warnings if text),
            notes=tuple(text for text in notes if text),
            before_disconnect=BEFORE_DISCONNECT if self._attached else "",
            serve=self.care.serve,
            logins=self.login.results,
        )

    @property
    def _logs_out(self) -> bool:
        return not self._comes_back and (self._settings.logs_out_at_stop or self._owner.record.ephemeral)

    @property
    def takes_leave(self) -> bool:
        """Whether something is to be done at an orderly end.

        The device is to leave its tailnet, or a sidecar would go on with a new key that nobody here watches any more.
        """
        return self._logs_out or (self._attached and self.login.again and self.login.attempt.under_way)

    async def farewell(self, deadline_s: float) -> None:
        """Log the device out by ``deadline_s`` on the monotonic clock, and say how that went."""
        self._busy = True
        if not self._logs_out:
            with suppress(LocalApiError):
                await self._hands.keep_login(on=True)
            return
        if self._state not in IN_A_TAILNET:
            return
        began_s = time.monotonic()
        try:
            if self._lost:
                raise SilentError("tailscaled gives no answer")
            await self._log_out(max(0.1, deadline_s - began_s))
        except LocalApiError as error:
            self._log.record(
                "warning",
                "tailnet: could not log out",
                why=str(error),
                took_s=round(time.monotonic() - began_s, 3),
                what_to_do="until control removes the device, its name stays taken: remove it in the admin console",
            )
