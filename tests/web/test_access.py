"""Authentication: only a valid token counts; other claims in a request do not."""

from __future__ import annotations

import time

import pytest

from supervisor.web import throttle
from supervisor.web.auth import Access
from supervisor.web.routes import ROUTES
from tests.web.serving import BEARER, JSON, TOKEN, Answer, serving

PROTECTED = [route for route in ROUTES if route.access is Access.SIGNED_IN]
ORDERS = [route for route in ROUTES if route.method != "GET"]
STATUS = "/api/tailscale/status"


def path_of(path: str) -> str:
    """Return a path that matches the route's pattern."""
    return path.replace("{name}", "moltis").replace("{id}", "1a2b3c4d")


async def test_everything_but_health_and_signing_in_takes_a_token() -> None:
    """Without one, each route responds with 401 and says what is missing."""
    async with serving() as served:
        for route in PROTECTED:
            answer = await served.ask(route.method, path_of(route.path))
            assert answer.refusal == (401, "NOT_SIGNED_IN"), route
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert {route.path for route in ROUTES} - {route.path for route in PROTECTED} == {
        "/healthz",
        "/readyz",
        "/health",
        "/",
        "/panel/{file}",
        "/api/session/code",
    }


@pytest.mark.parametrize("head", [BEARER, BEARER.replace("Bearer", "bearer"), BEARER.replace(" an-", "   an-")])
async def test_the_admin_token_opens(head: str) -> None:
    """The scheme is accepted in any spelling."""
    async with serving() as served:
        assert (await served.get(STATUS, head)).status == 200


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (BEARER.replace("\r\n", "x\r\n"), "WRONG_CREDENTIALS"),
        (f"Authorization: Bearer {TOKEN.upper()}\r\n", "WRONG_CREDENTIALS"),
        (f"Authorization: Bearer {TOKEN[:-1]}\r\n", "WRONG_CREDENTIALS"),
        ("Authorization: Bearer\r\n", "WRONG_CREDENTIALS"),
        ("Authorization: Bearer \r\n", "WRONG_CREDENTIALS"),
        ("Authorization: Bearer \udcff\udcfe\r\n", "WRONG_CREDENTIALS"),
        ("Authorization: Bearer \u2603\r\n", "WRONG_CREDENTIALS"),
        (BEARER + BEARER, "WRONG_CREDENTIALS"),
        (f"Authorization: Basic {TOKEN}\r\n", "NOT_SIGNED_IN"),
        (f"Authorization: {TOKEN}\r\n", "NOT_SIGNED_IN"),
        (f"Cookie: token={TOKEN}; session={TOKEN}\r\n", "NOT_SIGNED_IN"),
        (f"X-Api-Key: {TOKEN}\r\n", "NOT_SIGNED_IN"),
    ],
)
async def test_anything_else_does_not(head: str, code: str) -> None:
    """It may be a wrong token, one in the wrong place, two of them, or bytes that are not text."""
    async with serving() as served:
        assert (await served.get(STATUS, head)).refusal == (401, code)
        assert (await served.get(f"{STATUS}?token={TOKEN}", "")).refusal == (401, "NOT_SIGNED_IN")


@pytest.mark.parametrize(
    "forged",
    [
        "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n",
        "Forwarded: for=127.0.0.1;host=localhost;proto=https\r\n",
        "X-Forwarded-Host: localhost\r\nX-Forwarded-Proto: https\r\nX-Forwarded-User: admin\r\n",
        "Tailscale-User-Login: owner@example.com\r\nTailscale-User-Name: Owner\r\n",
        "Remote-User: root\r\nX-Remote-User: root\r\nX-Webauth-User: root\r\n",
        "Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n",
    ],
)
async def test_loopback_and_forged_headers_prove_nothing(forged: str) -> None:
    """Every peer of the tailnet connects from 127.0.0.1 with headers of its choice."""
    async with serving() as served:
        for host in ("localhost", "127.0.0.1", f"127.0.0.1:{served.port}", "[::1]"):
            assert (await served.ask("GET", STATUS, forged, host=host)).status in {401, 403}
            assert (await served.ask("POST", "/api/processes/moltis/stop", forged, host=host)).status in {401, 403}


@pytest.mark.parametrize(
    ("head", "host", "passes"),
    [
        ("", "x", True),
        ("Sec-Fetch-Site: same-origin\r\n", "x", True),
        ("Sec-Fetch-Site: none\r\n", "x", True),
        ("Sec-Fetch-Site: same-site\r\n", "x", False),
        ("Sec-Fetch-Site: cross-site\r\n", "x", False),
        ("Sec-Fetch-Site: \r\n", "x", False),
        ("Sec-Fetch-Site: SAME-ORIGIN\r\n", "x", False),
        ("Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n", "x", False),
        ("Origin: http://x\r\n", "x", True),
        ("Origin: https://x\r\n", "x", True),
        ("Origin: http://x:8080\r\n", "x:8080", True),
        ("Origin: https://X.Example\r\n", "x.example", True),
        ("Origin: https://x\r\n", "x:443", True),
        ("Origin: http://x:80\r\n", "x", True),
        ("Origin: http://[::1]:8080\r\n", "[::1]:8080", True),
        ("Origin: https://x\r\n", "x:80", False),
        ("Origin: http://x:3000\r\n", "x:8080", False),
        ("Origin: http://x\r\n", "x:8080", False),
        ("Origin: http://x:8080\r\n", "x", False),
        ("Origin: http://x.evil.example\r\n", "x", False),
        ("Origin: null\r\n", "x", False),
        ("Origin: \r\n", "x", False),
        ("Origin: http://\r\n", "", False),
        ("Origin: http://x:nonsense\r\n", "x", False),
        ("Origin: http://[x\r\n", "x", False),
        ("Origin: http://x\r\nOrigin: http://y\r\n", "x", False),
        ("Origin: http://x\r\nSec-Fetch-Site: cross-site\r\n", "x", False),
        ("Origin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n", "x", False),
        ("Referer: http://evil.example/\r\n", "x", True),
    ],
)
async def test_other_sites_are_refused(head: str, host: str, passes: bool) -> None:  # noqa: FBT001 - a table's column
    """This also applies with a valid token, to reads and orders alike; the browser's headers name the origin."""
    async with serving() as served:
        for method, path in (("GET", STATUS), ("POST", "/api/tailscale/connect")):
            answer = await served.ask(method, path, BEARER + head, host=host)
            assert answer.status == {"GET": 200, "POST": 202}[method] if passes else 403, (method, answer)
            assert passes or answer.json["code"] == "CROSS_SITE"


async def test_a_host_that_a_proxy_has_replaced_is_named() -> None:
    """Otherwise nobody would find out why the panel's own page counts as another site."""
    async with serving() as served:
        answer = await served.ask(
            "POST", "/api/session", "Origin: https://panel.example:8443\r\n", host="panel.example"
        )
        told = answer.json["error"]
        assert "'https://panel.example:8443'" in told
        assert "'panel.example'" in told
        answer = await served.ask("POST", "/api/session", "Sec-Fetch-Site: cross-site\r\n")
        assert "proxy" not in answer.json["error"]


async def test_public_pages_may_be_opened_from_anywhere() -> None:
    """A link to them is a GET from another site; requests that change something are refused."""
    foreign = "Sec-Fetch-Site: cross-site\r\nOrigin: http://evil.example\r\n"
    async with serving() as served:
        for path in ("/healthz", "/readyz", "/health"):
            assert (await served.ask("GET", path, foreign)).status == 200
            assert (await served.ask("HEAD", path, foreign)).status == 200
        for route in ORDERS:
            answer = await served.ask(route.method, path_of(route.path), BEARER + JSON + foreign, b"{}")
            assert answer.refusal == (403, "CROSS_SITE"), route


async def test_no_other_site_is_given_leave() -> None:
    """A browser that asks whether another site may send requests gets no permission."""
    async with serving() as served:
        head = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n"
        answer = await served.ask("OPTIONS", STATUS, head)
        assert answer.status == 405
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert not [name for name in (await served.get(STATUS)).headers if name.lower() == "set-cookie"]


async def test_wrong_ones_are_slowed_down_and_right_ones_never() -> None:
    """After some wrong tokens, each further one gets a 429; a valid one from the same address is still accepted."""
    async with serving() as served:
        wrong = "Authorization: Bearer wrong\r\n"
        statuses = [(await served.get(STATUS, wrong)).status for _ in range(13)]
        assert statuses == [401] * 10 + [429] * 3
        answer = await served.get(STATUS, wrong)
        assert answer.refusal == (429, "TOO_MANY_ATTEMPTS")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert (await served.get(STATUS)).status == 200
        assert (await served.post("/api/session", {"token": "wrong"}, "")).status == 429
        assert (await served.post("/api/session", {"token": TOKEN}, "")).status == 200
        assert (await served.get(STATUS, "")).status == 401
        assert (await served.ask("GET", "/health", wrong)).status == 200
        told = [text for text in served.remembered() if "wrong credentials" in text]
        assert told == ["wrong credentials source=127.0.0.1 count=1"]


async def test_health_says_more_to_who_is_signed_in() -> None:
    """Anyone gets names and states; only signed-in users get reasons and times, and a wrong token counts as none."""
    async with serving() as served:
        served.store.update_process(served.store.snapshot.processes[0]._replace(ready=False, ready_why="it said 500"))
        for head in ("", "Authorization: Bearer wrong\r\n"):
            answer = await served.ask("GET", "/health", head)
            assert answer.json["checks"]["moltis"] == [{"status": "fail", "observedValue": "not ready"}]
        for answer in (await served.get("/health"), await served.over_control("GET", "/health")):
            check = answer.json["checks"]["moltis"][0]
            assert (answer.status, check["output"]) == (503, "it said 500")
            assert check["time"].endswith("Z")


async def test_too_many_guesses_are_slow_and_lock_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that guesses waits for each response; a valid token and health do not wait for it."""
    monkeypatch.setattr(throttle, "PER_SOURCE", throttle.Allowance(1, 1000.0))
    monkeypatch.setattr(throttle, "SLOW_S", 0.3)
    wrong = b"GET /api/logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n"
    async with serving() as served:
        reader, writer = await served.connect()
        begun_s = time.monotonic()
        writer.write(wrong * 5)
        for status in (401, 429, 429):
            head = Answer.of(await reader.readuntil(b"\r\n\r\n"))
            assert head.status == status
            await reader.readexactly(int(head.headers["Content-Length"]))
        assert time.monotonic() - begun_s >= 2 * 0.3
        monkeypatch.setattr(throttle, "SLOW_S", 3600.0)
        waiting = [await served.connect() for _ in range(3)]
        for _, other in waiting:
            other.write(wrong)
        assert [(await served.get("/api/logs")).status for _ in range(3)] == [200] * 3
        assert (await served.ask("GET", "/health")).status == 200
        for _, other in (*waiting, (reader, writer)):
            other.close()
