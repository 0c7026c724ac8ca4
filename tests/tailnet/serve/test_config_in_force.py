"""TS_SERVE_CONFIG applied by a real tailscaled, and followed when it changes."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.runtime import loop_latency
from supervisor.tailnet.localapi import ForbiddenError, LocalApi, UnreachableError
from supervisor.tailnet.serve.desired import Found, ServeFile
from tests.tailnet.serve.publishing import NAME, Counted, Stage, app, as_nobody, look, look_until, stage, visitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from supervisor.core.snapshot import ServeView
    from supervisor.tailnet.serve.publisher import Serve
    from supervisor.tailnet.wire import Json


@pytest.fixture(name="here")
def on_stage() -> Iterator[Stage]:
    """Provide a node that is connected, and an app."""
    with stage() as found:
        yield found


@pytest.fixture(name="file")
def config_file(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "serve.json"


def serving(here: Stage, file: Path, config: Json | str) -> Serve:
    """Write the file, and return its publisher."""
    write(file, config)
    return here.serve(TS_SERVE_CONFIG=str(file))


def write(file: Path, config: Json | str) -> None:
    """Change the file."""
    file.write_text(config if isinstance(config, str) else json.dumps(config))


def page(here: Stage, port: int, name: str = "${TS_CERT_DOMAIN}") -> Json:
    """Return a configuration that connects a port to the app, as a compose file contains it."""
    return {"TCP": {str(port): {"HTTP": True}}, "Web": {f"{name}:{port}": {"Handlers": {"/": {"Proxy": here.app}}}}}


async def test_it_replaces_ours(here: Stage, file: Path) -> None:
    """What was published before is removed, the content is published, and a peer reaches it."""
    await look(here.serve(), here.node)
    view = await look(serving(here, file, page(here, 8080)), here.node)
    assert view.urls == (f"http://{NAME}:8080/",)
    assert here.config() == page(here, 8080, NAME)
    with visitor(here) as peer:
        assert peer.fetch(here.node.ip, 8080, host_header=f"{NAME}:8080").body == b"app"
    await look(here.serve(), here.node)
    assert here.config() == here.http()


async def test_a_change_is_put_in_force(here: Stage, file: Path) -> None:
    """It is applied at the next look, even if it changes the kind of a port, which takes tailscaled two steps."""
    serve = serving(here, file, page(here, 80))
    await look(serve, here.node)
    api = Counted(here.node.path)
    await serve.reconcile(api, await api.status())
    assert api.writes == 0
    forward = {"TCP": {"80": {"TCPForward": f"127.0.0.2:{here.port}"}}}
    write(file, forward)
    view = await serve.reconcile(api, await api.status())
    assert (here.config(), view.mode, view.urls, api.writes) == (forward, "serve", (), 2)


async def test_https_that_is_added_later_is_told_what_it_takes(here: Stage, file: Path) -> None:
    """Where certificates are not kept, tailscaled is started without the right to fetch any if none is asked for."""
    here.issue_certificates()
    secure = {"TCP": {"443": {"HTTPS": True}}, "Web": page(here, 443)["Web"]}
    serve = serving(here, file, page(here, 80))
    view = await look(serve, here.node)
    assert (view.mode, view.why, serve.notes) == ("serve", "", ())
    write(file, secure)
    view = await look(serve, here.node)
    assert "may fetch none" in view.why
    assert "restart the supervisor" in view.why
    assert "each new container takes a certificate" in serve.notes[0]
    again = serving(here, file, secure)
    assert (await look(again, here.node)).why == ""
    assert "each new container takes a certificate" in again.notes[0]
    kept = here.serve(lasting=True, TS_SERVE_CONFIG=str(file))
    assert (await look(kept, here.node)).why == ""
    assert kept.notes == ()


async def test_a_broken_change_is_told_and_kept_out(here: Stage, file: Path) -> None:
    """The valid content stays in force until the file is fixed."""
    serve = serving(here, file, page(here, 80))
    await look(serve, here.node)
    write(file, '{\n "TCP": {,}}')
    view = await look(serve, here.node)
    assert "line 2, column 10" in view.why
    assert view.urls == (f"http://{NAME}/",)
    # The next supervisor does not know the valid content, and leaves the configuration unchanged.
    again = await look(here.serve(TS_SERVE_CONFIG=str(file)), here.node)
    assert (again.mode, again.urls, again.why) == (view.mode, view.urls, view.why)
    assert here.config() == page(here, 80, NAME)
    write(file, "{}")
    view = await look(serve, here.node)
    assert (view.mode, view.why, here.config()) == ("off", "", {})


async def test_a_file_that_hangs_holds_nothing_up(here: Stage, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an unreachable network disk: it is reported, what was published stays, and the change is applied later."""
    serve = serving(here, file, page(here, 8080))
    await look(serve, here.node)
    goes_on, read = threading.Event(), ServeFile.look

    def hang(found: ServeFile, domain: str) -> Found:
        assert goes_on.wait(60)
        return read(found, domain)

    monkeypatch.setattr(ServeFile, "look", hang)
    monkeypatch.setattr(loop_latency, "READ_S", 0.05)
    write(file, page(here, 8081))
    for _ in range(2):
        view = await asyncio.wait_for(look(serve, here.node), 20)
        assert f"cannot use TS_SERVE_CONFIG {file}: it takes too long" in view.why
        assert here.config() == page(here, 8080, NAME)
    goes_on.set()
    monkeypatch.setattr(loop_latency, "READ_S", 30.0)
    await look_until(serve, here.node, lambda view: not view.why)
    assert here.config() == page(here, 8081, NAME)


async def test_funnel_and_what_is_not_known_are_left_out(here: Stage, file: Path) -> None:
    """The rest is published, and what is missing is reported."""
    view = await look(
        serving(here, file, page(here, 80) | {"AllowFunnel": {f"{NAME}:443": True}, "tcp": {"22": {}}}), here.node
    )
    assert here.config() == page(here, 80, NAME)
    assert "AllowFunnel in TS_SERVE_CONFIG is left out" in view.why
    assert "contains tcp, which" in view.why


async def test_https_without_certificates(here: Stage, file: Path) -> None:
    """It is left out until the tailnet issues them."""
    secure = {"TCP": {"443": {"HTTPS": True}}, "Web": {f"{NAME}:443": {"Handlers": {"/": {"Proxy": here.app}}}}}
    serve = serving(here, file, secure)
    view = await look(serve, here.node)
    assert (view.mode, here.config()) == ("off", {})
    assert "the tailnet issues no certificates" in view.why
    here.control.order("certs", on=1)
    view = await look_until(serve, here.node, lambda view: not view.why)
    assert here.config() == secure
    assert view.urls == (f"https://{NAME}/",)


async def test_files_and_sockets_are_served_for_root(here: Stage, file: Path, tmp_path: Path) -> None:
    """They need root or an operator, and this supervisor is root."""
    config = page(here, 80)
    handlers = config["Web"]["${TS_CERT_DOMAIN}:80"]["Handlers"]
    handlers["/files/"] = {"Path": f"{tmp_path}/"}
    handlers["/sock"] = {"Proxy": f"unix:{tmp_path}/app.sock"}
    assert (await look(serving(here, file, config), here.node)).why == ""
    assert set(here.config()["Web"][f"{NAME}:80"]["Handlers"]) == {"/", "/files/", "/sock"}


async def test_what_takes_root_is_said_once_where_there_is_none(here: Stage, file: Path) -> None:
    """It is not retried forever, but once more when the file has changed."""

    class Refusing(Counted):
        async def put_serve_config(self, config: Json, etag: str) -> None:
            """Answer like tailscaled to a user who is not root."""
            del config, etag
            self.writes += 1
            raise ForbiddenError("tailscaled refused POST serve-config (401): must be root, or be an operator")

    config = page(here, 80)
    config["Web"]["${TS_CERT_DOMAIN}:80"]["Handlers"]["/"] = {"Proxy": "unix:/run/app.sock"}
    serve = serving(here, file, config)
    api = Refusing(here.node.path)
    for _ in range(5):
        view = await serve.reconcile(api, await api.status())
    assert api.writes == 1
    assert "unix sockets as targets require root" in view.why
    write(file, page(here, 81))
    await serve.reconcile(api, await api.status())
    assert api.writes == 2
    serve.forget()
    await serve.reconcile(api, await api.status())
    assert api.writes == 3
    await look(here.serve(SUPERVISOR_SERVE="off"), here.node)
    assert here.config() == {}


async def test_services_are_told_to_the_tailnet(here: Stage, file: Path) -> None:
    """They are advertised while they are published; one that someone else advertises stays."""
    here.node.set_prefs(AdvertiseServices=["svc:theirs"])
    service = {"Services": {"svc:ours": {"TCP": {"80": {"TCPForward": f"127.0.0.2:{here.port}"}}}}}
    assert (await look(serving(here, file, service), here.node)).why == ""
    assert here.config() == service
    assert here.node.ask("GET", "prefs")["AdvertiseServices"] == ["svc:ours", "svc:theirs"]
    await look(serving(here, file, {}), here.node)
    assert here.config() == {}
    assert here.node.ask("GET", "prefs")["AdvertiseServices"] == ["svc:theirs"]


async def withdraw(here: Stage, file: Path, api: LocalApi) -> tuple[Serve, ServeView]:
    """Publish a service, and withdraw it through this client; return the publisher and its view."""
    service = {"Services": {"svc:ours": {"TCP": {"80": {"TCPForward": f"127.0.0.2:{here.port}"}}}}}
    serve = serving(here, file, service)
    await look(serve, here.node)
    write(file, {})
    view = await serve.reconcile(api, await api.status())
    assert here.config() == {}
    return serve, view


class Away(LocalApi):
    """A LocalAPI client that cannot reach tailscaled when it reads the preferences."""

    async def prefs(self) -> Json:
        """Fail, as while tailscaled restarts."""
        raise UnreachableError("cannot reach tailscaled")


async def test_a_service_is_taken_back_once_tailscaled_can_be_told(here: Stage, file: Path) -> None:
    """Otherwise the tailnet would permanently direct its clients to a device that no longer serves it."""
    serve, _ = await withdraw(here, file, Away(here.node.path, str))
    # As after a restart of tailscaled.
    serve.forget()
    await look(serve, here.node)
    assert not here.node.ask("GET", "prefs")["AdvertiseServices"]


class Denied(LocalApi):
    """A LocalAPI client that may not change tailscaled's preferences."""

    async def change_prefs(self, changes: Mapping[str, Any]) -> None:
        """Be refused."""
        del changes
        raise ForbiddenError("access denied")


async def test_a_service_is_taken_back_once_that_is_allowed(here: Stage, file: Path) -> None:
    """After a refusal it is still ours."""
    _, view = await withdraw(here, file, Denied(here.node.path, str))
    assert "access denied" in view.why
    # As after a restart.
    await look(serving(here, file, {}), here.node)
    assert not here.node.ask("GET", "prefs")["AdvertiseServices"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")
async def test_services_that_may_not_be_told_are_tried_once(here: Stage) -> None:
    """This is reported, and not retried until something changes."""
    here.node.folder.chmod(0o755)
    service = {"Services": {"svc:ours": {"TCP": {"80": {"TCPForward": f"127.0.0.2:{here.port}"}}}}}
    serve = serving(here, here.node.folder / "serve.json", service)
    assert (await look(serve, here.node)).why == ""
    here.node.set_prefs(AdvertiseServices=[])
    serve.forget()
    api = Counted(here.node.path)
    with as_nobody():
        for _ in range(5):
            view = await serve.reconcile(api, await api.status())
    assert "403" in view.why
    assert api.changes == 1


async def test_somebody_elses_entries_stay(here: Stage, file: Path) -> None:
    """The official image, in contrast, empties the configuration at its start."""
    here.put({"TCP": {"22": {"TCPForward": "127.0.0.1:22"}}})
    await look(serving(here, file, page(here, 80)), here.node)
    assert here.config()["TCP"] == {"22": {"TCPForward": "127.0.0.1:22"}, "80": {"HTTP": True}}


async def test_no_name_no_domain(here: Stage, file: Path) -> None:
    """A device without a name gets no incomplete configuration."""
    serve = serving(here, file, page(here, 80))
    api = LocalApi(here.node.path, str)
    status = await api.status()
    assert status.node is not None
    status.node.dns_name = ""
    assert "no name" in (await serve.reconcile(api, status)).why
    assert here.config() == {}
    with app() as port:
        await look(serving(here._replace(port=port), file, page(here._replace(port=port), 80)), here.node)
    assert here.config()["Web"][f"{NAME}:80"]["Handlers"]["/"] == {"Proxy": f"http://127.0.0.2:{port}"}
