"""tailscaled's states in words for people."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core.snapshot import TailnetView
from supervisor.tailnet.states import down, of_status, view
from supervisor.tailnet.wire import Node, Status


@pytest.mark.parametrize(
    ("status", "state", "up"),
    [
        (Status(backend_state="NeedsLogin"), "needs login", False),
        (Status(backend_state="NeedsLogin", node=Node(expired=True)), "key expired", False),
        (Status(backend_state="NeedsMachineAuth"), "waiting for approval", False),
        (Status(backend_state="Starting"), "connecting", False),
        (Status(backend_state="Stopped"), "disconnected", False),
        (Status(backend_state="NoState"), "starting", False),
        (Status(backend_state="NoState", health=("fetch control key: refused",)), "control server unreachable", False),
        (Status(backend_state="Running", node=Node(online=True)), "connected", True),
        (Status(backend_state="Running", node=Node(online=False)), "control server unreachable", False),
        (Status(backend_state="Levitating"), "Levitating", False),
    ],
)
def test_states(status: Status, state: str, up: bool) -> None:  # noqa: FBT001
    """Each has a name, and all but one say why not."""
    meaning = of_status(status, has_network=True)
    assert (meaning.state, meaning.up) == (state, up)


def test_no_network_is_a_state_of_its_own() -> None:
    """tailscaled would wait for ever and say nothing."""
    assert of_status(Status(backend_state="NeedsLogin"), has_network=False).state == "no network interface"


def test_no_answer_is_starting_first_and_down_later() -> None:
    """A daemon that was started a moment ago is not down."""
    assert (down("x", begun=True).state, down("x", begun=False).state) == ("starting", "tailscaled down")


def test_since_when() -> None:
    """A state's time counts from its beginning, the time away from when it was last up."""
    up, off = (
        of_status(Status(backend_state="Running", node=Node(online=True)), has_network=True),
        down("x", begun=False),
    )
    first = view(off, TailnetView("embedded", "starting", 0.0, away_since_s=0.0), 10.0)
    assert (first.since_s, first.away_since_s) == (10.0, 0.0)
    assert view(off, first, 20.0).since_s == 10.0
    again = view(up, first, 30.0)
    assert (again.up, again.away_since_s, again.since_s) == (True, None, 30.0)
    assert view(off, again, 40.0).away_since_s == 40.0


def test_fields_of_a_later_version_are_ignored() -> None:
    """Unknown ones are no error, missing ones have their defaults."""
    status = msgspec.json.decode(b'{"BackendState":"Running","New":{"a":1},"Self":{"Online":true,"X":2}}', type=Status)
    assert status.node is not None
    assert status.node.online
