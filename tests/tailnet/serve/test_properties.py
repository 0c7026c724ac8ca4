"""For any serve configuration and any wish: entries of others stay, and the result is stable."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from supervisor.tailnet.serve.diff import (
    WEB,
    Entries,
    Record,
    Wish,
    endpoint,
    entries,
    funnels,
    handling,
    host_port,
    is_port,
    step,
)
from tests.tailnet.serve.building import config_of
from tests.tailnet.serve.test_diff import APP, FORWARD, HTTP, HTTPS, OLD, page, port, recorded, settle

if TYPE_CHECKING:
    from supervisor.tailnet.wire import Json

PORTS = st.sampled_from([80, 443])
HANDLERS = st.sampled_from([HTTP, HTTPS, FORWARD, {"TCPForward": "127.0.0.1:1", "TerminateTLS": "a.x"}])
PAGES = st.builds(page, PORTS, st.sampled_from(["/", "/x"]), st.sampled_from(["a.x", "b.x"]))
TARGETS = st.sampled_from([APP, OLD, {"Text": "t"}])
FOUND: st.SearchStrategy[Entries] = st.builds(
    lambda ports, pages: ports | pages,
    st.dictionaries(st.builds(port, PORTS), HANDLERS),
    st.dictionaries(PAGES, TARGETS, max_size=4),
)

FUNNELS = st.dictionaries(st.sampled_from(["a.x:80", "a.x:443"]), st.booleans(), max_size=2)
SESSIONS = st.dictionaries(st.just("s"), st.builds(config_of, FOUND), max_size=1)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Json, Wish, Record]:
    """Return a configuration, a wish, and a record of some of its entries and of former ones."""
    here, wish, gone = draw(FOUND), draw(FOUND), draw(FOUND)
    wish = {path: value for path, value in wish.items() if is_port(path) or serves(wish.get(port_of(path)))}
    current: Json = config_of(here)
    if funnelled := draw(FUNNELS):
        current["AllowFunnel"] = funnelled
    if sessions := draw(SESSIONS):
        current["Foreground"] = sessions
    ours = {path: value for path, value in here.items() if draw(st.booleans())}
    kept = frozenset(path for path in wish if draw(st.booleans()))
    return current, Wish(wish, kept), recorded(gone | ours)


def port_of(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path of a page's port."""
    return port(int(endpoint(path).port))


def serves(handler: Any) -> bool:
    """Return whether a port is a web server."""
    return handler is not None and handling(handler) in WEB


@given(worlds())
def test_what_is_foreign_never_changes(world: tuple[Json, Wish, Record]) -> None:
    """They stay in each step, and so do Funnel and terminal sessions."""
    current, wish, record = world
    before = copy.deepcopy(current)
    foreign = {path: value for path, value in entries(current).items() if value not in record.get(path, ())}
    for each in settle(current, wish, record)[2]:
        assert {path: entries(each).get(path) for path in foreign} == foreign
        assert all(each.get(name) == before.get(name) for name in ("AllowFunnel", "Foreground"))
        # A page is in use only on a port that is a web server.
        used = [port_of(path) for path in foreign if host_port(path) and serves(entries(before).get(port_of(path)))]
        assert all(serves(entries(each).get(path)) for path in used)
    assert current == before


@given(worlds())
def test_the_same_again_changes_nothing(world: tuple[Json, Wish, Record]) -> None:
    """The result is stable, and the record contains only entries in it."""
    current, wish, record = world
    end, record, _ = settle(current, wish, record)
    again, same, steps = settle(end, wish, record)
    assert (again, same, steps) == (end, record, [])
    assert all(entries(end)[path] in values for path, values in record.items())


@given(worlds())
def test_tailscaled_would_take_every_step(world: tuple[Json, Wish, Record]) -> None:
    """It refuses to change the kind of a port, and to take a port from a session."""
    current, wish, record = world
    sessions = {path for session in current.get("Foreground", {}).values() for path in entries(session)}
    for each in settle(current, wish, record)[2]:
        for path, handler in entries(each).items():
            if is_port(path) and path in entries(current):
                assert handling(handler) == handling(entries(current)[path])
            elif is_port(path):
                assert path not in sessions
        current = each


@given(worlds())
def test_what_is_wanted_is_there_or_told(world: tuple[Json, Wish, Record]) -> None:
    """Each wanted entry is in force, or waits, or a conflict on its port is reported."""
    current, wish, record = world
    end, record, _ = settle(current, wish, record)
    told = {endpoint(conflict.path) for conflict in step(end, wish, record).conflicts}
    for path, value in wish.entries.items():
        waits = path in wish.kept or (is_port(path) and serves(value) and idle(path, wish, end))
        assert entries(end).get(path) == value or waits or endpoint(path) in told


def idle(path: tuple[str, ...], wish: Wish, end: Json) -> bool:
    """Return whether a port has none of the wanted pages."""
    pages = [each for each in wish.entries if host_port(each) and endpoint(each) == endpoint(path)]
    return not any(entries(end).get(each) == wish.entries[each] for each in pages)


@given(worlds())
def test_nothing_is_put_behind_an_open_funnel(world: tuple[Json, Wish, Record]) -> None:
    """Any page that the whole internet would reach was there before."""
    current, wish, record = world
    end, _, _ = settle(current, wish, record)
    for path, value in entries(end).items():
        if host_port(path) in funnels(current):
            assert entries(current).get(path) == value


@given(worlds())
def test_what_is_no_longer_wanted_goes(world: tuple[Json, Wish, Record]) -> None:
    """Our entries that remain are those wanted, and ports that pages of others need."""
    current, wish, record = world
    end, record, _ = settle(current, wish, record)
    foreign = [path for path, value in entries(end).items() if value not in record.get(path, ())]
    for path in record:
        needed = is_port(path) and any(host_port(each) and endpoint(each) == endpoint(path) for each in foreign)
        assert needed or entries(end)[path] == wish.entries.get(path)
