"""How a run finds out how the previous one ended, and what it records of its own end."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.incidents.looking import recorded, wait_recorded
from tests.process.running import running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

STAYS = ("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")


def run_record(folder: Path) -> dict[str, Any]:
    """Return the run's own record on the disk."""
    path = folder / "incidents" / "run.json"
    found: dict[str, Any] = wait_until(lambda: json.loads(path.read_text()) if path.exists() else None)
    return found


def test_a_stop_in_order_is_told_by_the_last_line_and_by_the_next_run(tmp_path: Path) -> None:
    """The container's log ends with the story as JSON; the next run reports that the stop was in order."""
    env = {"TS_STATE_DIR": str(tmp_path)}
    with running(*STAYS, env=env) as run:
        run.wait_for("ready")
        run.wait_for("previous run", how="none is known here")
        assert run.stop() == 0
        last = run.records[-1]
        assert last["message"] == "stopped"
        assert (last["story"]["kind"], last["story"]["why"]) == ("end", "SIGTERM received")
        assert last["story"]["done"].endswith("exit code 0")
    with running(*STAYS, env=env) as run:
        told = run.wait_for("previous run")
        assert (told["how"], told["why"], told["level"]) == ("stopped in order", "SIGTERM received", "info")
        kept = wait_recorded(tmp_path, "end", level="info")
        wait_until(lambda: "started again at" in recorded(tmp_path, "end")[0]["done"])
        assert kept["cause"].startswith("the platform")


def test_an_end_is_known_from_its_incident_after_a_power_loss(tmp_path: Path) -> None:
    """The record's last version is not synced, so the one on the disk may be without content."""
    env = {"TS_STATE_DIR": str(tmp_path)}
    with running(*STAYS, env=env) as run:
        run.wait_for("previous run")
        assert run.stop() == 0
    (tmp_path / "incidents" / "run.json").write_text("")
    with running(*STAYS, env=env) as run:
        told = run.wait_for("previous run", how="stopped in order", level="info")
        assert (told["why"], told["status"]) == ("SIGTERM received", 0)
        wait_until(lambda: "started again at" in recorded(tmp_path, "end")[0]["done"])


def test_a_killed_supervisor_is_found_by_the_next_run(tmp_path: Path) -> None:
    """The killed run could not record its end: its record has the time when it was last known to be alive."""
    env = {"TS_STATE_DIR": str(tmp_path)}
    with running(*STAYS, env=env) as run:
        run.wait_for("previous run")
        alive_s = run_record(tmp_path)["alive_s"]
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    with running(*STAYS, env=env) as run:
        told = run.wait_for("previous run")
        assert (told["how"], told["level"]) == ("killed", "warning")
        kept = wait_recorded(tmp_path, "end", level="error")
        assert kept["what"] == "the container was killed"
        assert kept["at_s"] >= alive_s
        assert kept["cause"].startswith("something outside")


def test_a_killed_run_has_not_ended_before_its_last_incident(tmp_path: Path) -> None:
    """A run's record is renewed only every 15 seconds, so a later incident is a sign of life too."""
    env = {"TS_STATE_DIR": str(tmp_path), "SUPERVISOR_BACKOFF_INITIAL": "10m", "SUPERVISOR_BACKOFF_MAX": "10m"}
    with running("sh", "-c", "sleep 1; exit 3", env=env) as run:
        crash = wait_recorded(tmp_path, "crash")
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert run_record(tmp_path)["alive_s"] < crash["at_s"]
    with running(*STAYS, env=env) as run:
        run.wait_for("previous run", how="killed")
        assert wait_recorded(tmp_path, "end", level="error")["at_s"] >= crash["at_s"]


def test_a_stop_that_was_cut_short_is_told_as_such(tmp_path: Path) -> None:
    """If the run was killed while stopping, the cause says that the grace period was too short."""
    env = {"TS_STATE_DIR": str(tmp_path), "SUPERVISOR_STOP_TIMEOUT": "30s"}
    with running("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done", env=env) as run:
        run.wait_for("ready")
        run.wait_for("previous run")
        run.send(signal.SIGTERM)
        wait_recorded(tmp_path, "end", level="info")
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    with running(*STAYS, env=env) as run:
        assert run.wait_for("previous run")["how"] == "never ended"
        kept = wait_recorded(tmp_path, "end", level="error")
        assert kept["what"] == "the container was killed while it was stopping"
        assert "grace period" in kept["cause"]
        # One end is one incident: the one that the run wrote itself was completed.
        assert len(recorded(tmp_path, "end")) == 1


@pytest.mark.parametrize("command", [("sh", "-c", "exit 3"), ("/no/such/program",)])
def test_an_end_that_comes_before_anything_is_loaded_is_kept(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A very short run still records its incidents."""
    env = {"TS_STATE_DIR": str(tmp_path), "SUPERVISOR_RESTART": "never"}
    with running(*command, env=env) as run:
        assert run.wait() != 0
    assert recorded(tmp_path, "end")
    assert recorded(tmp_path, "crash" if command[0] == "sh" else "not-started")


def test_a_give_up_ends_with_the_whole_story(tmp_path: Path) -> None:
    """Each failure and the give-up are recorded; the end with 70 has its story in the last line."""
    # A start is proven at once, but the earlier failure still counts towards the give-up.
    env = {"TS_STATE_DIR": str(tmp_path), "SUPERVISOR_GIVE_UP": "2/1m", "SUPERVISOR_BACKOFF_RESET": "0s"}
    with running("sh", "-c", "sleep 0.3; echo no good; exit 5", env=env) as run:
        assert run.wait() == 70
        last = run.records[-1]
        assert (last["message"], last["story"]["kind"], last["story"]["level"]) == ("stopped", "end", "error")
        assert last["story"]["what"] == "the container ended with exit code 70"
        assert "see the incidents before" in last["story"]["cause"]
    assert len(recorded(tmp_path, "crash")) == 2
    given_up = recorded(tmp_path, "give-up")[0]
    assert (given_up["last_lines"], given_up["why"]) == (["no good"], "it failed 2 times; the last time: exit code 5")


def test_a_panic_is_the_cause_of_its_own_end_only(tmp_path: Path) -> None:
    """The next exit in a crash loop, a moment later, has its own cause."""
    once, twice = tmp_path / "once", tmp_path / "twice"
    script = (
        f"test -e {twice} && exec sleep 300; "
        f"test -e {once} && touch {twice} && echo no good && exit 3; "
        f"touch {once}; echo 'panic: boom'; exit 2"
    )
    env = {"TS_STATE_DIR": str(tmp_path), "SUPERVISOR_BACKOFF_INITIAL": "10ms", "SUPERVISOR_BACKOFF_MAX": "10ms"}
    with running("sh", "-c", script, env=env) as run:
        run.wait_count(3, "started", child="moltis")

        def crashes() -> list[Any]:
            return [record["story"] for record in run.all("incident") if record["story"]["kind"] == "crash"]

        wait_until(lambda: len(crashes()) == 2)
        first, second = crashes()
        assert [first["cause"], second["cause"]] == ["it panicked: panic: boom", "its last words: no good"]
        assert run.stop() == 0


def test_a_panic_of_the_next_run_is_not_the_cause_of_an_end(tmp_path: Path) -> None:
    """It may come before the incident of that end is recorded, if there is no delay before the restart."""
    env = {"TS_STATE_DIR": str(tmp_path), "SUPERVISOR_BACKOFF_INITIAL": "0ms", "SUPERVISOR_BACKOFF_MAX": "0ms"}
    words = f"mkdir {tmp_path}/second 2>/dev/null && {{ echo no good; exit 3; }}; echo 'panic: boom'; exit 2"
    with running("sh", "-c", words, env=env | {"SUPERVISOR_GIVE_UP": "never"}) as run:
        run.wait_for("exited", code=2)
        first = wait_recorded(tmp_path, "crash", code=3)
        assert (first["last_lines"], "panic" in first["cause"]) == (["no good"], False)
        assert "panic: boom" in wait_recorded(tmp_path, "crash", code=2)["cause"]


def test_a_process_that_is_given_up_in_a_stop_ends_nothing(tmp_path: Path) -> None:
    """If a critical process is given up while a TERM is carried out, the container still exits with 0."""
    toml = """
        [process.base]
        command = ["sh", "-c", "sleep 1; exit 3"]
        critical = true
        [process.slow]
        command = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]
        after = ["base"]
        """
    env = {"TS_STATE_DIR": str(tmp_path), "SUPERVISOR_GIVE_UP": "1/1m", "SUPERVISOR_STOP_TIMEOUT": "6s"}
    with running(*STAYS, env=env, toml=toml) as run:
        run.wait_for("up")
        assert run.stop() == 0
        run.wait_for("given up")
    given_up = recorded(tmp_path, "give-up")[0]
    assert given_up["done"] == "it is not started again, as everything is being stopped"


def test_what_is_done_about_a_failed_start_is_what_follows(tmp_path: Path) -> None:
    """The start that failed is still under way when it is recorded; it is not taken for the next one."""
    toml = '[process.again]\ncommand = ["/no/such/program"]\n'
    env = {"TS_STATE_DIR": str(tmp_path), "SUPERVISOR_BACKOFF_MAX": "1s"}
    with running(*STAYS, env=env, toml=toml) as run:

        def done() -> list[str]:
            stories = [record["story"] for record in run.all("incident")]
            return [story["done"] for story in stories if story["subject"] == "again"]

        wait_until(lambda: len(done()) > 2)
        assert all(words.startswith("it is started again after ") for words in done())
        assert run.stop() == 0
