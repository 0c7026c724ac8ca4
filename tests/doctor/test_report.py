"""The report as a whole: with and without a running supervisor, for people and for programs, and masked."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from supervisor.doctor.finding import Check
from supervisor.doctor.report import CHECKS, PARTS
from tests.client.calling import DEADLINE_S, PROGRAM, call
from tests.client.test_with_supervisor import QUIET, supervised
from tests.conventions.tree import modules
from tests.doctor.asking import doctor, doctor_of, environment

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "a-token-of-good-length-for-the-doctor"


def test_before_anything_runs(tmp_path: Path) -> None:
    """All possible checks are made; each finding is complete; each setting has its origin."""
    report = doctor(environment(tmp_path, SUPERVISOR_TOKEN=TOKEN))
    assert report.body["running"] is False
    assert {each["group"] for each in report.body["findings"]} >= {"settings", "rights", "machine"}
    settings = {each["name"]: (each["value"], each["origin"]) for each in report.body["settings"]}
    assert settings["SUPERVISOR_TOKEN"] == ("[redacted]", "environment")
    assert settings["SUPERVISOR_TAILSCALE"] == ("off", "environment")
    assert settings["PORT"] == ("8080", "default")


def test_a_running_supervisor_makes_its_own_report(tmp_path: Path) -> None:
    """Only the running supervisor knows what it was started with; the command's own environment is not used."""
    toml = '[settings]\nSUPERVISOR_STOP_TIMEOUT = "9s"\n'
    with supervised(*QUIET, toml=toml, env={"SUPERVISOR_TOKEN": TOKEN}) as run:
        report = doctor({**environment(tmp_path), "SUPERVISOR_RUN_DIR": str(run.run_dir)})
        assert report.body["running"] is True
        origins = {each["name"]: each["origin"] for each in report.body["settings"]}
        assert origins["SUPERVISOR_STOP_TIMEOUT"].endswith("supervisor.toml")
        assert origins["SUPERVISOR_CONFIG"] == "command line"
        assert report.body["text"].startswith("moltis-supervisor doctor")
        assert TOKEN not in str(report.body)
        run.stop()
        assert doctor_of(run).body["running"] is False


def test_for_people(tmp_path: Path) -> None:
    """The output has groups with findings, no colours in a pipe, and the number of findings of each level."""
    done = subprocess.run(
        [*PROGRAM, "doctor"], env=environment(tmp_path), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("moltis-supervisor ")
    assert {"settings", "rights", "machine", "settings in force"} <= set(lines)
    assert "\x1b" not in done.stdout
    assert re.fullmatch(r"\d+ ok, \d+ notes?, \d+ problems?", lines[-1])


def test_it_is_loaded_for_whoever_asks(tmp_path: Path) -> None:
    """No other command, and no start, loads any part of it."""
    listed = "print([name for name in sys.modules if '.doctor' in name])"
    code = f"import sys\nfrom supervisor.cli import main\nmain(['check'])\n{listed}"
    env = environment(tmp_path)
    done = subprocess.run([sys.executable, "-I", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_bad_word_is_told(tmp_path: Path) -> None:
    """The doctor takes no arguments."""
    assert call(tmp_path, "doctor", "now").code == 64


# Checks that never find a problem, and why.
NO_PROBLEM = {
    "supervisor": "the command is made for a place where none runs",
    "users": "what they cannot do is told by the settings and by other checks",
    "sandbox": "it is the platform's, and all of it works there",
    "udp": "relays work without it",
    "your-path": "a relayed one works",
}


def test_every_check_has_a_test_that_provokes_its_problem() -> None:
    """Each check, future ones too, has a test with a real problem, or a reason why there is none."""
    by_name = {check.name: name for part in PARTS for name, check in vars(part).items() if isinstance(check, Check)}
    assert set(by_name) == {check.name for check in CHECKS}
    code = "".join(module.text for module in modules("supervisor") if module.name.startswith("supervisor.doctor."))
    tests = "".join(module.text for module in modules("tests") if module.name.startswith("tests.doctor."))
    provoked = {name for name in by_name if f'problem("{name}")' in tests}
    assert set(by_name) - provoked == set(NO_PROBLEM)
    assert not {name for name in NO_PROBLEM if re.search(rf"\b{by_name[name]}\.problem\(", code)}
