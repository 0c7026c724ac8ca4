"""Signing in with the admin token or a code from the log, and signing out."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from supervisor.core.snapshot import TailnetView
from supervisor.doctor.finding import OK, DoctorBody
from tests.web.serving import BEARER, TOKEN, Answer, Served, serving

if TYPE_CHECKING:
    from tests.web.conftest import Clock

STATUS = "/api/tailscale/status"
NO_TOKEN = {"SUPERVISOR_TOKEN": ""}
CODE = re.compile(r'"code":"([A-Z2-7]{20})"')


async def sign_in(served: Served, **body: str) -> Answer:
    """Sign in as the page does."""
    return await served.post("/api/session", body, "Origin: http://x\r\nSec-Fetch-Site: same-origin\r\n")


def codes(served: Served) -> list[str]:
    """Return the codes in the container's log."""
    return CODE.findall(served.logged())


async def test_a_token_gives_a_session() -> None:
    """It gives the same access as the token until it is ended; the token stays valid."""
    async with serving(wall_offset_s=0.0) as served:
        answer = await sign_in(served, token=TOKEN)
        assert answer.status == 200
        assert set(answer.json) == {"session", "expires_at"}
        bearer = f"Authorization: Bearer {answer.json['session']}\r\n"
        assert (await served.get(STATUS, bearer)).status == 200
        other = f"Authorization: Bearer {(await sign_in(served, token=TOKEN)).json['session']}\r\n"
        ended = await served.ask("DELETE", "/api/session", bearer)
        assert (ended.status, ended.body) == (204, b"")
        assert (await served.get(STATUS, bearer)).refusal == (401, "WRONG_CREDENTIALS")
        assert (await served.get(STATUS, other)).status == 200
        assert (await served.ask("DELETE", "/api/session", BEARER)).status == 204
        assert (await served.get(STATUS)).status == 200


async def test_what_was_asked_before_the_sign_out_comes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report takes time: the client must still be signed in when it is done."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def examine(*_given: object) -> DoctorBody:
        begun.set()
        await go_on.wait()
        return DoctorBody("2026-01-01T00:00:00Z", OK, True, [], [], {}, "")

    async with serving() as served:
        bearer = f"Authorization: Bearer {(await sign_in(served, token=TOKEN)).json['session']}\r\n"
        monkeypatch.setattr("supervisor.doctor.report.examine_run", examine)
        asked = asyncio.create_task(served.get("/api/doctor", bearer))
        await begun.wait()
        assert (await served.ask("DELETE", "/api/session", bearer)).status == 204
        go_on.set()
        assert (await asked).refusal == (401, "NOT_SIGNED_IN")


async def test_a_session_says_until_when() -> None:
    """The time is wall clock time, twelve hours from now."""
    now = datetime.now(UTC)
    async with serving(wall_offset_s=now.timestamp() - time.monotonic()) as served:
        until = datetime.fromisoformat((await sign_in(served, token=TOKEN)).json["expires_at"])
        assert timedelta(hours=11, minutes=59) < until - now < timedelta(hours=12, minutes=1)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"token": "wrong"}, (401, "WRONG_CREDENTIALS")),
        ({"token": ""}, (401, "WRONG_CREDENTIALS")),
        ({"code": "ABCDEFGHIJKLMNOPQRST"}, (401, "WRONG_CREDENTIALS")),
        ({"code": ""}, (401, "WRONG_CREDENTIALS")),
        ({}, (400, "INVALID_BODY")),
        ({"token": TOKEN, "code": "ABCDEFGHIJKLMNOPQRST"}, (400, "INVALID_BODY")),
        ({"token": TOKEN, "more": 1}, (400, "INVALID_BODY")),
        ({"token": 5}, (400, "INVALID_BODY")),
        ([TOKEN], (400, "INVALID_BODY")),
    ],
)
async def test_what_does_not_sign_in(body: object, refusal: tuple[int, str]) -> None:
    """Wrong credentials, none, and both at once."""
    async with serving() as served:
        answer = await served.post("/api/session", body, "")
        assert answer.refusal == refusal
        assert TOKEN.encode() not in answer.body


async def test_without_a_token_a_code_is_printed() -> None:
    """It is only in the container's log, with a link that has it in its fragment, and can be used once."""
    async with serving(environ=NO_TOKEN) as served:
        log = served.logged()
        code = CODE.findall(log)[0]
        assert f'"link":"http://localhost:{served.port}/#code={code}"' in log
        assert not [text for text in served.remembered() if code in text]
        answer = await sign_in(served, code=code)
        assert answer.status == 200
        bearer = f"Authorization: Bearer {answer.json['session']}\r\n"
        assert code.encode() not in (await served.get("/api/logs", bearer)).body
        assert (await sign_in(served, code=code)).refusal == (401, "WRONG_CREDENTIALS")


async def test_with_a_token_no_code_is_printed() -> None:
    """None is printed at the start or on request: readers of the log would get more access than intended."""
    async with serving() as served:
        assert (await served.post("/api/session/code", None, "")).refusal == (409, "TOKEN_SET")
        assert (await served.post("/api/session/code")).refusal == (409, "TOKEN_SET")
        assert not codes(served)


async def test_another_code_once_a_minute(clock: Clock) -> None:
    """Anyone may request one; the response does not contain it; both the new and the first code are valid."""
    async with serving(environ=NO_TOKEN) as served:
        answer = await served.post("/api/session/code", None, "")
        assert answer.refusal == (429, "CODE_PRINTED_ALREADY")
        assert answer.headers["Retry-After"] == "60"
        clock.now_s += 60
        answer = await served.post("/api/session/code", None, "")
        assert (answer.status, set(answer.json)) == (202, {"ok", "expires_at"})
        assert (await served.post("/api/session/code", None, "")).status == 429
        printed = codes(served)
        assert len(printed) == 2
        assert printed[1].encode() not in answer.body
        assert [(await sign_in(served, code=code)).status for code in printed] == [200, 200]


async def test_the_control_socket_gets_a_code_as_often_as_it_likes() -> None:
    """It is in the response and not in the log, even with a token set."""
    async with serving() as served:
        answers = [await served.over_control("POST", "/api/session/code") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        given = answers[0].json
        assert given["link"].endswith(f"/#code={given['code']}")
        assert (await sign_in(served, code=given["code"])).status == 200
        assert given["code"] not in served.logged()


async def test_the_link_has_the_name_that_leads_there() -> None:
    """It is the device's name in the tailnet, if there is one: 0.0.0.0 is not a usable address."""
    async with serving(tailnet=TailnetView("embedded", "connected", hostname="moltis.tail.example")) as served:
        link = (await served.over_control("POST", "/api/session/code")).json["link"]
        assert link.startswith(f"http://moltis.tail.example:{served.port}/#code=")


async def test_wrong_codes_do_not_use_one_up() -> None:
    """The valid code is accepted after any number of wrong ones."""
    async with serving(environ=NO_TOKEN) as served:
        statuses = {(await sign_in(served, code=f"WRONG{number}")).status for number in range(15)}
        assert statuses == {401, 429}
        assert (await sign_in(served, code=codes(served)[0])).status == 200
