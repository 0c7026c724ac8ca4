"""Plants defects into a copy of the package, one at a time, and reports which of them chaos finds, and how soon.

    python -m tests.chaos.planted [NAME …]

A defect replaces one text. A test fails when the code changes so that the text is not there any more; the defect is
then adapted here. The package itself is never changed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import supervisor

ROUNDS = 200
SEED = "planted"
_LONGEST_S = 1200.0


class Defect(NamedTuple):
    """A replacement of one text in a file."""

    path: str
    old: str
    new: str


DEFECTS = {
    "a second waiter": Defect(
        "runtime/engine.py",
        "        before = self.reaper.orphans\n",
        "        import os\n        from contextlib import suppress\n\n        with suppress(ChildProcessError):\n"
        "            os.waitpid(-1, os.WNOHANG)\n        before = self.reaper.orphans\n",
    ),
    "an orphan ends the reaping": Defect(
        "system/reaper.py",
        "                on_orphan(pid)\n                continue\n",
        "                return False\n",
    ),
    "a lost lock": Defect(
        "system/dirs.py", "        locked = take_lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "        locked = True\n"
    ),
    "a missing drain": Defect("runtime/child.py", "        engine.log.drain(self.spec.name)\n", ""),
    "an unmasked path": Defect(
        "logs/pipeline.py", "if text is None or self.redactor.touches(text, daemon=daemon):", "if text is None:"
    ),
    "a forgotten rest of a chunk": Defect("logs/lines.py", "        self._keep(data[end:])\n", ""),
    "a short write taken for a whole": Defect(
        "logs/writer.py",
        "view = view[os.write(self._fd, view[:_WRITE_BYTES]) :]",
        "view = (os.write(self._fd, view[:_WRITE_BYTES]), view[_WRITE_BYTES:])[1]",
    ),
    "a reader that went is gone for ever": Defect(
        "logs/writer.py",
        "                if error.errno == errno.EPIPE and self._is_pipe:\n",
        "                if False:\n",
    ),
    "lines dropped and not counted": Defect("logs/writer.py", "                self._dropped_lines += lines\n", ""),
    "a full log that never resumes": Defect(
        "logs/pipeline.py", "        self._each_pipe(lambda pipe: pipe.resume())\n", ""
    ),
    "a pipe's end that stays open": Defect("system/spawn.py", "        os.close(err_write)\n", ""),
    "nothing ended after the stop": Defect("runtime/stop.py", "        await self._sweep_all()\n", ""),
    "children that outlive a killed supervisor": Defect(
        "system/kernel.py",
        '    return (setpriv, "--pdeathsig", "KILL", "--no-new-privs")',
        '    return (setpriv, "--no-new-privs")',
    ),
    "a file left that says it runs": Defect(
        "commands/resources.py", "            dirs.remove_file(self._run_fd, HTTP_FILE)\n", ""
    ),
    "a setting handed to every process": Defect(
        "config/plan.py",
        "    env = {name: environ[name] for name in _COMMON if environ.get(name)}\n",
        '    env = {name: environ[name] for name in (*_COMMON, "SUPERVISOR_TOKEN") if environ.get(name)}\n',
    ),
    "a secret on a command line": Defect(
        "system/spawn.py",
        "program, *spec.argv[1:]],\n",
        'program, *spec.argv[1:], os.environ["SUPERVISOR_TOKEN"]],\n',
    ),
    "a late timer that counts": Defect(
        "runtime/engine.py",
        "        return self.children[timer.name].generation == timer.generation\n",
        "        return True\n",
    ),
    "a loop that sleeps": Defect(
        "runtime/child.py",
        "        # Imported with the loop, so that no child starts later because of it.\n",
        "        time.sleep(0.4)\n",
    ),
    "a start lost while it stops": Defect("core/process.py", '    "START": _set_wanted,\n', '    "START": _nothing,\n'),
    "an end that a second TERM breaks": Defect(
        "runtime/main_loop.py",
        "        elif number == signal.SIGINT and self._interrupts > 1:\n",
        "        elif number == signal.SIGTERM:\n            raise SystemExit(1)\n"
        "        elif number == signal.SIGINT and self._interrupts > 1:\n",
    ),
    "a pid that is not told anew": Defect(
        "runtime/child.py", "            pid=spawned.pid,\n            started_s", "            started_s"
    ),
    "a line passed on before its end": Defect(
        "logs/lines.py", '        end = data.rfind(b"\\n") + 1\n', "        end = len(data)\n"
    ),
    "connections without a limit": Defect("web/acceptor.py", "MOST_CONNECTIONS = 256", "MOST_CONNECTIONS = 100_000"),
}


def plant(defect: Defect, folder: Path) -> None:
    """Copy the package into a folder with this defect. Raises ValueError unless its text occurs exactly once."""
    shutil.copytree(
        Path(supervisor.__file__).parent, folder / "supervisor", ignore=shutil.ignore_patterns("__pycache__")
    )
    path = folder / "supervisor" / defect.path
    text = path.read_text()
    if text.count(defect.old) != 1:
        raise ValueError(f"{defect.path} has this {text.count(defect.old)} times: {defect.old!r}")
    path.write_text(text.replace(defect.old, defect.new))


def hunt(defect: Defect) -> tuple[str, str]:
    """Return after how many rounds it was found (empty if it was not), and the violation."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        plant(defect, Path(folder))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.chaos", "--package", folder, "--seed", SEED, "--rounds", str(ROUNDS)),
                *("--most", "1", "--no-shrink", "--no-table"),
            ],
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
    said = re.search(r"VIOLATION in life \d+ of seed \w+: (.*)", done.stdout)
    rounds = re.search(r": (\d+) rounds", done.stdout)
    if done.returncode and said is None:
        return "", f"it failed otherwise: {done.stderr[-300:]}"
    return (rounds[1] if rounds and said else ""), said[1][:90] if said else ""


def main() -> int:
    """Hunt for all defects, or those named; return the number of those not found."""
    missed = 0
    names = sys.argv[1:] or [*DEFECTS]
    for name in names:
        begun_s = time.monotonic()
        rounds, said = hunt(DEFECTS[name])
        missed += not rounds
        found = f"round {rounds:>3}" if rounds else "NOT FOUND"
        print(f"{name:45} {found:10} {time.monotonic() - begun_s:5.0f} s  {said}", flush=True)
    print(f"{len(names) - missed} of {len(names)} found within {ROUNDS} rounds")
    return missed


if __name__ == "__main__":
    sys.exit(main())
