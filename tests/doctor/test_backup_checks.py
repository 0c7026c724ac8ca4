"""The checks of the backups, with a real repository."""

from __future__ import annotations

from tests.backup.world import World, make_unclear, wait_for_state
from tests.doctor.asking import doctor, doctor_of, environment


def test_backups() -> None:
    """Held backups are a problem, working ones are not, and without a supervisor there is a note."""
    world = World()
    make_unclear(world)
    with world.running() as run:
        wait_for_state(run, "held: choose")
        assert "belong to no known snapshot" in doctor_of(run).problem("snapshots")
        run.stop()
    assert doctor(environment(world.folder, **world.env())).level("snapshots") == "note"
    with World().running() as run:
        wait_for_state(run, "idle")
        assert doctor_of(run).level("snapshots") == "ok"
