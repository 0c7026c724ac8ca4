"""A command has the container's secrets in its environment, so it makes itself undumpable before anything else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.client.calling import PROGRAM

# Runs the package as `python -m` does, and prints its modules that were imported while the process was dumpable.
TELL = (
    "import ctypes,runpy,sys\n"
    "seen=[]\n"
    "def listen(event,args):\n"
    "    if event=='import' and args[0].startswith('supervisor'):\n"
    "        seen.append((args[0],ctypes.CDLL(None).prctl(3)))\n"
    "sys.addaudithook(listen)\n"
    "sys.argv[1:]=sys.argv[2:]\n"
    "try: runpy.run_module('supervisor',run_name='__main__')\n"
    "finally: print(*(name for name,dumpable in seen if dumpable),file=sys.stderr)\n"
)


@pytest.mark.parametrize("words", [("--version",), ("status",), ("check",)])
def test_a_command_closes_its_environment_first_of_all(words: tuple[str, ...]) -> None:
    """Only the modules needed for this are loaded before."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", TELL, "-", *words],
        env={"SUPERVISOR_RUN_DIR": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    open_still = done.stderr.splitlines()[-1].split()
    assert set(open_still) <= {"supervisor", "supervisor.__main__", "supervisor.system", "supervisor.system.kernel"}


def test_the_installed_command_does_so_too() -> None:
    """It starts with the same module."""
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="moltis-supervisor")
    assert script.value == "supervisor.__main__:main"
    assert PROGRAM[-1] == "supervisor"
