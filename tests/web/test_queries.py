"""Query parameters: unknown ones are refused, so that a typo is noticed."""

from __future__ import annotations

import pytest

from supervisor.web.routes import ROUTES
from tests.web.serving import BEARER, JSON, TOKEN, serving

OPEN = {"/healthz", "/readyz", "/health", "/", "/panel/{file}"}
STRICT = [(route.method, route.path) for route in ROUTES if route.path not in OPEN]


@pytest.mark.parametrize(("method", "path"), STRICT)
async def test_a_parameter_that_is_not_known_is_refused(method: str, path: str) -> None:
    """It is refused by name, on every path except the open ones, and before anything is done."""
    async with serving() as served:
        answer = await served.ask(method, f"{path.format(name='moltis', id='1a2b3c4d')}?forget=true", BEARER)
        assert answer.refusal == (400, "INVALID_QUERY")
        assert "forget" in answer.json["error"]
        assert not [message for message in served.remembered() if "order received" in message]


@pytest.mark.parametrize("text", ["null", "NULL", "1e2", "1.5", "%2B1", "true", "", "%EF%BC%91"])
@pytest.mark.parametrize("path", ["/api/logs?last=", "/api/logs?limit=", "/api/events?last="])
async def test_a_number_is_digits(path: str, text: str) -> None:
    """Texts that other languages or libraries accept as a number, or as a missing one, are refused."""
    async with serving() as served:
        answer = await served.get(path + text)
        assert answer.refusal == (400, "INVALID_QUERY")
        assert "is not a whole number" in answer.json["error"]


@pytest.mark.parametrize("text", ["null", "on%20", "1", "true"])
async def test_a_choice_is_one_of_its_words(text: str) -> None:
    """No other word is accepted, whatever it may mean elsewhere."""
    async with serving() as served:
        answer = await served.get(f"/api/events?figures={text}")
        assert answer.refusal == (400, "INVALID_QUERY")
        assert answer.json["error"].startswith("cannot use the query: figures has to be off or on")


async def test_who_may_not_ask_is_told_so_first() -> None:
    """The parameters of a path are only for those who are signed in."""
    async with serving() as served:
        assert (await served.ask("GET", "/metrics?x=1")).refusal == (401, "NOT_SIGNED_IN")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/health", "/", "/panel/main.js"])
async def test_probes_and_browsers_may_add_what_they_like(path: str) -> None:
    """A cache-buster must not make a container count as unhealthy."""
    async with serving() as served:
        assert (await served.ask("GET", f"{path}?utm_source=mail&t=1&t=2")).status == 200


async def test_signing_out_takes_no_body() -> None:
    """As everywhere, only an empty object or nothing is accepted; after a refusal, the session continues."""
    async with serving() as served:
        session = (
            f"Authorization: Bearer {(await served.post('/api/session', {'token': TOKEN}, '')).json['session']}\r\n"
        )
        refused = await served.ask("DELETE", "/api/session", session + JSON, b'{"all": true}')
        assert refused.refusal == (400, "INVALID_BODY")
        assert (await served.get("/api/processes", session)).status == 200
        assert (await served.ask("DELETE", "/api/session", session + JSON, b"{}")).status == 204
