"""The recorder alone: it survives its own errors, and its end does not wait for a disk."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from supervisor.core import incident_rules as rules
from supervisor.core.process import State
from supervisor.core.run_record import KILLED_RUN, RunEnd, RunRecord
from supervisor.core.snapshot import ExitView, ProcessView, Snapshot, TailnetView
from supervisor.incidents.delayed_changes import MOST_WAITING
from supervisor.incidents.incident_files import MOST_INCIDENTS, FolderContent, IncidentFiles
from supervisor.incidents.recorder import ALERT_S, LOAD_S, IncidentRecorder
from supervisor.runtime import loop_latency
from supervisor.runtime.store import SnapshotStore
from supervisor.system.kernel import OomCounter
from tests.config.machine import plan
from tests.logs.rig import Rig as LogRig
from tests.support.syncs import noted_syncs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.core.incidents import Incident

pytestmark = pytest.mark.anyio


class Rig:
    """A recorder on a store, and the log that it writes to."""

    def __init__(self, folder: Path) -> None:
        self.log = LogRig(out_fd=os.open(os.devnull, os.O_WRONLY)).log
        self.store = SnapshotStore(Snapshot())
        self.recorder = IncidentRecorder(plan({"TS_STATE_DIR": str(folder)}), self.store, self.log, OomCounter())

    def crash(self, at_s: float) -> None:
        """Record an exit of the app at this time."""
        end = ExitView(at_s, 3, None, 1.0, "exit code 3")
        self.store.update_process(ProcessView("moltis", State.BACKOFF, exits=(end,)))
        self.go_on()

    def go_on(self) -> None:
        """Handle the changes so far, as the loop does a moment later."""
        self.recorder._changes.handle()

    def kinds(self) -> list[str]:
        """Return the kinds of the incidents so far."""
        return [each.kind for each in self.store.snapshot.incidents.known]

    def events(self) -> list[str]:
        """Return the messages in the log."""
        return [line.message for line in self.log.history.read(-100, 100).lines]


async def test_an_error_of_its_own_costs_one_incident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next incident is recorded; the log reports the error once, however often it recurs."""
    rig = Rig(tmp_path)

    def broken(*_: object) -> Incident:
        raise LookupError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(rules, "of_end", broken)
        for at_s in range(1, 6):
            rig.crash(at_s)
    assert rig.kinds() == []
    assert sum("a defect" in line for line in rig.events()) == 1
    rig.crash(6)
    assert rig.kinds() == ["crash"]


async def test_an_incident_comes_after_what_follows_from_its_cause(tmp_path: Path) -> None:
    """A restart does not wait for the incident of the crash."""
    rig = Rig(tmp_path)
    end = ExitView(1.0, 3, None, 1.0, "exit code 3")
    rig.store.update_process(ProcessView("moltis", State.BACKOFF, exits=(end,), since_s=1.0, next_try_s=1.0))
    assert rig.kinds() == []
    rig.store.update_process(ProcessView("moltis", State.RUNNING, exits=(end,), started_s=1.5))
    assert rig.kinds() == []
    await until(lambda: rig.kinds() == ["crash"])


async def test_a_storm_of_changes_does_not_pile_up(tmp_path: Path) -> None:
    """Each waiting change holds the list of all processes, so they are handled without a pause once many wait."""
    rig = Rig(tmp_path)
    for number in range(MOST_WAITING):
        rig.store.update_orphans_reaped(number + 1)
    rig.store.update_process(ProcessView("moltis", exits=(ExitView(1.0, 3, None, 1.0, "exit code 3"),)))
    for number in range(MOST_WAITING):
        rig.store.update_orphans_reaped(MOST_WAITING + number + 1)
    assert rig.kinds() == ["crash"]


async def test_the_end_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that hangs is given up after a moment; the story is still returned."""
    rig = Rig(tmp_path)
    hangs = threading.Event()

    def hang(_files: IncidentFiles) -> FolderContent:
        hangs.wait(30 * LOAD_S)
        return FolderContent([], {})

    monkeypatch.setattr(IncidentFiles, "load", hang)
    monkeypatch.setattr("supervisor.incidents.recorder.LOAD_S", 0.1)
    try:
        assert rig.recorder.finish(0, None)["kind"] == "end"
        assert not hangs.is_set()
        assert not (tmp_path / "incidents").exists()
    finally:
        hangs.set()


async def test_a_disk_that_hangs_is_told_and_the_looks_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Incidents are stored once the disk answers; until then, why they are not is shown."""
    monkeypatch.setattr("supervisor.incidents.recorder.FOLDER_S", 0.05)
    rig = Rig(tmp_path)
    go_on, load = threading.Event(), IncidentFiles.load

    def hang(files: IncidentFiles) -> FolderContent:
        go_on.wait(30)
        return load(files)

    monkeypatch.setattr(IncidentFiles, "load", hang)
    monkeypatch.setattr("supervisor.incidents.recorder.LOOK_S", 0.05)
    running = asyncio.ensure_future(rig.recorder.run())
    try:
        rig.crash(1)
        await until(lambda: "does not answer" in rig.store.snapshot.incidents.why_not)
        assert not (tmp_path / "incidents").exists()
        go_on.set()
        await until(lambda: rig.store.snapshot.incidents.why_not == "" and [*tmp_path.glob("incidents/*crash.json")])
    finally:
        go_on.set()
        running.cancel()
    assert sum("incidents are not kept" in line for line in rig.events()) == 1


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.01)


async def test_a_disk_that_takes_nothing_costs_no_memory(tmp_path: Path) -> None:
    """An incident removed before it could be written is forgotten; a written one is removed once that is possible."""
    files = IncidentFiles(str(tmp_path / "none"))
    # No delay: each is written by itself.
    files.end()

    def incident(number: int) -> Any:
        return rules.of_stop(Snapshot(), number)

    for number in range(5 * MOST_INCIDENTS):
        files.write(_named(incident(number), f"i{number}"))
        if number >= MOST_INCIDENTS:
            files.remove([f"i{number - MOST_INCIDENTS}"])
        loop_latency.join_background(5.0)
    assert files.why_not
    assert len(files._pending) <= MOST_INCIDENTS
    (tmp_path / "none").mkdir()
    files.write(_named(incident(0), "last"))
    loop_latency.join_background(5.0)
    files.remove(["last"])
    loop_latency.join_background(5.0)
    assert len(list((tmp_path / "none/incidents").iterdir())) == MOST_INCIDENTS
    assert not files._pending


async def test_what_is_written_together_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each durable file is synced, after their renames the folder, once, and the others come after that."""
    synced = noted_syncs(monkeypatch, renames=True)
    files = IncidentFiles(str(tmp_path))
    files.write_run(RunRecord("r", 1.0, 1.0), durable=False)
    for name in ("one", "two", "gone"):
        files.write(_named(rules.of_stop(Snapshot(), 1.0), name))
    files.remove(["gone"])
    files.end()
    loop_latency.join_background(5.0)
    folder = f"{tmp_path}/incidents"
    ones = [f"{folder}/.one.json.new", "one.json", f"{folder}/.two.json.new", "two.json", folder]
    assert synced == [*ones, "run.json"]
    assert sorted(os.listdir(folder)) == ["one.json", "run.json", "two.json"]


@pytest.mark.parametrize(("then", "synced"), [((True, False), 2), ((False, True), 2), ((False, False), 0)])
async def test_what_waits_to_be_synced_is_synced_in_a_later_version_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: tuple[bool, ...], synced: int
) -> None:
    """The first record of a run was never on the disk for certain, as the next one comes in the same turn."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    files = IncidentFiles(str(tmp_path))
    for durable in then:
        files.write_run(RunRecord("r", 1.0, 1.0), durable=durable)
    files.end()
    loop_latency.join_background(5.0)
    assert len(calls) == synced


async def test_what_could_not_be_synced_is_synced_with_the_next_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if that one comes while the first is being written, and need not be synced itself."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    files = IncidentFiles(str(tmp_path))
    opened = IncidentFiles._opened

    def fail(files: IncidentFiles, **_: bool) -> Any:
        monkeypatch.setattr(IncidentFiles, "_opened", opened)
        files.write_run(RunRecord("r", 1.0, 2.0), durable=False)
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(IncidentFiles, "_opened", fail)
    files.end()
    files.write_run(RunRecord("r", 1.0, 1.0), durable=True)
    loop_latency.join_background(5.0)
    assert (files.why_not != "", calls) == (True, [])
    files.write_run(RunRecord("r", 1.0, 3.0), durable=False)
    loop_latency.join_background(5.0)
    assert (files.why_not, len(calls)) == ("", 2)


async def test_ends_of_runs_are_not_counted_together(tmp_path: Path) -> None:
    """Ten runs that were killed within an hour have ends like that of the next one; its own was counted as theirs."""
    rig = Rig(tmp_path)
    for number in range(10):
        killed = rules.of_run(RunEnd(KILLED_RUN, time.time() - number, "it was not told to stop"), "")
        rig.recorder._add(killed, RunRecord(f"old{number}", 1.0, 1.0))
    assert rig.recorder.finish(0, None)["what"] == "the container was stopped"
    assert len({each.run for each in rig.store.snapshot.incidents.known}) == 11
    loop_latency.join_background(5.0)


async def test_what_was_written_before_a_failure_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is synced for the files that were written, whatever prevents the next one."""
    synced = noted_syncs(monkeypatch)
    folder = tmp_path / "incidents"
    (folder / ".two.json.new").mkdir(parents=True)
    files = IncidentFiles(str(tmp_path))
    for name in ("one", "two"):
        files.write(_named(rules.of_stop(Snapshot(), 1.0), name))
    files.end()
    loop_latency.join_background(5.0)
    assert synced == [f"{folder}/.one.json.new", str(folder)]
    assert "two.json" in files.why_not


async def test_a_secret_of_an_incident_is_masked_and_counted_once(tmp_path: Path) -> None:
    """In each of its texts, whatever the text before it ends with."""
    rig = Rig(tmp_path)
    rig.log.redactor.learn("geheimnis")
    told = rig.recorder._masked(
        msgspec.structs.replace(
            rules.of_stop(Snapshot(), 1.0), why=r"x\x1b", cause=r"gehe\x1b[31mimnis", last_lines=("a geheimnis", "b")
        )
    )
    assert (told.cause, told.last_lines) == ("[redacted]", ("a [redacted]", "b"))
    assert rig.log.redactor.masked == 2


async def test_errors_that_were_only_counted_are_told_at_the_end(tmp_path: Path) -> None:
    """The first is logged with its reason, the others a minute later, or by the end that comes before."""

    def fails() -> None:
        raise ValueError

    rig = Rig(tmp_path)
    for _ in range(3):
        rig.recorder._guarded(fails)
    rig.recorder.finish(0, None)
    told = [text for text in rig.events() if text.startswith("an incident was not recorded")]
    assert ["times=1" in told[0], "times=2" in told[1]] == [True, True]


async def test_the_newest_incident_stays_if_the_clock_was_set_back(tmp_path: Path) -> None:
    """It was the oldest then, and removed at once; without the incident of the end, the end was not recorded."""
    rig = Rig(tmp_path)
    rig.recorder._adopt(rig.recorder._load())
    for number in range(MOST_INCIDENTS):
        later = msgspec.structs.replace(rules.of_stop(Snapshot(), 10.0**9 + number), kind="crash", subject=f"p{number}")
        rig.recorder._add(later)
    assert rig.recorder.finish(0, None)["kind"] == "end"
    assert rig.kinds().count("end") == 1


async def test_incidents_that_a_wrong_clock_dated_later_are_removed_before_those_of_this_run(tmp_path: Path) -> None:
    """A hundred of them made each new incident the oldest, which was removed at once."""
    (tmp_path / "incidents").mkdir()
    later_s = time.time() + 365 * 86400
    for number in range(MOST_INCIDENTS):
        later = msgspec.structs.replace(rules.of_stop(Snapshot(), later_s + number), id=f"i{number}", run="another")
        (tmp_path / "incidents" / f"{later.id}.json").write_bytes(msgspec.json.encode(later))
    rig = Rig(tmp_path)
    rig.recorder._adopt(rig.recorder._load())
    rig.crash(1)
    known = rig.store.snapshot.incidents.known
    assert (known[0].kind, len(known)) == ("crash", MOST_INCIDENTS)
    assert "i0" not in {each.id for each in known}


def _named(incident: Incident, name: str) -> Incident:
    return msgspec.structs.replace(incident, id=name)


async def test_outages_are_told_apart_by_a_clock_that_nobody_sets(tmp_path: Path) -> None:
    """An outage after the wall clock was set back is recorded; one during which it was set forward is recorded once."""
    rig = Rig(tmp_path)
    up = TailnetView("embedded", "connected", up=True, first_up_s=1.0)

    def away(since_s: float) -> None:
        rig.store.update_tailnet(up._replace(up=False, since_s=since_s, away_since_s=since_s))

    for number, offset_s in enumerate((1e9, 1e9 - 3600), 1):
        rig.store.update_wall_offset(offset_s)
        away(50.0 * number)
        rig.store.update_tailnet(up._replace(since_s=50.0 * number + 20))
        rig.go_on()
        assert dict(rig.store.snapshot.incidents.counts) == {"tailnet-away": number}
    away(150.0)
    rig.recorder._look()
    rig.store.update_wall_offset(1e9)
    rig.store.update_tailnet(up._replace(since_s=170.0))
    rig.go_on()
    assert dict(rig.store.snapshot.incidents.counts) == {"tailnet-away": 3}


@pytest.mark.parametrize("set_by_s", [-3600.0, 3600.0])
async def test_a_stop_takes_as_long_as_it_does_whatever_the_clock_says(tmp_path: Path, set_by_s: float) -> None:
    """Setting the wall clock meanwhile does not change the reported duration."""
    rig = Rig(tmp_path)
    rig.store.update_wall_offset(1e9)
    rig.store.update_stopping("SIGTERM received")
    rig.store.update_wall_offset(1e9 + set_by_s)
    rig.store.snapshot = rig.store.snapshot._replace(stopping_s=time.monotonic() - 5.0)
    assert "within 5." in str(rig.recorder.finish(0, None)["done"])


@pytest.mark.parametrize(("timeout_s", "most_s"), [(3600.0, ALERT_S), (5.0, 0.0)])
@pytest.mark.parametrize("set_by_s", [-3600.0, 0.0, 3600.0])
async def test_an_alert_gets_what_is_left_of_the_stop(
    tmp_path: Path, set_by_s: float, timeout_s: float, most_s: float
) -> None:
    """An alert gets ALERT_S, or nothing if the stop has used up its time, whatever the wall clock."""
    rig = Rig(tmp_path)
    rig.recorder._stop_timeout_s = timeout_s
    assert rig.recorder._left_s() == ALERT_S
    rig.store.update_wall_offset(1e9 + set_by_s)
    rig.store.update_stopping("SIGTERM received")
    rig.store.snapshot = rig.store.snapshot._replace(stopping_s=time.monotonic() - 5.0)
    assert rig.recorder._left_s() == most_s


async def test_an_end_that_leaves_something_is_not_called_orderly(tmp_path: Path) -> None:
    """Examples are an error of the supervisor itself, or a broken disk that keeps a process from exiting."""
    rig = Rig(tmp_path)
    rig.store.update_process(ProcessView("moltis", State.KILLING, pid=7))
    rig.store.update_left(("cp",))
    story = rig.recorder.finish(70, "internal error: LookupError()")
    assert story["done"] == "not everything was ended in order: cp, moltis still ran after 0.0 s; exit code 70"
