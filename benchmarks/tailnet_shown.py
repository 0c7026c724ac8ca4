"""How soon ours shows each fault of the tailnet; containerboot for comparison, which does not."""

from __future__ import annotations

import contextlib
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import Bench, Measure, Result
from benchmarks.tailnet import BOOT, GOOD, built
from benchmarks.tailnet_boot import put_through
from benchmarks.tailnet_faults import FAULTS, Fault, Subject
from benchmarks.tailnet_watch import Watch
from tests.support.control import controlling
from tests.support.processes import alive
from tests.support.waiting import wait_until
from tests.tailnet.node import Node, at, node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.control import Control
    from tests.support.localapi import Bus

LONGEST_S = 90.0
ROUNDS = 5
_STAYED = "app and supervisor stay"


class Shown(NamedTuple):
    """The delays from tailscaled's knowledge to ours, and whether app and supervisor kept running."""

    health_s: float
    api_s: float
    stayed: bool

    @property
    def slower_s(self) -> float:
        """Return the slower of the two."""
        return max(self.health_s, self.api_s)


def take(fault: Fault, bench: Bench) -> dict[str, Result]:
    """Return the slowest of several rounds, in seconds."""
    rounds = 1 if bench.quick else ROUNDS
    # Without a wake-up ours polls every two seconds: each round begins at another moment of the interval.
    shown = [_round(fault, 2.0 * number / rounds) for number in range(rounds)]
    worst = max(shown, key=lambda one: one.slower_s)
    stayed = all(one.stayed for one in shown)
    note = f"health {worst.health_s:.2f}, API {worst.api_s:.2f}; {_STAYED if stayed else 'NOT the same processes'}"
    found = {"ours": Result(worst.slower_s, note)}
    if fault.boot and built() is not None:
        found[BOOT] = Result(None, put_through(fault, 5.0 if bench.quick else 20.0))
    return found


def _round(fault: Fault, pause_s: float) -> Shown:
    with tempfile.TemporaryDirectory(prefix="bench-fault-") as name, controlling("-auth") as control:
        folder = Path(name)
        # The backoff is the default, not the shorter one of the tests.
        settings = {"SUPERVISOR_BACKOFF_INITIAL": "500ms"} | at(control) | fault.arrange(control, folder / "state")
        with node(folder, **settings) as one, _bus(one) as bus:
            if fault.before:
                _log_in(one)
                if fault.before != "connected":
                    control.order("offline")
                one.wait_state(fault.before)
                time.sleep(pause_s)
            return _watched(fault, control, one, bus)


@contextlib.contextmanager
def _bus(one: Node) -> Iterator[Bus]:
    with contextlib.ExitStack() as stack:
        yield wait_until(lambda: stack.enter_context(one.api.watch()), what="tailscaled's bus")


def _log_in(one: Node) -> None:
    one.wait_state("needs login")
    one.connect(GOOD)
    one.wait_state("connected")


def _watched(fault: Fault, control: Control, one: Node, bus: Bus) -> Shown:
    seen_frames, seen_records = (len(bus.frames), len(one.run.records)) if fault.before else (0, 0)
    subject = Subject(
        control,
        one.api,
        one.run.wait_for("started", child="tailscaled")["pid"],
        one.disconnect,
        partial(one.disconnect, forget=True),
    )

    def is_shown_by_api() -> bool:
        view = one.view()
        return view["state"] == fault.state and fault.why in (view["why"] or "")

    looks = {
        "bus": lambda: any(fault.bus(frame) for frame in bus.frames[seen_frames:]),
        "status": lambda: fault.status(one.api.status()),
        "log": lambda: any(fault.log(str(record["message"])) for record in one.run.records[seen_records:]),
        "health": lambda: one.state() == fault.state,
        "API": is_shown_by_api,
    }
    if not fault.is_known:
        # It does not answer any more.
        del looks["status"]
    with Watch(looks) as watch:
        begin_s = time.monotonic()
        fault.hurt(subject)
        wait_until(lambda: {"health", "API"} <= watch.at.keys(), LONGEST_S, f"{fault.title} to be shown")
        if fault.is_known:
            wait_until(lambda: watch.at.keys() - {"health", "API"}, LONGEST_S, f"{fault.title} to be known")
    known_s = min((watch.began_at[way] for way in ("bus", "status", "log") if way in watch.at), default=begin_s)
    return Shown(max(0.0, watch.at["health"] - known_s), max(0.0, watch.at["API"] - known_s), _stayed(one))


def _stayed(one: Node) -> bool:
    """Return whether the supervisor and its first app still run."""
    (app, *later) = one.run.all("started", child="moltis")
    return not later and alive(app["pid"]) and alive(one.run.pid)


def _reached(fault: Fault, found: dict[str, Result]) -> bool:
    value, note = found["ours"].value, found["ours"].note
    return value is not None and value <= fault.most_s and note.endswith(_STAYED)


MEASURES = tuple(
    Measure(
        f"faults-{fault.title.partition(',')[0].replace(' ', '-')}",
        f"fault: {fault.title}",
        "s",
        f"≤ {fault.most_s:.0f} s",
        partial(_reached, fault),
        partial(take, fault),
        2,
    )
    for fault in FAULTS
)
