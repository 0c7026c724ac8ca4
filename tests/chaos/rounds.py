"""Plays a life: brings the supervisor into each phase, injects the faults, and checks the conditions."""

from __future__ import annotations

import contextlib
import http
import random
import secrets
import signal
import time
import traceback
from typing import TYPE_CHECKING

from tests.chaos import checks
from tests.chaos.boxed import world_of
from tests.chaos.catalogue import KEEPING, KINDS, MissingError
from tests.chaos.client import APP
from tests.chaos.surroundings import Backups, Deploy
from tests.chaos.world import pause
from tests.support.processes import below
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.chaos.plan import Life, Round
    from tests.chaos.world import World

# Time for all conditions to hold again: a busy machine is not a violation.
SETTLE_S = 20.0
_LOOK_S = 0.02
# How soon a child's end is logged, if it was told to end.
_SEEN_S = 2.0
# How soon health has to tell that the app is down; up, it has to answer a probe first.
_TRUE_S = 5.0
# Additional time of a start with backups, which may wait for a holder that is gone or a bucket that is away, and
# restore files.
_HOLD_S = 75.0
# Longest duration of the faults of a round: in a phase that takes some time, and in this share of the others.
_LINGER_S = 3.0
_LINGERS = 0.1
_KILLED = frozenset({-signal.SIGKILL, 128 + signal.SIGKILL})
# Output of unshare, which then exits with 1, if it cannot end by the signal that killed its child.
_KILLED_INSIDE = "sigprocmask unblock failed"


# Beginnings of violations that a busy machine can cause: a right but late health answer, or a stop whose
# half second for the reader of its log was over before the supervisor could run. Or the one that asks for health was
# kept from running once it had connected, and was taken for an idle client.
_LAST_LINES = "the last lines"
_BLOCKED = "blocked"
_TAKEN_FOR_IDLE = "health: health: no answer: ConnectionError('closed without an answer')"
CROWDED = ("health: health took", _TAKEN_FOR_IDLE, _LAST_LINES, _BLOCKED)


class Violation(Exception):  # noqa: N818 - not an error of the code that raises it
    """A violated condition; the text begins with the name of the check."""


class Player:
    """Plays one life; ``met`` counts the faults by kind and phase."""

    def __init__(self, life: Life, met: Counter[tuple[str, str]]) -> None:
        self._life = life
        self._met = met
        self._world = world_of(life.flavour)
        self._worlds = [self._world]
        self._undo: list[Callable[[], object]] = []
        # The content of the note in the app's folder; empty if no snapshot has to contain it.
        self._note = ""
        # The number of rows of each life of the app that the last snapshot has to contain.
        self._rows: dict[str, int] = {}
        # The faults of this hand-over that may have prevented the last snapshot.
        self._unsaving: list[str] = []

    def play(self) -> int:
        """Play all rounds and return their number. Raises Violation."""
        try:
            for one in self._life.rounds:
                self._play(one)
        except AssertionError as error:
            raise Violation(f"wait: {error}") from error
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"runner: {traceback.format_exc()}") from error
        finally:
            self._heal()
            # Later worlds share the surroundings of the first.
            for world in reversed(self._worlds):
                world.close()
        return len(self._life.rounds)

    def _play(self, one: Round) -> None:
        world = self._world
        world.unread = world.may_be_killed = False
        self._unsaving.clear()
        world.output.begin_round()
        enter, leave = {
            "start": (self._start, self._settle),
            "running": (lambda: None, self._settle_and_stop_app),
            "backoff": (self._enter_backoff, self._settle),
            "cleaning": (self._enter_cleaning, self._settle),
            "restore": (self._enter_restore, self._settle),
            "again": (self._ask_to_stop, self._start_again),
            "hand-over": (self._enter_hand_over, self._leave_hand_over),
            "stop": (self._ask_to_stop, self._end),
        }[one.phase]
        enter()
        self._break(one)
        leave()

    def _break(self, one: Round) -> None:
        begun_s = time.monotonic()
        for fault in one.faults:
            pause(max(0.0, begun_s + fault.at_ms / 1000 - time.monotonic()))
            chance = random.Random(str(fault))
            # At a hand-over it may be the old or the new container.
            world = chance.choice(self._worlds[-2:]) if one.phase == "hand-over" else self._world
            if world.is_alive():
                if world.prober is not None:
                    world.prober.now = f"{one.phase}:{fault}"
                with contextlib.suppress(MissingError):
                    kind = KINDS[fault.kind]
                    undo = kind.act(world, chance)
                    self._met[fault.kind, one.phase] += 1
                    # A repository is shared with the container that takes over.
                    if kind.unsaves and (world is self._world or {*kind.flavours} <= {*KEEPING}):
                        self._unsaving.append(str(fault))
                    if undo is not None:
                        self._undo.append(undo)
        chance = random.Random(str(one))
        if one.phase in {"restore", "hand-over"} or chance.random() < _LINGERS:
            pause(chance.uniform(0.0, _LINGER_S))

    def _heal(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _start(self) -> None:
        self._world.start()

    def _enter_backoff(self) -> None:
        self._provoke("side", ("exit 1",), "will be restarted")

    def _enter_cleaning(self) -> None:
        self._provoke("maker", ("daemons 24", "exit 0"), "exited")

    def _provoke(self, child: str, orders: tuple[str, ...], message: str) -> None:
        """Give a child orders until this is logged of it: one that is only starting does not get the first ones."""
        since = len(self._world.output.records)

        def is_logged() -> bool:
            for order in orders:
                self._world.tell(child, order)
            with contextlib.suppress(AssertionError):
                return bool(wait_until(lambda: self._world.output.find(message, since, child=child), _SEEN_S))
            return False

        wait_until(is_logged, what=f"{child} {message}")

    def _enter_restore(self) -> None:
        """Stop in order, lose all files, and start again."""
        self._take_a_note()
        self._ask_to_stop()
        self._end(files=False)
        self._expect_note(self._world)
        around = self._world.around
        assert isinstance(around, Backups)
        around.lose_files()
        self._world.baseline = None
        self._world.start()

    def _start_again(self) -> None:
        """Wait for its end, and start the same container again, with what it left."""
        world = self._world
        self._end(files=False)
        if world.unread and not world.killed:
            world.output.excuse()
        world.baseline = None
        world.start()
        self._settle()

    def _enter_hand_over(self) -> None:
        """Start another container that stands by, and stop this one."""
        self._take_a_note()
        old = self._world
        new = world_of(old.flavour, old.around)
        self._worlds.append(new)
        new.start()
        wait_until(lambda: new.ask("/api/backups")["state"] == "standby", 30.0, "standby")
        self._look("device", checks.device(old))
        self._ask_to_stop()

    def _leave_hand_over(self) -> None:
        old, new = self._worlds[-2:]
        self._heal()

        def over() -> bool:
            for name in (APP, "tailscaled"):
                if old.pid_of(name) is not None and new.pid_of(name) is not None:
                    raise Violation(f"one holder: both run {name}")
            return old.popen is not None and old.popen.poll() is not None

        wait_until(over, old.around.stop_timeout_s + old.overrun_s, "the end of the one that hands over")
        self._end(files=False)
        self._expect_note(old)
        if isinstance(old.around, Deploy) and isinstance(new.around, Deploy):
            new.around.device, new.around.saved = old.around.device, old.around.saved
            new.around.unsure, new.around.lost = old.around.unsure, old.around.lost
        self._world = new
        self._settle()

    def _take_a_note(self) -> None:
        self._note = secrets.token_hex(8)
        (self._world.folder / ".moltis").mkdir(exist_ok=True)
        (self._world.folder / ".moltis" / "note").write_text(self._note)

    def _expect_note(self, old: World) -> None:
        """Expect the note and every row from the next one, unless a fault has prevented the last snapshot."""
        if old.output.find("handed over", old.since, whole=True) is not None:
            self._rows |= old.acknowledged()
            if isinstance(old.around, Deploy):
                old.around.saved = bool(old.around.device)
            return
        if not self._unsaving:
            self._look("last snapshot", ["there is none, and no fault prevented it"])
        self._note = ""
        self._met["no last snapshot", "hand-over"] += 1
        if isinstance(old.around, Deploy) and not old.around.saved:
            old.around.device, old.around.unsure = "", True

    def _ask_to_stop(self) -> None:
        world = self._world
        assert world.prober is not None
        # One child does not end on request, so that there is time for faults; with backups a
        # stop takes long anyway.
        world.tell("side", "slow 0.5" if self._life.flavour in KEEPING else "stubborn")
        pause(0.05)
        world.prober.end()
        world.ask_to_stop()

    def _settle(self) -> None:
        """Wait until all conditions hold again. Raises Violation if they do not, or another violation was seen."""
        world = self._world
        self._heal()
        if world.may_be_killed and not world.killed and self._was_killed():
            world.see_killed()
        if world.killed:
            self._go_on_after_kill()
        elif not world.is_alive():
            code = world.popen.returncode if world.popen is not None else None
            self._look("end", [f"it ended by itself with {code}: {(world.folder / 'errors').read_text()}"])
        patience_s = SETTLE_S + (_HOLD_S if isinstance(world.around, Backups) else 0.0)
        self._hold("orders carried out", checks.orders)
        # From here on all processes have to run.
        world.ordered.clear()
        self._hold("orders", self._started_stopped, patience_s)
        self._hold("truth", checks.untruths, patience_s)
        world.stopped.clear()
        since = len(world.output.records)
        self._hold("crash loop", lambda each: checks.unlooped(each, since))
        self._hold("truth of health", checks.health)
        self._hold("zombies", checks.zombies)
        self._hold("lines", lambda each: each.output.missing())
        if world.baseline is None:
            self._hold("tailnet followed", checks.unfollowed, patience_s)
            world.baseline = checks.use(world)
        self._hold("leaks", checks.leaks)
        self._look("secrets", checks.secrets(world))
        self._hold("unwell", lambda each: each.unwell())
        self._look("files", checks.files(world, self._note))
        self._look("rows", checks.rows(world, self._rows))
        self._look("device", checks.device(world))
        self._look("writers", checks.writers(world))
        self._look_back()

    def _settle_and_stop_app(self) -> None:
        """Settle, and check that health reports a stopped app."""
        self._settle()
        for verb, deadline_s in (("stop", _TRUE_S), ("start", SETTLE_S)):
            with contextlib.suppress(OSError):
                self._world.order(APP, verb)
            self._hold("orders carried out", checks.orders)
            self._hold("truth of health", checks.health, deadline_s)
        self._world.ordered.clear()

    def _was_killed(self) -> bool:
        """Wait until it answers or has ended; return whether the kernel has killed it."""
        world = self._world
        assert world.popen is not None
        with contextlib.suppress(AssertionError):
            wait_until(
                lambda: world.popen is not None and (world.popen.poll() is not None or world.ask("/api/processes"))
            )
        return world.popen.poll() is not None and _is_killed(world)

    def _started_stopped(self, world: World) -> list[str]:
        """Order those to start that were ordered to stop; return the refusals, as of a held start."""
        found = []
        for name in sorted(world.stopped):
            try:
                status, answer = world.api("POST", f"/api/processes/{name}/start")
            except OSError as error:
                return [f"the API does not answer: {error!r}"]
            if status != http.HTTPStatus.ACCEPTED:
                found.append(f"{name} cannot be started: {status} {answer}")
        return found

    def _look_back(self) -> None:
        world = self._world
        assert world.prober is not None
        self._look("output", world.output.problems)
        self._look("secrets", world.spied)
        self._look("health", world.prober.problems)
        self._look(_BLOCKED, world.blocked())
        self._look("defects", checks.defects(world))
        self._look("others", world.problems)

    def _hold(self, name: str, check: Callable[[World], list[str]], deadline_s: float = SETTLE_S) -> None:
        """Wait until a check finds nothing."""
        end_s = time.monotonic() + deadline_s
        while found := check(self._world):
            if time.monotonic() > end_s:
                self._look(name, found)
            pause(_LOOK_S)

    def _look(self, name: str, found: list[str]) -> None:
        if found:
            last = "\n".join(str(record) for record in self._world.output.records[-12:])
            raise Violation(f"{name}: " + "\n".join(found[:5]) + "\nthe last records:\n" + last)

    def _go_on_after_kill(self) -> None:
        """Check that its children ended with it, end what they had started, and start it again."""
        self._hold("children of a killed supervisor", lambda each: [str(pid) for pid in each.survivors()])
        self._world.clear()
        self._world.output.excuse()
        self._world.baseline = None
        self._world.start()

    def _end(self, *, files: bool = True) -> None:
        """Check that it ends in time, with the right code and nothing left; ``files``: it is not started again.

        A killed one leaves what its children had started, but not the children.
        """
        world = self._world
        assert world.popen is not None
        assert world.prober is not None
        begun_s = time.monotonic()
        with contextlib.suppress(Exception):
            world.popen.wait(world.around.stop_timeout_s + world.overrun_s)
        took_s = time.monotonic() - begun_s
        self._heal()
        world.prober.close()
        world.close_spy()
        if world.popen.poll() is None:
            raise Violation(f"stop: it still runs after {took_s:.1f} s; below it {below(world.popen.pid)}")
        if world.killed or (world.may_be_killed and _is_killed(world)):
            self._hold("children of a killed supervisor", lambda each: [str(pid) for pid in each.survivors()])
            world.clear()
            world.output.excuse()
            world.ended = True
            self._look("files", checks.files(world, ""))
            self._look_back()
            return
        if world.popen.returncode != 0:
            self._look("exit code", [f"{world.popen.returncode} {world.errors()}"])
        self._look("left after the stop", [f"{pid} {world.sight.environment(pid)}" for pid in world.marked()])
        if files:
            world.close_output()
            self._look(_LAST_LINES, [] if world.unread else world.output.missing())
            self._look("writers", checks.writers(world))
        world.ended = True
        self._look("files", [name for name in ("http", "control.sock") if (world.run_dir / name).exists()])
        self._look_back()


def _is_killed(world: World) -> bool:
    """Return whether it was killed, also inside of unshare."""
    assert world.popen is not None
    said = (world.folder / "errors").read_text(errors="replace").rstrip()
    return world.popen.returncode in _KILLED or (world.popen.returncode == 1 and _KILLED_INSIDE in said[-200:])


def play(life: Life, met: Counter[tuple[str, str]]) -> int:
    """Play a whole life; return its number of rounds. Raises Violation."""
    return Player(life, met).play()
