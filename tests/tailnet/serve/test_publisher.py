"""The app is published in a real tailnet by a real tailscaled, and entries of others are untouched."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from supervisor.core.snapshot import ServeView
from supervisor.runtime import loop_latency
from supervisor.tailnet.localapi import LocalApi, UnreachableError
from supervisor.tailnet.serve.publisher import NAME as RECORD
from supervisor.tailnet.state_file import StateFile
from supervisor.tailnet.wire import Status
from tests.logs.rig import until
from tests.support.control import controlling
from tests.support.peer import bare
from tests.support.waiting import wait_until
from tests.tailnet.serve.building import config_of
from tests.tailnet.serve.publishing import NAME, Counted, Stage, app, as_nobody, look, look_until, said, stage, visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.tailnet.wire import Json

FORWARD = {"TCP": {"80": {"TCPForward": "127.0.0.1:22"}}}


@pytest.fixture(name="here")
def on_stage() -> Iterator[Stage]:
    """Provide a node that is connected, and an app."""
    with stage() as found:
        yield found


async def test_a_peer_reaches_the_app(here: Stage) -> None:
    """It does so only under the device's name; what is in force is shown and logged."""
    serve = here.serve()
    view = await look(serve, here.node)
    assert view == ServeView("serve", (f"http://{NAME}/",), "", view.config, external_url="")
    assert json.loads(view.config) == here.config() == here.http()
    assert said(serve) == [f"serve: published {{'urls': 'http://{NAME}/'}}"]
    assert serve.notes == ()
    with visitor(here) as peer:
        assert peer.fetch(here.node.ip, 80, host_header=NAME).body == b"app"
        assert peer.fetch(here.node.ip, 80, host_header="localhost").status == 404
        assert not peer.connects(here.node.ip, here.port)


async def test_the_panel_is_reached_through_a_sidecar(here: Stage) -> None:
    """It has its own port next to the app's, if the sidecar has its own network; it is removed if not wanted."""
    with app(b"panel") as port:
        target = f"http://127.0.0.2:{port}"
        serve = here.serve(SUPERVISOR_TAILSCALE="attach", SUPERVISOR_SERVE="http", SUPERVISOR_SERVE_PANEL=target)
        view = await look(serve, here.node)
        assert view.urls == (f"http://{NAME}/", f"http://{NAME}:{port}/")
        with visitor(here) as peer:
            assert peer.fetch(here.node.ip, 80, host_header=NAME).body == b"app"
            assert peer.fetch(here.node.ip, port, host_header=f"{NAME}:{port}").body == b"panel"
        await look(here.serve(SUPERVISOR_TAILSCALE="attach", SUPERVISOR_SERVE="http"), here.node)
        assert here.config() == here.http()


async def test_nothing_is_asked_while_nothing_changes(here: Stage) -> None:
    """One read and one write at the start, and later an occasional read for changes by others."""
    serve = here.serve(look_every_s=60.0)
    api = Counted(here.node.path)
    status = await api.status()
    for _ in range(50):
        await serve.reconcile(api, status)
    assert (api.looks, api.writes) == (2, 1)
    serve.forget()
    await serve.reconcile(api, status)
    assert (api.looks, api.writes) == (3, 1)


async def test_it_comes_back_when_it_is_gone(here: Stage) -> None:
    """It may be gone after a restart of tailscaled with an empty state, or after a reset by someone."""
    serve = here.serve()
    await look(serve, here.node)
    here.put({})
    assert (await look(serve, here.node)).mode == "serve"
    assert here.config() == here.http()


async def test_it_outlives_restarts(tmp_path: Path) -> None:
    """tailscaled keeps it, and the next supervisor recognises it as its own and changes it if the app has moved."""
    with controlling() as control, app() as port:
        with bare(folder=tmp_path) as node:
            node.log_in(control.url)
            node.wait_state("Running")
            await look(Stage(control, node, port).serve(), node)
        with bare(folder=tmp_path) as node:
            node.wait_state("Running")
            here = Stage(control, node, port)
            api = Counted(node.path)
            await here.serve().reconcile(api, await api.status())
            assert (api.looks, api.writes) == (1, 0)
            moved = here._replace(port=port + 1)
            await look(moved.serve(), node)
            assert here.config() == moved.http()
            assert recorded(here) == moved.http()


async def test_it_follows_the_devices_name(here: Stage) -> None:
    """It is rewritten, and the old name is removed."""
    serve = here.serve()
    await look(serve, here.node)
    here.node.set_prefs(Hostname="renamed")
    other = "renamed.tail.example"
    await look_until(serve, here.node, lambda view: view.urls == (f"http://{other}/",))
    assert here.config() == here.http(other)


async def test_a_new_login_begins_with_nothing(here: Stage) -> None:
    """tailscaled drops its serve configuration with the login; ours is restored, whatever the record says."""
    here.put(FORWARD)
    serve = here.serve()
    assert (await look(serve, here.node)).mode == "off"
    here.node.log_out()
    here.node.log_in(here.control.url)
    here.node.wait_state("Running")
    serve.forget()
    view = await look_until(serve, here.node, lambda view: view.mode == "serve")
    name = here.node.status()["Self"]["DNSName"].removesuffix(".")
    assert view.urls == (f"http://{name}/",)
    assert here.config() == here.http(name)


async def test_a_device_without_a_name_waits(here: Stage) -> None:
    """Nothing is written before there is a name."""
    serve = here.serve()
    api = Counted(here.node.path)
    view = await serve.reconcile(api, Status(backend_state="Running"))
    assert (view.mode, api.writes) == ("off", 0)
    assert "no name" in view.why


async def test_what_is_in_the_way_is_named_and_left(here: Stage) -> None:
    """It stays until its owner removes it."""
    here.put(FORWARD)
    serve = here.serve()
    view = await look(serve, here.node)
    assert (view.mode, view.urls) == ("off", ())
    assert "a TCP forward to 127.0.0.1:22; remove it with `tailscale serve --tcp=80 off`" in view.why
    assert here.config() == FORWARD
    assert await look(serve, here.node) == view
    here.put({})
    assert (await look(serve, here.node)).why == ""
    assert here.config() == here.http()


async def test_what_is_invisible_in_a_foreign_entry_is_shown_and_left(here: Stage) -> None:
    """People read what is in the way, and what is in force; the configuration itself is written back as it was."""
    foreign = here.http()
    foreign["Web"][f"{NAME}:80"]["Handlers"] = {"/": {"Text": "bad\u202e"}, "/bad\u3164": {"Text": "x"}}
    here.put(foreign)
    view = await look(here.serve(), here.node)
    assert view.why
    assert view.why.isprintable()
    shown = json.dumps(json.loads(view.config), ensure_ascii=False)
    assert shown.count("bad\\\\u") == 2
    assert not {"\u202e", "\u3164"} & {*view.why, *shown}
    assert here.config() == foreign


async def test_off_removes_what_is_ours_alone(here: Stage) -> None:
    """A page that someone added next to it stays, and so does the port that this page needs."""
    await look(here.serve(), here.node)
    both = here.http()
    both["Web"][f"{NAME}:80"]["Handlers"]["/notes"] = {"Text": "somebody's"}
    both["TCP"]["22"] = {"TCPForward": "127.0.0.1:22"}
    here.put(both)
    assert "80/notes is not ours" in (await look(here.serve(), here.node)).why
    serve = here.serve(SUPERVISOR_SERVE="off")
    view = await look(serve, here.node)
    assert (view.mode, view.urls, view.why) == ("off", (), "")
    del both["Web"][f"{NAME}:80"]["Handlers"]["/"]
    assert here.config() == both
    assert recorded(here) == {"TCP": here.http()["TCP"]}


def recorded(here: Stage) -> Json:
    """Return our entries according to the record in the state folder."""
    loop_latency.join_background(20)
    kept = json.loads((here.node.folder / "state" / RECORD).read_text())
    return config_of({tuple(entry["path"]): entry["value"] for entry in kept["entries"]})


async def test_an_owner_who_serves_the_app_by_hand_keeps_that(here: Stage) -> None:
    """The same entry, written by someone else, is not removed."""
    here.put(here.http())
    assert (await look(here.serve(), here.node)).mode == "serve"
    await look(here.serve(SUPERVISOR_SERVE="off"), here.node)
    assert here.config() == here.http()


async def test_what_was_written_in_the_last_moment_is_ours(here: Stage) -> None:
    """A supervisor that ends before tailscaled's response has recorded what it wrote."""

    class Cut(Counted):
        async def put_serve_config(self, config: Json, etag: str) -> None:
            """Lose the answer."""
            await super().put_serve_config(config, etag)
            raise UnreachableError("the connection to tailscaled broke")

    api = Cut(here.node.path)
    await here.serve().reconcile(api, await api.status())
    assert here.config() == here.http()
    await look(here.serve(SUPERVISOR_SERVE="off"), here.node)
    assert here.config() == {}


async def test_somebody_who_writes_at_the_same_time_loses_nothing(here: Stage) -> None:
    """What was read is then stale, and is read again."""
    serve = here.serve()
    api = Counted(here.node.path)
    api.before_write = lambda: here.put({"TCP": {"22": {"TCPForward": "127.0.0.1:22"}}})
    view = await serve.reconcile(api, await api.status())
    assert api.writes == 2
    assert view.mode == "serve"
    assert here.config()["TCP"] == {"22": {"TCPForward": "127.0.0.1:22"}, "80": {"HTTP": True}}


async def test_somebody_who_never_stops_is_told_of(here: Stage) -> None:
    """A few attempts, then a message, then increasing pauses."""
    serve = here.serve(look_every_s=60.0)
    api = Counted(here.node.path)
    api.before_write = lambda: here.put({"TCP": {str(api.writes): {"TCPForward": "127.0.0.1:22"}}})
    for _ in range(20):
        view = await serve.reconcile(api, await api.status())
    assert api.writes == 6
    assert "something else changes it again and again" in view.why


async def test_a_funnel_is_not_ours_to_open(here: Stage) -> None:
    """Nothing is put behind an open one; one that is opened later is reported, and nobody is cut off."""
    funnel = {"AllowFunnel": {f"{NAME}:80": True}}
    here.put(funnel)
    serve = here.serve()
    view = await look(serve, here.node)
    assert (view.mode, here.config()) == ("off", funnel)
    assert "the whole internet would reach it" in view.why
    here.put({})
    assert (await look(serve, here.node)).why == ""
    here.put(here.http() | funnel)
    view = await look(serve, here.node)
    assert view.mode == "serve"
    assert f"the whole internet reaches {NAME}:80" in view.why
    assert here.config() == here.http() | funnel
    # The command that we suggest removes the page too; it is put back.
    here.put({})
    assert (await look(serve, here.node)).why == ""
    assert here.config() == here.http()


async def test_a_state_disk_that_hangs_changes_nothing(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was published before is unknown; once the disk answers, the app is published."""
    go_on, read, calls = threading.Event(), StateFile.read, 0

    def hang(file: StateFile) -> bytes | None:
        nonlocal calls
        calls += 1
        go_on.wait(60)
        return read(file)

    monkeypatch.setattr(StateFile, "read", hang)
    monkeypatch.setattr(loop_latency, "READ_S", 0.1)
    serve = here.serve()
    try:
        for _ in range(3):
            view = await look(serve, here.node)
            assert "the disk of the state folder (TS_STATE_DIR) does not answer" in view.why
        # It may begin after it was given up.
        await until(lambda: calls)
        assert (calls, here.config()) == (1, {})
    finally:
        go_on.set()
    monkeypatch.setattr(loop_latency, "READ_S", 30.0)
    view = await look_until(serve, here.node, lambda view: view.urls)
    assert (view.why, here.config()) == ("", here.http())


async def test_a_tailscaled_that_went_away(here: Stage) -> None:
    """The last known view stays; the link reports the rest."""
    serve = here.serve()
    before = await look(serve, here.node)
    api = LocalApi(here.node.path, str)
    status = await api.status()
    here.node.stop()
    assert await serve.reconcile(api, status) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")
async def test_a_supervisor_that_may_not_write_says_so_once(here: Stage) -> None:
    """Next to a sidecar: no attempt after the first one until something changes, and no record on disk."""
    here.node.folder.chmod(0o755)
    serve = here.serve()
    api = Counted(here.node.path)
    with as_nobody():
        for _ in range(5):
            view = await serve.reconcile(api, await api.status())
    assert (api.writes, view.mode) == (1, "off")
    assert "403" in view.why
    assert "run the supervisor as root, or as tailscaled's user" in view.why
    assert "the folder cannot be opened: Permission denied" in serve.notes[0]
    here.put({"TCP": {"22": {"TCPForward": "127.0.0.1:22"}}})
    with as_nobody():
        for _ in range(5):
            await serve.reconcile(api, await api.status())
    assert api.writes == 2
    assert not (here.node.folder / "state" / RECORD).exists()


async def test_plain_http_takes_no_certificate() -> None:
    """tailscaled would fetch one by itself, unless it is told not to."""
    with stage(TS_CERT_SHARE_MODE="ro") as here:
        here.issue_certificates()
        await look(here.serve(SUPERVISOR_SERVE="http"), here.node)
        assert here.config() == here.http()
        wait_until(lambda: "loop is a no-op" in here.node.log.read_text(), what="the refresher's word")
        assert "getCertPEM" not in here.node.log.read_text()
