"""From any serve configuration to the wanted one: our entries change, those of others stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.tailnet.serve.diff import (
    ConflictKind,
    Entries,
    Record,
    Wish,
    endpoint,
    entries,
    funnels,
    handling,
    in_force,
    step,
    urls,
)
from tests.tailnet.serve.building import config_of

if TYPE_CHECKING:
    from supervisor.tailnet.wire import Json

HTTP = {"HTTP": True}
HTTPS = {"HTTPS": True}
FORWARD = {"TCPForward": "127.0.0.1:22"}
APP = {"Proxy": "http://127.0.0.2:13131"}
OLD = {"Proxy": "http://127.0.0.2:9"}


def port(number: int) -> tuple[str, ...]:
    """Return the path of a port."""
    return ("TCP", str(number))


def page(number: int, mount: str = "/", name: str = "a.x") -> tuple[str, ...]:
    """Return the path of a page."""
    return ("Web", f"{name}:{number}", "Handlers", mount)


OURS: Entries = {port(80): HTTP, page(80): APP}


def recorded(found: Entries) -> Record:
    """Return a record of these entries."""
    return {path: (value,) for path, value in found.items()}


def settle(current: Json, wish: Wish, record: Record) -> tuple[Json, Record, list[Json]]:
    """Do all steps as they would be written and recorded; return the final configuration, its record and all steps."""
    steps: list[Json] = []
    while True:
        found = step(current, wish, record)
        record = recorded(found.ours | found.written)
        if found.config is None:
            return current, record, steps
        current = found.config
        steps.append(current)
        assert len(steps) <= 3, "it does not come to an end"


@pytest.mark.parametrize(
    ("here", "record", "wish", "after"),
    [
        ({}, {}, OURS, OURS),
        (OURS, OURS, OURS, OURS),
        (OURS, OURS, {}, {}),
        ({}, OURS, OURS, OURS),
        # The app's port has changed since the last run.
        ({port(80): HTTP, page(80): OLD}, {port(80): HTTP, page(80): OLD}, OURS, OURS),
        # The device has a new name.
        (
            {port(80): HTTP, page(80, name="b.x"): APP},
            {port(80): HTTP, page(80, name="b.x"): APP},
            OURS,
            OURS,
        ),
        # From HTTP to HTTPS.
        (OURS, OURS, {port(443): HTTPS, page(443): APP}, {port(443): HTTPS, page(443): APP}),
        # An entry of ours that someone has changed is now theirs.
        ({port(80): HTTP, page(80): OLD}, OURS, OURS, {port(80): HTTP, page(80): OLD}),
        # Someone else's port of the same kind is usable, and stays after ours are removed.
        ({port(80): HTTP}, {}, OURS, OURS),
        (OURS, {page(80): APP}, {}, {port(80): HTTP}),
        # Someone else's page uses our port, even after our page is removed.
        (OURS | {page(80, "/x"): OLD}, OURS, {}, {port(80): HTTP, page(80, "/x"): OLD}),
        # Someone else's forward is in the way, and no page is put behind it.
        ({port(80): FORWARD}, {}, OURS, {port(80): FORWARD}),
        # No port is opened without an available page.
        ({page(80): OLD}, {}, OURS, {page(80): OLD}),
        # A port of ours that gets another purpose.
        (OURS, OURS, {port(80): FORWARD}, {port(80): FORWARD}),
        # The same if someone else's page needs it unchanged.
        (OURS | {page(80, "/x"): OLD}, OURS, {port(80): FORWARD}, {port(80): HTTP, page(80, "/x"): OLD}),
    ],
)
def test_where_it_leads(here: Entries, record: Entries, wish: Entries, after: Entries) -> None:
    """From the present entries, and our part of them, to the wanted ones."""
    end, _, _ = settle(config_of(here), Wish(wish), recorded(record))
    assert entries(end) == after


def test_nothing_is_left_of_nothing() -> None:
    """Removing our entries leaves no empty objects behind."""
    end, record, _ = settle(config_of(OURS), Wish({}), recorded(OURS))
    assert (end, record) == ({}, {})


def test_what_waits_for_a_certificate_is_kept_and_not_added() -> None:
    """HTTPS of a former run stays until its certificate is known to be missing."""
    secure: Entries = {port(443): HTTPS, page(443): APP}
    wish = Wish(OURS | secure, frozenset(secure))
    assert entries(settle({}, wish, {})[0]) == OURS
    both = OURS | secure
    assert entries(settle(config_of(both), wish, recorded(both))[0]) == both
    moved: Entries = {port(443): HTTPS, page(443): OLD}
    assert entries(settle(config_of(moved), wish, recorded(moved))[0]) == OURS


@pytest.mark.parametrize(
    ("current", "wish", "kind", "path"),
    [
        (config_of({port(80): FORWARD}), OURS, ConflictKind.TAKEN, port(80)),
        (config_of({port(80): HTTP, page(80): OLD}), OURS, ConflictKind.TAKEN, page(80)),
        (config_of({port(80): HTTP, page(80, "/x"): OLD}), OURS, ConflictKind.BESIDE, page(80, "/x")),
        ({"Foreground": {"s": config_of({port(80): HTTP})}}, OURS, ConflictKind.SESSION, port(80)),
        ({"AllowFunnel": {"a.x:80": True}}, OURS, ConflictKind.CLOSED_TO_FUNNEL, page(80)),
        ({"Foreground": {"s": {"AllowFunnel": {"a.x:80": True}}}}, OURS, ConflictKind.CLOSED_TO_FUNNEL, page(80)),
        (config_of(OURS) | {"AllowFunnel": {"a.x:80": True}}, OURS, ConflictKind.OPEN_TO_FUNNEL, page(80)),
        ({"AllowFunnel": {"b.x:22": True}}, {port(22): FORWARD}, ConflictKind.CLOSED_TO_FUNNEL, port(22)),
    ],
)
def test_what_is_in_the_way(current: Json, wish: Entries, kind: ConflictKind, path: tuple[str, ...]) -> None:
    """The place and the kind are reported."""
    found = step(current, Wish(wish), recorded(OURS) if kind is ConflictKind.OPEN_TO_FUNNEL else {})
    assert (kind, path) in [(conflict.kind, conflict.path) for conflict in found.conflicts]


@pytest.mark.parametrize(
    "current",
    [
        {},
        {"AllowFunnel": {"a.x:80": False, "b.x:443": True}},
        config_of({port(80): HTTP, page(80, name="b.x"): OLD, port(22): FORWARD}),
    ],
)
def test_what_is_not_in_the_way(current: Json) -> None:
    """Other ports, other names and a Funnel that is off are no conflicts."""
    assert step(current, Wish(OURS), {}).conflicts == ()


def test_services_have_ports_of_their_own() -> None:
    """The device's use of a port does not conflict with a service on the same one."""
    service: Entries = {("Services", "svc:s", *path): value for path, value in OURS.items()}
    current = config_of({port(80): FORWARD}) | {"AllowFunnel": {"a.x:80": True}}
    found = step(current, Wish(service), {})
    assert found.conflicts == ()
    assert found.config is not None
    assert found.config["Services"] == {"svc:s": config_of(OURS)}
    assert [endpoint(path) for path in service] == [("svc:s", "80")] * 2
    assert settle(found.config, Wish({}), recorded(service))[0] == current


def test_a_service_with_a_network_interface_of_its_own() -> None:
    """It has no ports."""
    wish: Entries = {("Services", "svc:s", "Tun"): True}
    end, record, _ = settle({}, Wish(wish), {})
    assert end == {"Services": {"svc:s": {"Tun": True}}}
    assert settle(end, Wish({}), record)[0] == {}
    assert endpoint(("Services", "svc:s", "Tun")) == ("svc:s", "")


def test_where_it_is_reached() -> None:
    """HTTPS comes first, and default ports are omitted; a port alone has no URL."""
    found: Entries = OURS | {port(443): HTTPS, page(443): APP, port(8443): HTTPS, page(8443): APP, port(22): FORWARD}
    told = in_force(config_of(found), Wish(found), {})
    assert port(80) not in told
    assert port(22) in told
    assert urls(config_of(found), told) == ("https://a.x/", "https://a.x:8443/", "http://a.x/")
    assert urls({"Web": {"a.x:80": {"Handlers": {"/": APP}}}}, {page(80): APP}) == ()


def test_odd_shapes_are_read_as_empty() -> None:
    """They may be from a later version, or damaged."""
    assert entries({"TCP": None, "Web": {"a.x:80": {"Handlers": None}}, "Services": []}) == {}
    assert funnels({"Foreground": {"s": None}}) == frozenset()
    assert handling(None) == "tcp"
