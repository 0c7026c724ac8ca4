"""Processes as /proc shows them: their identity, and what they belong to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.core.process import ProcessSpec
from supervisor.system import procfs
from supervisor.system.procfs import Process, Remains, lives_on, look

if TYPE_CHECKING:
    import pytest


def test_another_one_of_the_same_pid_is_another_one() -> None:
    """Pids are reused: its time of birth identifies a process."""
    own = look(os.getpid())
    assert own is not None
    assert lives_on(own)
    assert not lives_on(own._replace(born=own.born - 1))


def test_what_was_found_once_stays_found_and_its_pid_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A remnant that sheds its last mark is still one; a later process with its pid is not."""
    marked = Process(4711, "x", stopped=False, parent=1, group=99, session=99, born=5, folder="/proc/none")
    shed = marked._replace(group=1, session=1)
    monkeypatch.setattr(procfs, "children", lambda _pid: [])
    remains = Remains(ProcessSpec("app", ("x",), {}), 99, ())
    for process, found in ((marked, [marked]), (shed, [shed]), (shed._replace(born=6), [None])):
        monkeypatch.setattr(procfs, "look", lambda _pid, process=process: process)
        assert list(remains.find([4711])) == found
