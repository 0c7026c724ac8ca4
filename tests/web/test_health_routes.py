"""The three endpoints for probes, over real sockets."""

from __future__ import annotations

import pytest

from supervisor.core.process import State
from supervisor.core.snapshot import ExitView, HealthChange, HealthView, TailnetView
from supervisor.web.auth import Access
from supervisor.web.routes import ROUTES
from tests.web.serving import READY, serving

DOWN = READY._replace(state=State.BACKOFF, ready=False)


async def test_all_well() -> None:
    """Each responds with 200 and its own content."""
    async with serving() as served:
        for path in ("/healthz", "/readyz", "/health"):
            answer = await served.ask("GET", path)
            assert (answer.status, answer.json["status"]) == (200, "pass")
            assert answer.headers["Content-Type"] == "application/health+json"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Server" not in answer.headers


async def test_an_app_that_is_down() -> None:
    """Health and readiness fail; liveness does not, because a restart of the container would not fix the app."""
    async with serving(DOWN) as served:
        assert (await served.ask("GET", "/healthz")).status == 200
        assert (await served.ask("GET", "/readyz")).status == 503
        answer = await served.ask("GET", "/health")
        assert (answer.status, answer.json["status"]) == (503, "fail")
        assert answer.json["checks"]["moltis"] == [{"status": "fail", "observedValue": "backoff"}]


async def test_a_warning_is_200() -> None:
    """The body reports that the tailnet is away."""
    async with serving(tailnet=TailnetView("embedded", "needs login", away_since_s=-1000.0)) as served:
        answer = await served.ask("GET", "/health")
        assert (answer.status, answer.json["status"]) == (200, "warn")
        assert answer.json["checks"]["tailnet"] == [{"status": "warn", "observedValue": "needs login"}]


async def test_anyone_reads_names_and_states_and_nothing_else() -> None:
    """Reasons may contain information that is not for everyone."""
    end = ExitView(0.0, 1, None, 1.0, "WHY", ("WHY",))
    app = DOWN._replace(ready_why="WHY", exits=(end,), command="WHY")
    tailnet = TailnetView("embedded", "needs login", why="WHY", last_error="WHY", warnings=("WHY",))
    async with serving(app, tailnet=tailnet) as served:
        for path in ("/healthz", "/readyz", "/health"):
            answer = await served.ask("GET", path)
            assert b"WHY" not in answer.body
        assert set(answer.json) == {"status", "checks"}
        assert all(set(check[0]) == {"status", "observedValue"} for check in answer.json["checks"].values())
        assert b"WHY" in (await served.get("/health")).body


async def test_a_change_is_seen_at_once() -> None:
    """Every response is made from the current state."""
    async with serving() as served:
        served.store.update_process(DOWN)
        assert (await served.ask("GET", "/readyz")).status == 503
        served.store.update_process(READY)
        assert (await served.ask("GET", "/readyz")).status == 200
        served.store.update_stopping("SIGTERM received")
        assert (await served.ask("GET", "/readyz")).status == 503


async def test_head_answers_without_a_body() -> None:
    """Some monitors send HEAD."""
    async with serving() as served:
        answer = await served.ask("HEAD", "/health")
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("POST", "/health", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/health", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "//health", 404, "NOT_FOUND"),
    ],
)
async def test_errors_are_json(method: str, path: str, status: int, code: str) -> None:
    """They have a code for programs and a text for people."""
    async with serving() as served:
        answer = await served.ask(method, path)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert answer.json["error"]


def test_every_route_says_who_may_call_it() -> None:
    """And no path has two handlers for one method."""
    assert all(isinstance(route.access, Access) for route in ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


async def test_how_it_came_to_this_is_told_to_who_is_signed_in() -> None:
    """The changes are listed in order; anyone else does not see them."""
    changes = (HealthChange(1.0, "fail", ("moltis: WHY",), (("moltis", "fail"),)), HealthChange(2.0, "pass"))
    async with serving(health=HealthView("pass", 2.0, (), (), changes)) as served:
        told = (await served.get("/health")).json["changes"]
        assert [(each["status"], each["reasons"]) for each in told] == [("fail", ["moltis: WHY"]), ("pass", [])]
        assert told[0]["at"] < told[1]["at"]
        assert "changes" not in (await served.ask("GET", "/health")).json


async def test_what_is_said_of_the_settings_is_told_to_who_is_signed_in() -> None:
    """They are listed as long as they apply, even if the log has dropped them; they do not affect the verdict."""
    async with serving(warnings=("WARNING",), notices=("NOTICE",)) as served:
        told = (await served.get("/health")).json
        assert (told["warnings"], told["notices"]) == (["WARNING"], ["NOTICE"])
        anyone = (await served.ask("GET", "/health")).json
        assert anyone["status"] == told["status"]
        assert not {"warnings", "notices"} & set(anyone)
