"""Processes as /proc shows them: their identity, and what they belong to."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from supervisor.core.process import ProcessSpec
from supervisor.system import procfs
from supervisor.system.procfs import Process, Remains, lives_on, look, state_of
from tests.support.processes import alive, freeze, headless, thaw
from tests.support.waiting import wait_until

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


def seen(pid: int) -> tuple[str, bool]:
    """Return the state of a live process, and whether it is taken for a stopped one."""
    found = look(pid)
    assert found is not None
    return state_of(pid), found.stopped


def test_the_state_of_one_whose_first_thread_has_ended_is_that_of_another() -> None:
    """The kernel shows a zombie while other threads run, stand still or wait for a disk; it is dead after the last."""
    code = headless("pass", "print(flush=True)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as headless_one:
        pid = headless_one.pid
        try:
            assert headless_one.stdout is not None
            headless_one.stdout.readline()
            freeze(pid)
            assert seen(pid) == ("T", True)
            thaw(pid)
            wait_until(lambda: seen(pid) == ("S", False))
        finally:
            headless_one.kill()
        wait_until(lambda: not alive(pid))
        assert look(pid) is None
        assert state_of(pid) == ""


def test_a_name_that_a_process_gave_itself_shows_what_is_invisible() -> None:
    """Any program may choose one that hides or reorders text."""
    with open("/proc/self/comm", "r+b", buffering=0) as file:
        before = file.read()
        try:
            file.write("a\u202eb\u3164".encode())
            own = look(os.getpid())
            assert (own and own.name, procfs.name_of(os.getpid())) == ("a\\u202eb\\u3164",) * 2
        finally:
            file.write(before.rstrip())


WITHOUT_DESCRIPTORS = """
import os, resource, subprocess
from supervisor.system import procfs
from supervisor.system.descriptors import DESCRIPTORS
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
DESCRIPTORS.claim()
child = subprocess.Popen(["sleep", "60"], env={"MINE": "1"})
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
found = procfs.look(child.pid)
seen = procfs.children(os.getpid()), procfs.read(f"{found.folder}/environ"), len(list(procfs.open_files(found.folder)))
child.kill()
print(seen == ([child.pid], b"MINE=1\\0", 3), child.pid in procfs.every_pid())
"""


def test_processes_are_found_without_a_free_descriptor() -> None:
    """Otherwise what a process left behind would not be found, and would stay until the stop."""
    words = (sys.executable, "-I", "-c", WITHOUT_DESCRIPTORS)
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True True\n", "")
