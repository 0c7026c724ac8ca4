"""Spans of a real run, as a collector receives them."""

from __future__ import annotations

import contextlib
import http.client
import sys
from typing import TYPE_CHECKING

import pytest

from tests.backup.world import World, back_up, wait_for_state
from tests.process.running import running
from tests.support.control import controlling
from tests.support.waiting import wait_until
from tests.tailnet.node import Node, at, node
from tests.telemetry.receiver import receiving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.telemetry.receiver import Receiver

TOKEN = "a-token-for-the-collector"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def settings(receiver: Receiver, **more: str) -> dict[str, str]:
    """Return the settings with which an owner has spans sent."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{TOKEN}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        **more,
    }


def test_a_tailnet_and_a_request(tmp_path: Path) -> None:
    """There are spans for the start, the login, publishing, and an owner's orders and their requests."""
    with receiving() as receiver, controlling() as control:
        more = settings(receiver) | at(control)
        with node(tmp_path, **more) as one:
            one.wait_state("connected")
            served = receiver.wait("tailnet.serve")
            assert served.facts["supervisor.serve.urls"][0].startswith("http://moltis.")
            spawned = receiver.wait("process.spawn", {"supervisor.process.name": "tailscaled"})
            assert spawned.facts["process.executable.name"] == "tailscaled"
            assert spawned.resource["service.name"] == "moltis-supervisor"
            connected = receiver.wait("tailnet.connect")
            assert not connected.failed
            assert connected.begun_ns <= served.begun_ns <= served.ended_ns
            one.disconnect()
            assert receiver.wait("tailnet.disconnect").facts["supervisor.tailnet.forget"] is False
            one.connect()
            wait_until(lambda: len(receiver.named("tailnet.connect")) > 1, 20, "the second connect")
            asked = receiver.wait("POST /api/tailscale/connect")
            assert asked.facts["http.response.status_code"] == 202
            assert asked.kind == 2
            assert one.run.stop() == 0
        assert (
            receiver.wait("process.stop", {"supervisor.process.name": "tailscaled"}).facts["supervisor.exit.kind"]
            == "asked"
        )
        assert {each["path"] for each in receiver.headers} == {"/v1/traces"}
        assert {each["authorization"] for each in receiver.headers} == {f"Bearer {TOKEN}"}


def test_a_key_in_an_address_is_masked() -> None:
    """The error for an address without a scheme contains the whole address."""
    env = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"me:some%20word@127.0.0.1:9/v1/traces?api_key={TOKEN}&x=1",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with running("sh", "-c", "exec sleep 300", env=env) as run:
        why = run.wait_for("spans are not taken")["why"]
        assert "127.0.0.1:9/v1/traces?api_key=[redacted]&x=1" in why
        assert "word" not in why
        assert run.stop() == 0


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("OTEL_SERVICE_NAME", "", "moltis-supervisor"),
        ("OTEL_SERVICE_NAME", "mine", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "my.service.name=other", "moltis-supervisor"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name = mine", "mine"),
    ],
)
def test_the_name_is_the_owners_where_there_is_one(variable: str, value: str, name: str) -> None:
    """An empty variable counts as unset, and another attribute is not the name."""
    with (
        receiving() as receiver,
        running("sh", "-c", "exec sleep 300", env=settings(receiver, **{variable: value})) as run,
    ):
        assert receiver.wait("process.spawn").resource["service.name"] == name
        assert run.stop() == 0


def test_lives_of_a_process() -> None:
    """A start, a requested restart and a requested stop each have a span with its attributes."""
    with receiving() as receiver, running("sh", "-c", "exec sleep 300", env=settings(receiver)) as run:
        one = Node(run)
        first = receiver.wait("process.spawn")
        run.wait_for("started")
        view = one.call("GET", "/api/processes")[1]["processes"][0]
        assert first.facts["process.pid"] == view["pid"]
        assert one.call("POST", "/api/processes/moltis/restart")[0] == 202
        restart = receiver.wait("process.restart", {"supervisor.restart.reason": "asked"})
        parts = [each for each in receiver.spans if each.parent_id == restart.span_id]
        assert [each.name for each in parts] == ["process.stop", "process.spawn"]
        assert {each.trace_id for each in parts} == {restart.trace_id} != {first.trace_id}
        assert parts[0].facts["supervisor.exit.signal"] == "SIGTERM"
        assert restart.begun_ns == parts[0].begun_ns <= parts[0].ended_ns <= parts[1].ended_ns == restart.ended_ns
        one.call("POST", "/api/processes/moltis/stop")
        assert receiver.wait("process.stop", {"supervisor.exit.kind": "asked", "process.executable.name": "sh"})
        assert run.stop() == 0


def test_a_crash_and_an_end_before_ready() -> None:
    """A life that ends before its probe has responded is a failed start, within the restart that it was part of."""
    with receiving() as receiver:
        more = settings(receiver, SUPERVISOR_APP_HEALTH_URL="http://127.0.0.1:1/", SUPERVISOR_GIVE_UP="never")
        with running("sh", "-c", "exit 3", env=more) as run:
            failed = receiver.wait("process.spawn", {"process.exit.code": 3})
            again = receiver.wait("process.restart", {"supervisor.restart.reason": "exit_code"})
            assert failed.failed
            assert failed.said == "it ended before it was ready: exit code 3"
            assert failed.facts["error.type"] == again.facts["error.type"] == "exit_code"
            run.stop()


def test_snapshots_and_a_restore() -> None:
    """Each has its span, including the last one of a stop; the snapshot before a restore is part of the restore's."""
    world = World()
    with receiving() as receiver, world.running(**settings(receiver)) as run:
        wait_for_state(run, "idle")
        (world.data / "note").write_text("old")
        taken = back_up(run)
        snapshot = receiver.wait("backup.snapshot", {"supervisor.backup.reason": "asked"})
        assert snapshot.facts["supervisor.backup.snapshot"] == taken["id"]
        assert Node(run).call("POST", f"/api/backups/{taken['id']}/restore", {"confirm": True})[0] == 202
        restore = receiver.wait("backup.restore", {"supervisor.backup.result": "ok"})
        before = receiver.wait("backup.snapshot", {"supervisor.backup.reason": "before restore"})
        assert before.parent_id == restore.span_id
        assert restore.begun_ns <= before.begun_ns <= before.ended_ns <= restore.ended_ns
        wait_for_state(run, "idle")
        (world.folder / "repository/config").rename(world.folder / "config")
        assert Node(run).call("POST", "/api/backups")[0] == 202
        assert receiver.wait("backup.snapshot", {"supervisor.backup.result": "failed"}).failed
        (world.folder / "config").rename(world.folder / "repository/config")
        assert run.stop() == 0
        assert receiver.wait("backup.snapshot", {"supervisor.backup.reason": "stop"})


def test_whose_trace_a_request_belongs_to() -> None:
    """It belongs to the caller's trace if they are signed in; other requests, and probes, leave no span."""
    with receiving() as receiver, running("sleep", "300", env=settings(receiver)) as run:
        one = Node(run)
        wait_until(one.health, what="health")
        port = (run.run_dir / "http").read_text().split()[1]
        for path in ("/api/logs", "/healthz", "/api/nothing"):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)) as anyone:
                anyone.request("GET", path, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
                assert anyone.getresponse().status in {200, 401, 404}
        assert one.call("GET", "/api/logs?limit=0", traceparent=f"00-{TRACE}-{CALLER}-01")[0] == 400
        assert one.call("GET", "/api/logs?limit=1", traceparent="00-nonsense")[0] == 200
        found = receiver.wait("GET /api/logs", {"http.response.status_code": 400})
        assert (found.trace_id.hex(), found.parent_id.hex()) == (TRACE, CALLER)
        assert found.facts["url.path"] == "/api/logs"
        assert receiver.wait("GET /api/logs", {"http.response.status_code": 200}).parent_id == b""
        run.stop()
        assert {each.name for each in receiver.spans} == {"process.spawn", "process.stop", "GET /api/logs"}


def test_a_collector_that_is_away() -> None:
    """This is logged once, without the library's own lines, and a stop does not wait for it."""
    with receiving() as receiver, running("sleep", "300", env=settings(receiver)) as run:
        receiver.status = 403
        told = run.wait_for("spans are not taken", level="warning")
        assert "403" in told["why"]
        seen = len(receiver.headers)
        Node(run).call("GET", "/api/logs")
        wait_until(lambda: len(receiver.headers) > seen, 20, "the next batch")
        receiver.status = 200
        Node(run).call("GET", "/api/logs")
        run.wait_for("spans are sent again")
        receiver.free.clear()
        seen = len(receiver.headers)
        Node(run).call("GET", "/api/logs")
        wait_until(lambda: len(receiver.headers) > seen, 20, "a batch that is not answered")
        assert run.stop_net_s() < 5
        assert run.wait() == 0
        assert len(run.all("spans are not taken")) == 1
        assert not [record for record in run.records if TOKEN in str(record)]


# At its end, the container is at its limit of processes.
NO_THREAD_AT_THE_END = """
import runpy, sys, threading
def start(thread, really=threading.Thread.start):
    if thread.name == "span-flush":
        raise RuntimeError("can't start new thread")
    really(thread)
threading.Thread.start = start
sys.argv = ["supervisor", "run", "--", "sleep", "300"]
runpy.run_module("supervisor", run_name="__main__")
"""


def test_no_thread_can_be_started_at_the_end() -> None:
    """The last spans are lost, which is logged; the stop is otherwise unaffected."""
    with receiving() as receiver:
        program = [sys.executable, "-I", "-c", NO_THREAD_AT_THE_END]
        with running(env=settings(receiver), program=program) as run:
            receiver.wait("process.spawn")
            assert run.stop() == 0
            assert "limit of processes" in str(run.find("the last spans are not sent"))
            assert not run.stderr


# Writes down what the interpreter that runs as the supervisor has loaded when it exits.
LOADED = """
import os, runpy, sys
def end(status, really=os._exit):
    open(os.environ["REPORT"], "w").write(" ".join(sys.modules))
    really(status)
os._exit = end
if "without" in sys.argv[1]:
    sys.modules["opentelemetry.sdk"] = None
sys.argv = ["supervisor", "run", "--", "sleep", "300"]
runpy.run_module("supervisor", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("how", "more"),
    [
        ("with nobody to send to", {}),
        ("switched off", {"OTEL_SDK_DISABLED": "true"}),
        ("with another exporter", {"OTEL_TRACES_EXPORTER": "none"}),
        ("with another protocol", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}),
        ("without the library", {}),
    ],
)
def test_it_costs_nothing_unless_it_is_wanted(tmp_path: Path, how: str, more: dict[str, str]) -> None:
    """Nothing of OpenTelemetry is loaded; an owner who wants spans in vain is told once, and what to do."""
    endpoint = {} if "nobody" in how else {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    report = tmp_path / "modules"
    with running(env={"REPORT": str(report), **endpoint, **more}, program=(sys.executable, "-c", LOADED, how)) as run:
        run.wait_for("sign in to the panel with this code")
        assert run.stop() == 0
        told = run.all("spans are not sent", level="warning")
        assert [(record["why"], record["what_to_do"]) for record in told] == {
            "with another protocol": [
                ("grpc is not supported", "set OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf"),
            ],
            "without the library": [
                (
                    "OpenTelemetry is not installed",
                    "install moltis-supervisor[otel], or remove the OTEL_EXPORTER_OTLP settings",
                ),
            ],
        }.get(how, [])
    loaded = set(report.read_text().split())
    assert "supervisor.web.server" in loaded
    assert not {name for name in loaded if name.startswith(("opentelemetry.sdk.", "opentelemetry.trace", "google."))}
