"""The versions in use: of the package with its commit, and of the programs it works with."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import TYPE_CHECKING

from supervisor import __version__
from supervisor.characters import printable
from supervisor.config import permissions
from supervisor.config.users import Host
from supervisor.core.process import ProcessSpec

if TYPE_CHECKING:
    from supervisor.core.process import User

_ANSWER_S = 5.0
_NOT_KNOWN = "not known"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Written when the image is built, which has no git repository.
COMMIT_FILE = os.path.join(_PACKAGE, "COMMIT")


def report() -> str:
    """Return the versions as lines, the package first."""
    versions = {
        "commit": _commit(),
        "python": platform.python_version(),
        "tailscaled": _told("tailscaled", "--version"),
        # `restic 0.18.1 compiled with …`
        "restic": _told("restic", "version").removeprefix("restic ").partition(" compiled")[0],
    }
    return "".join([f"moltis-supervisor {__version__}\n", *(f"{name:<11} {said}\n" for name, said in versions.items())])


def _commit() -> str:
    try:
        with open(COMMIT_FILE, encoding="ascii") as file:
            return file.readline().strip()
    except OSError:
        checkout = os.path.dirname(_PACKAGE)
        return _told("git", "-C", checkout, "rev-parse", "HEAD") if os.path.exists(f"{checkout}/.git") else _NOT_KNOWN


def _told(*words: str) -> str:
    """Return the first line that a program of PATH prints, or why there is none; root runs only root's programs."""
    spec = ProcessSpec("--version", words, _environment(), Host().cwd)
    why = permissions.why_not_run(spec)
    return f"{_NOT_KNOWN}: {why}" if why else _said(*words)


def tailscaled_version(program: str, user: User | None) -> str:
    """Return the version of the tailscaled at this path, run as ``user``; empty if it does not print one."""
    said = _said(program, "--version", user=user)
    return "" if said.startswith(_NOT_KNOWN) else said


def _environment() -> dict[str, str]:
    """Return what a program needs: the whole environment has secrets, and git looks for its settings in HOME."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def _said(*words: str, user: User | None = None) -> str:
    """Return the first line that a program prints, or why there is none."""
    try:
        # This command is a process of its own, so it does not conflict with the reaper.
        program = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_environment(),
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else (),
        )
    except OSError as error:
        return f"{_NOT_KNOWN}: {error.strerror}"
    with program:
        try:
            said, _ = program.communicate(timeout=_ANSWER_S)
        except (subprocess.TimeoutExpired, UnicodeDecodeError):
            program.kill()
            said = ""
        return printable(said.partition("\n")[0].strip()) or f"{_NOT_KNOWN}: {words[0]} does not tell"
