"""From any serve configuration to the one that is wanted: what is ours changes, what is not stays."""

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
    """Return the record of these entries."""
    return {path: (value,) for path, value in found.items()}


def settle(current: Json, wish: Wish, record: Record) -> tuple[Json, Record, list[Json]]:
    """Do all the steps, as they would be written and recorded; return the end, its record and every step."""
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
        # The device has another name.
        (
            {port(80): HTTP, page(80, name="b.x"): APP},
            {port(80): HTTP, page(80, name="b.x"): APP},
            OURS,
            OURS,
        ),
        # From HTTP to HTTPS.
        (OURS, OURS, {port(443): HTTPS, page(443): APP}, {port(443): HTTPS, page(443): APP}),
        # What ours were and somebody changed is somebody's.
        ({port(80): HTTP, page(80): OLD}, OURS, OURS, {port(80): HTTP, page(80): OLD}),
        # Somebody's port of the same kind will do, and stays after us.
        ({port(80): HTTP}, {}, OURS, OURS),
        (OURS, {page(80): APP}, {}, {port(80): HTTP}),
        # Somebody's page lives on our port, also when we are gone.
        (OURS | {page(80, "/x"): OLD}, OURS, {}, {port(80): HTTP, page(80, "/x"): OLD}),
        # Somebody's forward is in the way, and no page is put behind it.
        ({port(80): FORWARD}, {}, OURS, {port(80): FORWARD}),
        # Without a page that can be had no port is opened.
        ({page(80): OLD}, {}, OURS, {page(80): OLD}),
        # A port of ours that is to do something else.
        (OURS, OURS, {port(80): FORWARD}, {port(80): FORWARD}),
        # The same where somebody's page needs it as it is.
        (OURS | {page(80, "/x"): OLD}, OURS, {port(80): FORWARD}, {port(80): HTTP, page(80, "/x"): OLD}),
    ],
)
def test_where_it_leads(here: Entries, record: Entries, wish: Entries, after: Entries) -> None:
    """From what is there, and what of it is ours, to what is wanted."""
    end, _, _ = settle(config_of(here), Wish(wish), recorded(record))
    assert entries(end) == after


def test_nothing_is_left_of_nothing() -> None:
    """What we take out leaves no empty shell behind."""
    end, record, _ = settle(config_of(OURS), Wish({}), recorded(OURS))
    assert (end, record) == ({}, {})


def test_what_waits_for_a_certificate_is_kept_and_not_added() -> None:
    """HTTPS of a former run stays until it is known that its certificate is gone."""
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
    """It is told where, and of what kind."""
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
    """Other ports, other names and a Funnel that is off are nobody's business."""
    assert step(current, Wish(OURS), {}).conflicts == ()


def test_services_have_ports_of_their_own() -> None:
    """What the device does on a port is nothing to a service on the same one."""
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
    """HTTPS first, and no port where it is the usual one; a port alone is no address."""
    found: Entries = OURS | {port(443): HTTPS, page(443): APP, port(8443): HTTPS, page(8443): APP, port(22): FORWARD}
    told = in_force(config_of(found), Wish(found), {})
    assert port(80) not in told
    assert port(22) in told
    assert urls(config_of(found), told) == ("https://a.x/", "https://a.x:8443/", "http://a.x/")
    assert urls({"Web": {"a.x:80": {"Handlers": {"/": APP}}}}, {page(80): APP}) == ()


def test_odd_shapes_are_read_as_empty() -> None:
    """Of a later version, or of nobody's."""
    assert entries({"TCP": None, "Web": {"a.x:80": {"Handlers": None}}, "Services": []}) == {}
    assert funnels({"Foreground": {"s": None}}) == frozenset()
    assert handling(None) == "tcp"
