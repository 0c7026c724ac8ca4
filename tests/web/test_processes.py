"""Processes of a real supervisor in the API: how they are described, and orders for them."""

from __future__ import annotations

import http.client
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.core.process import ProcessSpec, State
from supervisor.core.snapshot import ServeView, TailnetView
from tests.process.running import PATIENT, running
from tests.support.waiting import wait_until
from tests.web.following import following
from tests.web.serving import READY, TOKEN, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.running import Run

ENV = {"SUPERVISOR_TOKEN": TOKEN}


def ask(run: Run, method: str, path: str) -> tuple[int, Any]:
    """Send a request over TCP, with the token."""
    address = run.wait_for("starting")["listen"]
    connection = http.client.HTTPConnection("127.0.0.1", int(address.rpartition(":")[2]), timeout=15)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def wait_for(run: Run, name: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Wait until a process is described as expected, and return the description."""

    def look() -> dict[str, Any] | None:
        found = {process["name"]: process for process in ask(run, "GET", "/api/processes")[1]["processes"]}
        return found[name] if holds(found[name]) else None

    return wait_until(look, what=f"{name} to change")


@pytest.mark.parametrize(
    ("started_with", "recorded", "says"),
    [
        ("", "https://new.example", "it was started before its URL https://new.example was known; restart it"),
        ("https://old.example", "https://new.example", "it was started with https://old.example as its URL"),
        ("https://new.example", "https://new.example", None),
        ("https://old.example", "", "it was started with https://old.example as its URL, which does not exist"),
        ("https://old.example", None, None),
        ("", "", None),
        (None, "https://new.example", None),
    ],
)
async def test_a_process_that_needs_a_restart(started_with: str | None, recorded: str | None, says: str | None) -> None:
    """A process that was started without its URL, or with another or a former one, says so until it is restarted."""
    view = READY._replace(pid=os.getpid(), started_s=1.0, external_url=started_with)
    async with serving(view, tailnet=TailnetView(serve=ServeView(external_url=recorded))) as served:
        (told,) = (await served.get("/api/processes")).json["processes"]
        assert (told["needs_restart"] or "").startswith(says or "")
        assert (told["needs_restart"] is None) is (says is None)


def order(run: Run, name: str, verb: str) -> None:
    """Give an order, which must be accepted."""
    assert ask(run, "POST", f"/api/processes/{name}/{verb}") == (202, {"ok": True})


def test_stop_start_and_restart() -> None:
    """Each takes effect, and changes nothing if the process is already in that state."""
    with running("sh", "-c", "echo up; exec sleep 300", env=ENV) as run:
        first = wait_for(run, "moltis", lambda process: process["state"] == "running")
        assert first["pid"] == run.wait_for("started", child="moltis")["pid"]
        assert (first["critical"], first["ready"], first["ready_why"], first["restarts"]) == (True, True, None, 0)
        assert first["command"] == "sh -c echo up; exec sleep 300"
        assert first["memory_bytes"] > 100_000
        assert first["cpu_s"] >= 0
        assert 0 <= first["uptime_s"] < 60
        order(run, "moltis", "start")
        order(run, "moltis", "restart")
        second = wait_for(run, "moltis", lambda process: process["pid"] not in {None, first["pid"]})
        assert second["restarts"] == 1
        order(run, "moltis", "stop")
        order(run, "moltis", "stop")
        stopped = wait_for(run, "moltis", lambda process: process["state"] == "inactive")
        assert [stopped[name] for name in ("pid", "uptime_s", "memory_bytes", "cpu_s", "ready")] == [
            None,
            None,
            None,
            None,
            False,
        ]
        assert ask(run, "GET", "/health")[0] == 503
        order(run, "moltis", "start")
        assert wait_for(run, "moltis", lambda process: process["state"] == "running")["pid"] != second["pid"]
        assert run.popen.poll() is None
        run.wait_count(5, "order received", child="moltis", source="127.0.0.1")


def test_an_end_is_told_and_a_start_does_not_wait() -> None:
    """The exit has its reason and last lines, backoff the time of the next attempt; a start tries again at once."""
    env = ENV | {"SUPERVISOR_BACKOFF_INITIAL": "100000s", "SUPERVISOR_BACKOFF_MAX": "100000s"}
    with running("sh", "-c", "echo last words; kill -KILL $$", env=env) as run:
        process = wait_for(run, "moltis", lambda process: process["state"] == "backoff")
        assert process["next_try_in_s"] >= 0
        assert process["failures"] == 1
        (end,) = process["exits"]
        assert (end["code"], end["signal"], end["expected"]) == (None, "SIGKILL", False)
        assert end["last_lines"] == ["last words"]
        assert end["reason"].startswith("ended by SIGKILL")
        order(run, "moltis", "start")
        process = wait_for(run, "moltis", lambda process: len(process["exits"]) == 2)
        assert process["failures"] == 2
        order(run, "moltis", "stop")
        process = wait_for(run, "moltis", lambda process: process["state"] == "inactive")
        assert process["next_try_in_s"] is None


def test_nothing_is_started_during_a_stop() -> None:
    """The client gets the reason; the current state is still reported."""
    with running("sh", "-c", "trap 'echo told' TERM; echo up; while :; do sleep 0.01; done", env=ENV) as run:
        run.wait_for("up")
        wait_for(run, "moltis", lambda process: process["state"] == "running")
        run.send(signal.SIGINT)
        run.wait_for("told")
        for verb in ("start", "stop", "restart"):
            status, body = ask(run, "POST", f"/api/processes/moltis/{verb}")
            assert (status, body["code"]) == (409, "STOPPING")
        assert ask(run, "GET", "/api/processes")[1]["processes"][0]["state"] == "stopping"
        run.send(signal.SIGINT)
        assert run.wait() == 0


async def test_a_stop_is_followed_to_its_end() -> None:
    """The stream of a stopping supervisor reports the stop until the end, and then ends properly."""
    app = "trap 'echo good bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    with running("sh", "-c", app, prefix=PATIENT) as run:
        run.wait_for("up")
        run.wait_for("sign in to the panel with this code")
        async with following(str(run.run_dir / "control.sock")) as stream:
            run.send(signal.SIGTERM)
            seen = []
            while (event := await stream.next()).kind != "end":
                seen += [line["message"] for line in event.data["lines"]] if event.kind == "log" else []
            assert event.data["code"] == "STOPPING"
            assert await stream.block() == ""
        assert "good bye" in seen
        assert any(text.startswith("exited child=moltis") for text in seen)
        assert run.wait() == 0


FLOOD = (
    "import time\n"
    "for n in range({count}):\n    print('line',n,flush=True)\n    n%50 or time.sleep(0.001)\n"
    "print('end',flush=True)\n"
    "time.sleep(300)"
)


async def test_a_flood_is_followed_over_many_streams() -> None:
    """Streams that end during the flood are resumed, and together they contain every line once, in order."""
    count = 20_000
    env = {"SUPERVISOR_LOG_HISTORY": str(count * 2)}
    with running("python3", "-c", FLOOD.format(count=count), env=env) as run:
        run.wait_for("sign in to the panel with this code")
        place, ids, said, streams = "", list[int](), list[str](), 0
        while "end" not in said:
            streams += 1
            async with following(str(run.run_dir / "control.sock"), **{"Last-Event-ID": place}) as stream:
                for _ in range(3):
                    event = await stream.until("log")
                    assert event.data["lost"] == 0
                    ids += [line["id"] for line in event.data["lines"]]
                    said += [line["message"] for line in event.data["lines"] if line["process"] == "moltis"]
                    if "end" in said:
                        break
                place = stream.last_id
        assert ids == list(range(1, len(ids) + 1))
        assert said == [*(f"line {number}" for number in range(count)), "end"]
        assert streams > 5
        run.wait_for("end")


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
async def test_a_process_that_does_not_exist(verb: str) -> None:
    """The response is 404 for any such name; the body must be empty or an empty object."""
    async with serving(specs=[ProcessSpec("moltis", ("sleep", "300"), {"PATH": os.defpath})]) as served:
        for name in ("nothing", "supervisor", "..", "%2e%2e", "MOLTIS", "moltis%20", "%ff", "%00"):
            answer = await served.post(f"/api/processes/{name}/{verb}")
            assert answer.status == 404, name
        assert (await served.post(f"/api/processes/moltis/{verb}", {"force": True})).refusal == (400, "INVALID_BODY")
        assert served.engine.children["moltis"].machine.state is State.INACTIVE


async def test_secrets_in_a_command_are_masked() -> None:
    """Nobody should put secrets there, but if they do, readers of the API do not see them."""
    spec = ProcessSpec("moltis", ("serve", "--key", "a-secret-of-the-owner"), {"PATH": os.defpath})
    async with serving(specs=[spec]) as served:
        served.log.redactor.learn("a-secret-of-the-owner")
        assert (await served.get("/api/processes")).json["processes"][0]["command"] == "serve --key [redacted]"
