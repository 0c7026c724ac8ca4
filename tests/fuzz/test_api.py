"""The real program follows its OpenAPI document: all phases of schemathesis, with all its checks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.backup.world import World, back_up, wait_for_state
from tests.fuzz.mutating import SECONDS
from tests.process.running import running
from tests.support.control import controlling
from tests.support.waiting import wait_until
from tests.tailnet.node import APP, Node, at, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.running import Run

# `make fuzz` sets more.
EXAMPLES = int(os.environ.get("API_EXAMPLES", "5"))
TOKEN = "a token of sixteen characters"
_HERE = Path(__file__).parent
_DOCUMENT = _HERE.parents[1] / "docs/reference/openapi.json"
# Wrong tokens are tried without limit here, which would soon be answered with 429.
_PATIENT = (
    "import sys; from supervisor.web import throttle; "
    "throttle.PER_SOURCE = throttle.IN_TOTAL = throttle.Allowance(1_000_000, 1.0); "
    "from supervisor.cli import main; sys.exit(main())"
)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A supervisor that waits for a login, with a snapshot and an incident to look up."""
    world = World()
    with controlling("-auth") as control:
        tailnet = environment(**at(control))
        env = {
            **world.env(SUPERVISOR_TOKEN=TOKEN),
            **tailnet,
            "SUPERVISOR_SERVE": "auto",
            "TS_STATE_DIR": str(tmp_path / "state"),
        }
        env["PATH"] = f"{tailnet['PATH'].split(':')[0]}:{world.env()['PATH']}"
        with running(env=env, program=[sys.executable, "-I", "-c", _PATIENT, "run", "--", *APP]) as started:
            wait_for_state(started, "idle")
            back_up(started)
            wait_until(lambda: Node(started).call("GET", "/api/tailscale/auth-url")[0] == 200, what="the login URL")
            started.send(signal.SIGUSR1)
            started.wait_count(2, "started", child="moltis")
            yield started
            said = {record["message"] for record in started.records}
            assert not said & {"request failed", "internal error", "service crashed"}
            assert started.stop() == 0


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("signed_in", [True, False])
def test_the_program_keeps_to_the_document(run: Run, tmp_path: Path, *, signed_in: bool) -> None:
    """Valid and invalid requests, and sequences along the links, signed in and not: no check fails."""
    _, port = (run.run_dir / "http").read_text().split()
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(_HERE / "schemathesis.toml")),
            *("run", str(_DOCUMENT), "--url", f"http://127.0.0.1:{port}", "--max-examples", str(EXAMPLES)),
            *(("--max-time", str(int(SECONDS))) if SECONDS else ()),
            *(("--header", f"Authorization: Bearer {TOKEN}") if signed_in else ()),
            *("--report", "json", "--report-json-path", str(report)),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.fuzz.api_checks",
            "PYTHONPATH": str(_HERE.parents[1]),
            "NO_COLOR": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0
