"""The tailnet in REST and in RPC: how it is described, and orders for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from supervisor.core.backup import BackupState, BackupView
from supervisor.core.orders import Connect, Disconnect, OrderView
from supervisor.core.snapshot import ListenerView, PeerView, ServeView, TailnetView
from supervisor.secret import Secret
from tests.web.serving import BEARER, JSON, Served, serving

if TYPE_CHECKING:
    from supervisor.core.orders import TailnetOrder

AT_S = 1_790_000_000.0
MOMENT = "2026-09-21T14:13:20.000Z"
URL = "https://login.example.com/a/0123456789abcdef"
FULL = TailnetView(
    "embedded",
    "connected",
    AT_S,
    up=True,
    last_error="the key had expired",
    hostname="moltis.tail.example",
    addresses=("100.64.0.1", "fd7a::1"),
    tailnet="tail.example",
    version="1.102.5",
    login_name="owner@example.com",
    tags=("tag:moltis",),
    routes=("10.0.0.0/8",),
    key_expiry="2027-01-01T00:00:00Z",
    health=("a sentence",),
    peers=(PeerView("laptop", "100.64.0.2", True, "192.0.2.1:41641", "fra"), PeerView("phone", last_seen="2026")),
    warnings=("a warning",),
    notes=("a note",),
    before_disconnect="it would log in again",
    serve=ServeView("serve", ("https://moltis.tail.example",), "", '{"Web":{}}'),
    orders=(OrderView("a1", "connect with a key", AT_S, "failed", "expired", 1), OrderView("a2", "connect", AT_S)),
)
OFF = {"SUPERVISOR_TAILSCALE": "off"}


def orders_of(served: Served) -> list[TailnetOrder]:
    """Return a list to which further orders are added."""
    orders: list[TailnetOrder] = []
    served.channels.tailnet.set_handler(orders.append)
    return orders


def unnamed(orders: list[TailnetOrder]) -> list[TailnetOrder]:
    """Return the orders without their ids."""
    return [order._replace(id="") for order in orders]


async def rpc(served: Served, method: str, params: object = None, **more: object) -> Any:
    """Call a method and return the response frame."""
    frame = {"method": method, **({} if params is None else {"params": params}), **more}
    answer = await served.post("/api/rpc", frame)
    assert answer.status == 200
    assert answer.json["type"] == "res"
    return answer.json


async def test_all_that_is_known() -> None:
    """Moltis' own nine fields come first, then ours."""
    exposed = (ListenerView("0.0.0.0", 18791, "moltis", 12), ListenerView("127.0.0.1", 53, ""))
    async with serving(tailnet=FULL, exposed=exposed) as served:
        told = (await served.get("/api/tailscale/status")).json
        assert list(told.items())[:9] == [
            ("mode", "serve"),
            ("hostname", "moltis.tail.example"),
            ("url", "https://moltis.tail.example"),
            ("tailscale_up", True),
            ("installed", True),
            ("tailnet", "tail.example"),
            ("version", "1.102.5"),
            ("login_name", "owner@example.com"),
            ("tailscale_ip", "100.64.0.1"),
        ]
        assert (told["state"], told["since"], told["last_error"]) == ("connected", MOMENT, "the key had expired")
        assert told["serve"] == {
            "urls": ["https://moltis.tail.example"],
            "why": None,
            "unpublished": None,
            "config": {"Web": {}},
        }
        assert told["exposed"] == [
            {"host": "0.0.0.0", "port": 18791, "process": "moltis", "pid": 12},
            {"host": "127.0.0.1", "port": 53, "process": None, "pid": None},
        ]
        assert told["peers"][1] == {
            "name": "phone",
            "address": None,
            "online": False,
            "direct": None,
            "relay": None,
            "last_seen": "2026",
            "tags": [],
        }
        assert told["orders"] == [
            {"id": "a1", "kind": "connect with a key", "at": MOMENT, "state": "failed", "why": "expired"},
            {"id": "a2", "kind": "connect", "at": MOMENT, "state": "under way", "why": None},
        ]
        assert (await rpc(served, "tailscale.status"))["payload"] == told


async def test_nothing_is_null() -> None:
    """Fields that may be null in Moltis are null here too, never an empty text."""
    async with serving(environ=OFF) as served:
        told = (await served.get("/api/tailscale/status")).json
        assert (told["mode"], told["tailscale_up"], told["installed"]) == ("off", False, False)
        assert not [name for name, value in told.items() if value == ""]
        names = ("hostname", "url", "tailnet", "version", "login_name", "tailscale_ip", "since", "why", "key_expiry")
        assert {told[name] for name in names} == {None}


async def test_a_broken_serve_config_is_null() -> None:
    """It comes from outside, and must not break the response."""
    view = FULL._replace(serve=ServeView("off", (), "invalid JSON", "{"))
    async with serving(tailnet=view) as served:
        serve = (await served.get("/api/tailscale/status")).json["serve"]
        assert serve == {"urls": [], "why": "invalid JSON", "unpublished": "invalid JSON", "config": None}


@pytest.mark.parametrize(
    ("environ", "view", "says"),
    [
        ({"SUPERVISOR_SERVE": "off"}, FULL, "SUPERVISOR_SERVE is off; set it to auto and restart the container"),
        ({"SUPERVISOR_TAILSCALE": "attach", "TS_SOCKET": "/run/sidecar.sock"}, FULL, "SUPERVISOR_SERVE is off"),
        ({"SUPERVISOR_APP": "off"}, FULL, "no app runs here; set SUPERVISOR_APP_PORT to the port"),
        (
            {},
            FULL._replace(state="key refused", up=False),
            "the device is not in its tailnet (key refused); connect it",
        ),
        ({}, FULL, "it is being published; wait a few seconds"),
    ],
)
async def test_why_an_app_is_not_published(environ: dict[str, str], view: TailnetView, says: str) -> None:
    """The reason, and what to do about it, depend on the obstacle."""
    async with serving(environ=environ, tailnet=view._replace(serve=ServeView())) as served:
        serve = (await served.get("/api/tailscale/status")).json["serve"]
        assert serve["unpublished"].startswith(says)


async def test_connect_without_a_key() -> None:
    """It is an order, whose result is not waited for; an empty body counts as an empty object."""
    async with serving() as served:
        orders = orders_of(served)
        for body in (None, {}, {"auth_key": None}):
            answer = await served.post("/api/tailscale/connect", body)
            assert answer.status == 202
            assert answer.json == {"ok": True, "order": orders[-1].id}
        assert (await rpc(served, "tailscale.connect"))["payload"] == {"ok": True, "order": orders[-1].id}
        assert unnamed(orders) == [Connect()] * 4
        assert len({order.id for order in orders}) == 4


async def test_connect_with_a_key() -> None:
    """It is treated as a secret at once: no log contains it, not even in a later line."""
    async with serving() as served:
        orders = orders_of(served)
        key = "my-very-own-key-0123456789"
        assert (await served.post("/api/tailscale/connect", {"auth_key": f" {key}\n"})).status == 202
        assert (await rpc(served, "tailscale.connect", {"auth_key": key}))["ok"]
        assert all(isinstance(order, Connect) and isinstance(order.auth_key, Secret) for order in orders)
        assert [order.auth_key.reveal() for order in orders if isinstance(order, Connect) and order.auth_key] == [
            key,
            key,
        ]
        served.log.record("info", f"somebody said {key}")
        assert not [text for text in served.remembered() if key in text]
        assert key not in served.logged()


@pytest.mark.parametrize(
    "key", ["", "  ", "tskey auth", "tskey\nauth", "tskey\tauth", "tskey\0auth", "tskey-\x1b[1m", "k" * 4097]
)
async def test_what_is_no_key(key: str) -> None:
    """It is refused with a reason, which does not repeat it."""
    async with serving() as served:
        orders = orders_of(served)
        answer = await served.post("/api/tailscale/connect", {"auth_key": key})
        assert answer.refusal == (400, "INVALID_AUTH_KEY")
        assert not key.strip() or key not in answer.json["error"]
        frame = await rpc(served, "tailscale.connect", {"auth_key": key})
        assert frame["error"]["code"] == "INVALID_REQUEST"
        assert frame["error"]["details"] == {"code": "INVALID_AUTH_KEY"}
        assert not orders


async def test_what_is_no_key_is_not_looked_for() -> None:
    """A page pasted by mistake masks no later line, and does not make the log search for thousands of texts."""
    async with serving() as served:
        page = "\n".join(f"connected to {number}" for number in range(200))
        assert (await served.post("/api/tailscale/connect", {"auth_key": page})).status == 400
        served.log.record("info", "connected to 7")
        assert served.remembered() == ["connected to 7"]


async def test_disconnect_and_forget() -> None:
    """They are two orders of one kind."""
    async with serving() as served:
        orders = orders_of(served)
        assert (await served.post("/api/tailscale/disconnect")).status == 202
        assert (await served.post("/api/tailscale/disconnect", {"forget": True})).status == 202
        assert (await rpc(served, "tailscale.disconnect", {"forget": True}))["ok"]
        assert unnamed(orders) == [Disconnect(), Disconnect(forget=True), Disconnect(forget=True)]


async def test_a_disconnect_that_wants_a_word_first() -> None:
    """The first response says what would happen; the order must be repeated with a confirmation."""
    async with serving(tailnet=FULL) as served:
        orders = orders_of(served)
        for body in (None, {"forget": True}, {"confirm": False}):
            answer = await served.post("/api/tailscale/disconnect", body)
            assert answer.refusal == (409, "CONFIRMATION_NEEDED")
            assert answer.json["error"] == "it would log in again"
        assert (await rpc(served, "tailscale.disconnect"))["error"] == {
            "code": "CONFLICT",
            "message": "it would log in again",
            "details": {"code": "CONFIRMATION_NEEDED"},
        }
        assert not orders
        assert (await served.post("/api/tailscale/disconnect", {"confirm": True})).status == 202
        assert unnamed(orders) == [Disconnect()]


async def test_orders_wait_until_someone_attends() -> None:
    """The tailnet service may still be starting: no order is lost, and they keep their sequence."""
    async with serving() as served:
        ids = [(await served.post(f"/api/tailscale/{verb}")).json["order"] for verb in ("connect", "disconnect")]
        orders = orders_of(served)
        assert unnamed(orders) == [Connect(), Disconnect()]
        assert [order.id for order in orders] == ids


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
async def test_no_orders_where_there_is_no_tailnet_or_no_more(verb: str) -> None:
    """The tailnet may be off or the supervisor stopping: the error says which, and in RPC whether to retry."""
    async with serving(environ=OFF) as served:
        orders = orders_of(served)
        assert (await served.post(f"/api/tailscale/{verb}")).refusal == (409, "TAILSCALE_OFF")
        error = (await rpc(served, f"tailscale.{verb}"))["error"]
        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", False)
        assert not orders
    async with serving() as served:
        orders = orders_of(served)
        served.store.update_stopping("SIGTERM received")
        assert (await served.post(f"/api/tailscale/{verb}")).refusal == (409, "STOPPING")
        error = (await rpc(served, f"tailscale.{verb}"))["error"]
        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
        assert not orders


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
async def test_no_orders_where_another_instance_has_taken_over(verb: str) -> None:
    """They were accepted, and stayed under way: nothing is started here any more. Nor is anybody asked to confirm."""
    async with serving(tailnet=FULL) as served:
        orders = orders_of(served)
        view = BackupView(BackupState.REPLACED, holds=True, why="another instance has taken over", what_to_do="end one")
        served.store.update_backup(view)
        refused = await served.post(f"/api/tailscale/{verb}")
        assert refused.refusal == (409, "TAILSCALE_OFF")
        assert refused.json["error"] == "another instance has taken over; end one"
        error = (await rpc(served, f"tailscale.{verb}"))["error"]
        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", False)
        assert not orders


async def test_a_login_url() -> None:
    """It comes with a QR code for a page, and the time since when it is pending."""
    async with serving(tailnet=TailnetView("embedded", "needs login", auth_url=Secret(URL), auth_url_since_s=AT_S)) as (
        served
    ):
        orders = orders_of(served)
        status = (await served.get("/api/tailscale/status")).json
        assert status["auth_url_pending"] is True
        assert URL not in str(status)
        answer = (await served.get("/api/tailscale/auth-url")).json
        assert (answer["auth_url"], answer["since"]) == (URL, MOMENT)
        svg = ET.fromstring(answer["qr_svg"])  # noqa: S314 - our own
        assert svg.tag.endswith("svg")
        assert (await rpc(served, "tailscale.auth_url"))["payload"] == answer
        assert not orders


async def test_no_login_url_where_there_is_no_tailnet() -> None:
    """Connecting would be refused, so it is not suggested."""
    async with serving(environ={"SUPERVISOR_TAILSCALE": "off"}) as served:
        answer = await served.get("/api/tailscale/auth-url")
        assert answer.refusal == (404, "NO_AUTH_URL")
        assert "SUPERVISOR_TAILSCALE is off; set it to embedded or attach" in answer.json["error"]
        assert "connect" not in answer.json["error"]


async def test_no_login_url() -> None:
    """The response is 404, and the request starts nothing."""
    async with serving() as served:
        orders = orders_of(served)
        assert (await served.get("/api/tailscale/auth-url")).refusal == (404, "NO_AUTH_URL")
        error = (await rpc(served, "tailscale.auth_url"))["error"]
        assert (error["code"], error["details"]) == ("NOT_FOUND", {"code": "NO_AUTH_URL"})
        assert not orders


@pytest.mark.parametrize(
    ("head", "body", "refusal"),
    [
        (JSON, b"{", (400, "INVALID_BODY")),
        (JSON, b"[]", (400, "INVALID_BODY")),
        (JSON, b"null", (400, "INVALID_BODY")),
        (JSON, b'{"auth_key":5}', (400, "INVALID_BODY")),
        (JSON, b'{"auth-key":"x"}', (400, "INVALID_BODY")),
        (JSON, b'{"auth_key":"\xff\xfe"}', (400, "INVALID_BODY")),
        (JSON, b'{"auth_key":"\\ud800"}', (400, "INVALID_BODY")),
        (JSON, b"[" * 30000, (400, "INVALID_BODY")),
        ("", b"{}", (415, "UNSUPPORTED_MEDIA_TYPE")),
        ("Content-Type: text/plain\r\n", b"{}", (415, "UNSUPPORTED_MEDIA_TYPE")),
        ("Content-Type: application/x-www-form-urlencoded\r\n", b"auth_key=x", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (f"{JSON}Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\x00", (400, "INVALID_BODY")),
    ],
)
async def test_bodies_that_are_not_what_they_should_be(head: str, body: bytes, refusal: tuple[int, str]) -> None:
    """They are refused before anything is done."""
    async with serving() as served:
        orders = orders_of(served)
        assert (await served.ask("POST", "/api/tailscale/connect", BEARER + head, body)).refusal == refusal
        assert not orders
        assert "request failed" not in served.logged()
