"""A tailnet whose start the backups hold."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.tailnet import Action, Backend, Choice, Stage, TailnetEventKind
from tests.core.test_login_machine import KEY, TRYING, after, seen


@pytest.mark.parametrize(
    ("orders", "choice"),
    [
        ((), Choice.DISCONNECTED),
        (((TailnetEventKind.CONNECT, {}),), Choice.CONNECTED),
        (((TailnetEventKind.CONNECT, {"key": KEY}),), Choice.CONNECTED),
        (((TailnetEventKind.DISCONNECT, {"forget": True}),), Choice.FORGOTTEN),
        (((TailnetEventKind.DISCONNECT, {}), (TailnetEventKind.CONNECT, {})), Choice.CONNECTED),
    ],
)
def test_orders_to_a_held_tailnet_are_carried_out_later(
    orders: tuple[tuple[TailnetEventKind, dict[str, Any]], ...], choice: Choice
) -> None:
    """Nothing is started while it is held; then the choice in the files counts, or what was ordered since."""
    machine, actions = after(TRYING, TailnetEventKind.HOLD)
    assert (machine.stage, machine.running, actions) == (Stage.HELD, Action.NOTHING, [])
    for kind, fields in orders:
        machine, actions = after(machine, kind, **fields)
        assert (machine.stage, actions) == (Stage.HELD, [])
    assert seen(machine, state=Backend.NEEDS_LOGIN, key=KEY) == (machine, [])
    machine, actions = after(machine, TailnetEventKind.LET_GO, choice=Choice.DISCONNECTED, ephemeral=True)
    assert (machine.stage, machine.choice, machine.ephemeral, actions) == (Stage.IDLE, choice, True, [])
    if orders and "key" in orders[0][1]:
        # The device that came with the files gets the new key.
        machine, actions = seen(machine, state=Backend.RUNNING, have_node_key=True, online=True, key=KEY)
        assert actions == [Action.FETCH_KEY]
