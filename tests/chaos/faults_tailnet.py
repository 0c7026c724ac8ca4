"""Faults of tailscaled, its LocalAPI and the control server."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from tests.chaos.kinds import IN_TAILNETS, MissingError, fault
from tests.chaos.world import pause

if TYPE_CHECKING:
    import random

    from tests.chaos.kinds import Undo
    from tests.chaos.world import World


_BOTH = (*IN_TAILNETS, "sidecar")
MODES = ("slow", "silent", "cut", "half", "refuse", "rubbish", "redirect", "error", "forbidden", "huge")


def _add_way(mode: str) -> None:
    """Add a fault in which the proxy before a sidecar's LocalAPI or the control server behaves in this mode."""

    @fault(f"peer-{mode}", _BOTH)
    def act(world: World, chance: random.Random) -> Undo:
        way = world.around.way
        assert way is not None
        way.mode = mode
        pause(chance.uniform(0.1, 0.5))

        def undo() -> None:
            way.mode = "pass"

        return undo


for _mode in MODES:
    _add_way(_mode)


@fault("kill-tailscaled", IN_TAILNETS)
def _kill_tailscaled(world: World, chance: random.Random) -> None:
    world.signal("tailscaled", chance.choice((signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT)))


@fault("hold-tailscaled", IN_TAILNETS)
def _hold_tailscaled(world: World, chance: random.Random) -> None:
    world.signal("tailscaled", signal.SIGSTOP)
    pause(chance.uniform(0.1, 0.5))
    world.signal("tailscaled", signal.SIGCONT)


@fault("control-goes", IN_TAILNETS)
def _control_goes(world: World, chance: random.Random) -> Undo:
    control = world.around.control
    assert control is not None
    if control.frozen:
        # It would carry out the order once it is thawed, and nothing would undo that.
        raise MissingError
    control.order("offline")
    pause(chance.uniform(0, 0.5))
    return lambda: control.order("online")


@fault("control-freezes", IN_TAILNETS)
def _control_freezes(world: World, chance: random.Random) -> Undo:
    control = world.around.control
    assert control is not None
    control.freeze()
    pause(chance.uniform(0, 0.5))
    return control.thaw


@fault("tailnet-orders", _BOTH)
def _tailnet_orders(world: World, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 4)):
        with contextlib.suppress(OSError):
            world.api("POST", f"/api/tailscale/{chance.choice(('connect', 'disconnect'))}", "{}")
