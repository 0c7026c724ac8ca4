"""Plants defects into a copy of the package, one at a time, and reports which of them chaos finds, and how soon.

    python -m tests.chaos.planted [NAME …]

A defect replaces one text, and names the checks that find it: a violation of another check, such as a late answer of a
busy machine, proves nothing. A test fails when the code changes so that the text is not there any more; the defect is
then adapted here. The package itself is never changed.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import supervisor
from tests.chaos import plan, prober, world
from tests.chaos.crew import may_be_alone, outcomes
from tests.chaos.surroundings import end_shared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.plan import Life

ROUNDS = 200
SEED = "planted"
_LONGEST_S = 1200.0


class Defect(NamedTuple):
    """A replacement of one text in a file, and the names of the checks that it violates."""

    path: str
    old: str
    new: str
    found_by: tuple[str, ...]


class Hunt(NamedTuple):
    """After how many rounds a defect was found, by which violation, and the violations of other checks before.

    ``violation`` is empty if it was not found.
    """

    rounds: int
    violation: str
    others: tuple[str, ...]


# A line that is missing, doubled or torn shows at the next look, or at the end.
_LINES = ("lines", "output", "the last lines")

DEFECTS = {
    "a second waiter": Defect(
        "runtime/engine.py",
        "        before = self.reaper.orphans\n",
        "        import os\n        from contextlib import suppress\n\n        with suppress(ChildProcessError):\n"
        "            os.waitpid(-1, os.WNOHANG)\n        before = self.reaper.orphans\n",
        ("truth", "orders carried out", "orders", "stop", "defects"),
    ),
    "an orphan ends the reaping": Defect(
        "system/reaper.py",
        "                on_orphan(pid)\n                continue\n",
        "                return False\n",
        ("zombies", "truth", "left after the stop", "stop"),
    ),
    "a lost lock": Defect(
        "system/dirs.py",
        "        locked = take_lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        locked = True\n",
        ("others",),
    ),
    "a missing drain": Defect(
        "runtime/child.py",
        "        engine.log.drain(self.spec.name)\n",
        "",
        _LINES,
    ),
    "an unmasked path": Defect(
        "logs/pipeline.py",
        "if text is None or self.redactor.touches(text, daemon=daemon):",
        "if text is None:",
        ("output",),
    ),
    "a forgotten rest of a chunk": Defect(
        "logs/lines.py",
        "        self._keep(data[end:])\n",
        "",
        _LINES,
    ),
    "a short write taken for a whole": Defect(
        "logs/writer.py",
        "view = view[os.write(self._fd, view[:_WRITE_BYTES]) :]",
        "view = (os.write(self._fd, view[:_WRITE_BYTES]), view[_WRITE_BYTES:])[1]",
        _LINES,
    ),
    "a reader that went is gone for ever": Defect(
        "logs/writer.py",
        "                if error.errno == errno.EPIPE and self._is_pipe:\n",
        "                if False:\n",
        _LINES,
    ),
    "lines dropped and not counted": Defect(
        "logs/writer.py",
        "                self._dropped_lines += lines\n",
        "",
        _LINES,
    ),
    "a full log that never resumes": Defect(
        "logs/pipeline.py",
        "        self._each_pipe(lambda pipe: pipe.resume())\n",
        "",
        _LINES,
    ),
    "a pipe's end that stays open": Defect(
        "system/spawn.py",
        "        os.close(err_write)\n",
        "",
        ("leaks",),
    ),
    "nothing ended after the stop": Defect(
        "runtime/stop.py",
        "        await self._sweep_all()\n",
        "",
        ("left after the stop",),
    ),
    "children that outlive a killed supervisor": Defect(
        "system/kernel.py",
        '    return (setpriv, "--pdeathsig", "KILL", "--no-new-privs")',
        '    return (setpriv, "--no-new-privs")',
        ("children of a killed supervisor",),
    ),
    "a file left that says it runs": Defect(
        "commands/resources.py",
        "            dirs.remove_file(self._run_fd, HTTP_FILE)\n",
        "",
        ("files",),
    ),
    "a setting handed to every process": Defect(
        "config/plan.py",
        "    env = {name: environ[name] for name in _COMMON if environ.get(name)}\n",
        '    env = {name: environ[name] for name in (*_COMMON, "SUPERVISOR_TOKEN") if environ.get(name)}\n',
        ("secrets",),
    ),
    "a secret on a command line": Defect(
        "system/spawn.py",
        "program, *spec.argv[1:]],\n",
        'program, *spec.argv[1:], os.environ["SUPERVISOR_TOKEN"]],\n',
        ("secrets",),
    ),
    "a late timer that counts": Defect(
        "runtime/engine.py",
        "        return self.children[timer.name].generation == timer.generation\n",
        "        return True\n",
        ("defects",),
    ),
    "a loop that sleeps": Defect(
        "runtime/child.py",
        "        # Imported with the loop, so that no child starts later because of it.\n",
        "        time.sleep(0.4)\n",
        ("health",),
    ),
    "a start lost while it stops": Defect(
        "core/process.py",
        '    "START": _set_wanted,\n',
        '    "START": _nothing,\n',
        ("orders carried out", "orders", "truth"),
    ),
    "an end that a second TERM breaks": Defect(
        "runtime/main_loop.py",
        "        elif number == signal.SIGINT and self._interrupts > 1:\n",
        "        elif number == signal.SIGTERM:\n            raise SystemExit(1)\n"
        "        elif number == signal.SIGINT and self._interrupts > 1:\n",
        ("exit code",),
    ),
    "a pid that is not told anew": Defect(
        "runtime/child.py",
        "            pid=spawned.pid,\n            started_s",
        "            started_s",
        ("truth",),
    ),
    "a line passed on before its end": Defect(
        "logs/lines.py",
        '        end = data.rfind(b"\\n") + 1\n',
        "        end = len(data)\n",
        ("output",),
    ),
    "connections without a limit": Defect(
        "web/acceptor.py",
        "MOST_CONNECTIONS = 256",
        "MOST_CONNECTIONS = 100_000",
        ("others",),
    ),
    "liveness that always fails": Defect(
        "web/front.py", 'is_well = path == "/healthz" or ', 'is_well = path != "/healthz" and ', ("health",)
    ),
    "health that always passes": Defect(
        "web/front.py",
        "        verdict = schemas.health(context, signed_in=False)\n",
        "        verdict = schemas.health(context, signed_in=False)\n        return _encode(verdict), 200\n",
        ("truth of health",),
    ),
    "a hung app taken for ready": Defect("core/health.py", "    if misses < MISSES:\n", "    if True:\n", ("others",)),
    "a child that is not restarted": Defect(
        "core/process.py",
        "FORCE_STOP=_go_inactive, RETRY_DUE=_spawn)",
        "FORCE_STOP=_go_inactive, RETRY_DUE=_nothing)",
        ("truth", "crash loop"),
    ),
    "standard error discarded": Defect(
        "logs/pipeline.py",
        "        # Imported with the first lines.\n        from supervisor.logs.parse import parse_batch\n",
        '        if source.stream == "stderr":\n            return\n'
        "        from supervisor.logs.parse import parse_batch\n",
        _LINES,
    ),
    "a full log with little patience": Defect(
        "logs/pipeline.py", "\nPATIENCE_S = 60.0\n", "\nPATIENCE_S = 0.3\n", _LINES
    ),
    "a long line cut": Defect("logs/lines.py", 'MORE + b"\\n", rest[cut:]', 'MORE + b"\\n", rest[cut + 1 :]', _LINES),
    "a loop blocked for a moment": Defect(
        "runtime/child.py",
        "        # Imported with the loop, so that no child starts later because of it.\n"
        "        from supervisor.system.procfs import Remains\n",
        '        time.sleep(0.13 * (self.spec.name == "maker"))\n'
        "        from supervisor.system.procfs import Remains\n",
        ("blocked",),
    ),
    "an auth key handed to every process": Defect(
        "config/plan.py",
        "    env = {name: environ[name] for name in _COMMON if environ.get(name)}\n",
        '    env = {name: environ[name] for name in (*_COMMON, "TS_AUTHKEY") if environ.get(name)}\n',
        ("secrets",),
    ),
    "keys of the bucket in restic's environment": Defect(
        "backup/restic.py",
        '            "RESTIC_PROGRESS_FPS": "1",\n',
        '            "RESTIC_PROGRESS_FPS": "1",\n'
        '            "AWS_SECRET": self._environ.get("SUPERVISOR_BACKUP_SECRET_ACCESS_KEY", ""),\n',
        ("secrets",),
    ),
    "an incident's file cut short": Defect(
        "incidents/incident_files.py",
        "        data = msgspec.json.encode(incident).decode()\n",
        "        data = msgspec.json.encode(incident).decode()[:-1]\n",
        ("files",),
    ),
    "no last snapshot": Defect(
        "runtime/stop.py",
        "        if self._plan.keep is not None:\n            until_s",
        "        if False:\n            until_s",
        ("last snapshot",),
    ),
    "a generation used twice": Defect(
        "backup/work.py",
        "self.keep(Kept(repository, last + 1, ",
        "self.keep(Kept(repository, max(last, 1), ",
        ("writers",),
    ),
    "a living holder replaced": Defect(
        "core/holding.py",
        "Claim.TAKE if seen.released or mine or still else",
        "Claim.TAKE if seen.released or mine or True else",
        ("wait", "last snapshot", "one holder"),
    ),
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


def hunt(defect: Defect, lives: Iterable[Life], at_once: int = 1) -> Hunt:
    """Play these lives with the defect until one of its checks finds it, or the time or the rounds are up."""
    rounds = 0
    others: list[str] = []
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        plant(defect, Path(folder))
        world.package = folder
        try:
            with contextlib.closing(outcomes(_some(lives), at_once)) as played:
                for life, outcome in played:
                    rounds += len(life.rounds)
                    if outcome.violation.partition(":")[0] in defect.found_by:
                        return Hunt(rounds, outcome.violation, tuple(others))
                    others += [outcome.violation] if outcome.violation else []
        finally:
            world.package = ""
    return Hunt(rounds, "", tuple(others))


def _some(lives: Iterable[Life]) -> Iterable[Life]:
    rounds, begun_s = 0, time.monotonic()
    for life in lives:
        if rounds >= ROUNDS or time.monotonic() - begun_s > _LONGEST_S:
            return
        rounds += len(life.rounds)
        yield life


def main() -> int:
    """Hunt for all defects, or those named; return the number of those not found."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Measured before any fault.
    prober.slowness()
    missed = 0
    names = sys.argv[1:] or [*DEFECTS]
    for name in names:
        begun_s = time.monotonic()
        rounds, violation, others = hunt(DEFECTS[name], plan.lives(SEED), 2 if may_be_alone() else 1)
        missed += not violation
        found = f"round {rounds:>3}" if violation else "NOT FOUND"
        print(f"{name:45} {found:10} {time.monotonic() - begun_s:5.0f} s  {violation[:90]!r}", flush=True)
        for other in others:
            print(f"{'':45} another violation: {other[:160]!r}", flush=True)
    print(f"{len(names) - missed} of {len(names)} found within {ROUNDS} rounds")
    return missed


if __name__ == "__main__":
    try:
        status = main()
    finally:
        end_shared()
    sys.exit(status)
