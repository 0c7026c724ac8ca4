"""The API's document and the server agree: in their routes, and for requests generated from the document."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from anyio import to_thread
from hypothesis import HealthCheck, Phase, given, settings

from scripts.openapi_document import document
from supervisor.core.process import ProcessSpec
from supervisor.core.snapshot import ExitView, ListenerView
from supervisor.secret import Secret
from supervisor.web import events, throttle
from supervisor.web.auth import Access
from supervisor.web.error_codes import Code
from supervisor.web.routes import ROUTES
from tests.conventions.tree import read
from tests.web.following import following
from tests.web.serving import READY, TOKEN, serving
from tests.web.test_tailscale import FULL

if TYPE_CHECKING:
    import schemathesis
    from schemathesis import GenerationMode

    from tests.web.serving import Served

DOCUMENT: dict[str, Any] = json.loads(read("docs/reference/openapi.json"))
OPERATIONS = {
    (verb.upper(), path): operation
    for path, verbs in DOCUMENT["paths"].items()
    for verb, operation in verbs.items()
    if verb != "parameters"
}
# `make fuzz` uses more.
EXAMPLES = int(os.environ.get("API_EXAMPLES", "20"))
# It is endless, and has its own tests.
ENDLESS = "/api/events"
# Checks that do not apply: a frame gets status 200 whatever it contains; two parameters exclude each other.
# tests/fuzz/test_api.py, which tries far more, has its own checks instead.
UNFIT = {"/api/rpc": {"negative_data_rejection"}, "/api/logs": {"positive_data_acceptance"}}


def test_every_route_is_in_the_document() -> None:
    """The document has no others; routes that need no token are marked."""
    assert set(OPERATIONS) == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        operation = OPERATIONS[route.method, route.path]
        assert ("security" in operation) == (route.access is Access.ANYONE), route.path


def test_the_document_is_made_from_the_structs() -> None:
    """After a change: python -m scripts.openapi_document docs/reference/openapi.json."""
    text = read("docs/reference/openapi.json")
    assert document(text) == text


def test_every_error_is_in_the_document() -> None:
    """Each has its status; other codes are for unknown paths and methods, or for the app's port."""
    named: dict[int, str] = {}
    for operation in OPERATIONS.values():
        for status, answer in operation["responses"].items():
            found = DOCUMENT["components"]["responses"][answer["$ref"].split("/")[-1]] if "$ref" in answer else answer
            named[int(status)] = named.get(int(status), "") + found["description"]
    elsewhere = {Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED, Code.EXPECTATION_FAILED, Code.HEAD_TOO_LARGE}
    elsewhere.add(Code.NOT_STARTED)
    assert not [code for code in set(Code) - elsewhere if f"`{code.name}`" not in named.get(code.status, "")]


@pytest.mark.timeout(300)  # most of it is computed here: a crowded machine gives it a tenth of a processor
async def test_the_server_keeps_to_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid and invalid requests of all kinds get responses as documented."""
    for allowance in ("PER_SOURCE", "IN_TOTAL"):
        monkeypatch.setattr(throttle, allowance, throttle.Allowance(1_000_000, 1.0))
    spec = ProcessSpec("moltis", ("sleep", "300"), {"PATH": os.defpath})
    tailnet = FULL._replace(before_disconnect="", auth_url=Secret("https://login.example.com/a/1"))
    exposed = (ListenerView("0.0.0.0", 18791, "moltis", 12),)
    # The full report reaches nobody from here.
    nobody = {"TS_EXTRA_ARGS": "--login-server=http://127.0.0.1:1", "SUPERVISOR_APP_COMMAND": "sleep 300"}
    environ = {"SUPERVISOR_TOKEN": TOKEN, **nobody}
    async with serving(specs=[spec], tailnet=tailnet, exposed=exposed, environ=environ) as served:
        served.log.record("info", "a line")
        await to_thread.run_sync(_ask_everything, served, {"Authorization": f"Bearer {TOKEN}"})
        assert "request failed" not in served.logged()


async def test_the_server_keeps_to_the_document_for_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that are not signed in are refused as documented, whatever they send, except where anyone is answered."""
    for allowance in ("PER_SOURCE", "IN_TOTAL"):
        monkeypatch.setattr(throttle, allowance, throttle.Allowance(1_000_000, 1.0))
    async with serving(tailnet=FULL, environ={"SUPERVISOR_TOKEN": TOKEN}) as served:
        await to_thread.run_sync(_ask_everything, served, {})
        assert "request failed" not in served.logged()


async def test_the_stream_keeps_to_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """This covers the data of each kind of event."""
    monkeypatch.setattr(events, "FIGURES_S", 0.5)
    exposed = (ListenerView("0.0.0.0", 18791, "moltis", 12),)
    ended = ExitView(1.0, None, 9, 1.0, "ended by SIGKILL", ("last words",))
    async with (
        serving(READY._replace(exits=(ended,)), tailnet=FULL, exposed=exposed) as served,
        following(served, "?figures=on") as stream,
    ):
        served.log.record("info", "a line")
        # On a crowded machine figures may come before the line.
        state, lines, figures = [await stream.until(kind) for kind in ("state", "log", "figures")]
        await served.server.close()
        end = await stream.until("end")
    for event, name in ((state, "Events"), (lines, "Log"), (figures, "Figures"), (end, "Error")):
        assert event.data
        jsonschema_rs.validator_for({**DOCUMENT, "$ref": f"#/components/schemas/{name}"}).validate(event.data)
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validator_for({**DOCUMENT, "$ref": "#/components/schemas/Log"}).validate(state.data)


def _ask_everything(served: Served, headers: dict[str, str]) -> None:
    # These imports take half a second, which every worker would pay for.
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.core.result import Ok

    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.update(base_url=f"http://127.0.0.1:{served.port}")
    found = list(schema.get_all_operations())
    operations = [each.ok() for each in found if isinstance(each, Ok)]
    for operation in operations:
        if operation.path != ENDLESS:
            assert _ask(operation, GenerationMode.POSITIVE, headers)
            takes_something = operation.body or operation.query or operation.path_parameters
            assert not takes_something or _ask(operation, GenerationMode.NEGATIVE, headers)
    assert len(operations) == len(found) == len(ROUTES)


def _ask(
    operation: schemathesis.schemas.APIOperation[Any, Any, Any, Any], mode: GenerationMode, headers: dict[str, str]
) -> int:
    """Try one operation with valid or invalid input; return how often."""
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    chosen: list[Any] = [check for check in CHECKS.get_all() if check.__name__ not in UNFIT.get(operation.path, set())]
    count = 0

    @settings(
        # A refusal depends on little of the input.
        max_examples=EXAMPLES if headers else max(1, EXAMPLES // 5),
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        nonlocal count
        count += 1
        case.call_and_validate(checks=chosen, headers=headers, timeout=60)

    ask()
    return count
