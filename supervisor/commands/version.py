"""What runs here: the package's version and commit, and the versions of what it works with."""

from __future__ import annotations

import os
import platform
import subprocess

from supervisor import __version__

_ANSWER_S = 5.0
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Written when the image is built, where there is no git.
COMMIT_FILE = os.path.join(_PACKAGE, "COMMIT")


def report() -> str:
    """Return it as lines, the package's own first."""
    versions = {
        "commit": _commit(),
        "python": platform.python_version(),
        "tailscaled": _said("tailscaled", "--version"),
        # `restic 0.18.1 compiled with …`
        "restic": _said("restic", "version").removeprefix("restic ").partition(" compiled")[0],
    }
    return "".join([f"moltis-supervisor {__version__}\n", *(f"{name:<11} {said}\n" for name, said in versions.items())])


def _commit() -> str:
    try:
        with open(COMMIT_FILE, encoding="ascii") as file:
            return file.readline().strip()
    except OSError:
        checkout = os.path.dirname(_PACKAGE)
        return _said("git", "-C", checkout, "rev-parse", "HEAD") if os.path.exists(f"{checkout}/.git") else "not known"


def _said(*words: str) -> str:
    """Return the first line of what a program prints, or why there is none."""
    try:
        # This process is nobody's process 1, so no reaper gets in the way.
        program = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError as error:
        return f"not known: {error.strerror}"
    with program:
        try:
            said, _ = program.communicate(timeout=_ANSWER_S)
        except (subprocess.TimeoutExpired, UnicodeDecodeError):
            program.kill()
            said = ""
        return said.partition("\n")[0].strip() or f"not known: {words[0]} does not tell"
