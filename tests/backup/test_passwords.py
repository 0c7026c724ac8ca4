"""A password that is changed while an instance runs, and two instances with different ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.backup.deploying import Disk, readiness, wait_ready
from tests.backup.test_two import HASTE, at_work, is_out, takes_over
from tests.backup.world import back_up, health_of, listed, wait_for_state
from tests.client.calling import call
from tests.support.backups import PASSWORD, restic
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_NEW = "another password of it"


def add_key(repository: str, folder: Path) -> None:
    """Give the repository a second password."""
    path = folder / "to-add"
    path.write_text(_NEW)
    restic(repository, "key", "add", "--new-password-file", str(path))


def test_of_two_with_different_passwords_one_stops(tmp_path: Path) -> None:
    """The owner is not advised to take over from one that lives; if that is done all the same, that one gives way."""
    old, new = (Disk(str(tmp_path / "repository")) for _ in range(2))
    haste = {**HASTE, "again_s": 0.5}
    with at_work(old, "old", haste=haste) as one:
        add_key(old.repository, tmp_path)
        with new.container(haste, SUPERVISOR_BACKUP_PASSWORD=_NEW) as two:
            assert "not written with this password" in wait_for_state(two, "held: choose")["why"]
            wait_until(lambda: "keeps writing it" in listed(two)["why"], what="the reason")
            held = listed(two)
            assert "end the other instance" in held["what_to_do"]
            assert "a choice of yours" not in held["what_to_do"]
            newest = held["snapshots"][-1]["id"]
            assert call(two.run_dir, "backup", "restore", newest, "--yes").code == 0
            is_out(one)
            assert takes_over(two, new) == ["old"]
            assert back_up(two)["whole"]
            assert two.find("another instance has taken over") is None
            assert health_of(two)["status"] == "pass"


def test_a_file_whose_password_was_changed_is_used_at_once(tmp_path: Path) -> None:
    """Snapshots go on, and the next instance, with the same file, stands by as usual and takes over."""
    old, new = (Disk(str(tmp_path / "repository")) for _ in range(2))
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    with_file = {"SUPERVISOR_BACKUP_PASSWORD": "", "SUPERVISOR_BACKUP_PASSWORD_FILE": str(file)}
    with old.container(HASTE, **with_file) as one:
        wait_ready(one)
        old.keep("old")
        wait_for_state(one, "idle")
        back_up(one)
        add_key(old.repository, tmp_path)
        file.write_text(_NEW)
        assert back_up(one)["whole"]
        with new.container(HASTE, **with_file) as two:
            wait_for_state(two, "standby")
            wait_ready(two)
            assert readiness(two) == 200
            assert one.stop() == 0
            assert takes_over(two, new) == ["old"]
