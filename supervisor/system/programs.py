"""Decides which file a command's first word stands for: the one place that knows, for `check` and for every start."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from supervisor.core.model import ProcessSpec

NOT_EXECUTABLE = 126
NOT_FOUND = 127
# elf(5): the magic, and where e_machine stands; x86-64 runs i386, and aarch64 may run arm.
_ELF = b"\x7fELF"
_ELF_MACHINE = slice(18, 20)
_ELF_COMPATIBLE = {(b"\x3e\0", b"\x03\0"), (b"\xb7\0", b"\x28\0")}


class SpawnError(Exception):
    """A process could not be started; ``code`` is what a shell would answer: 127 not found, 126 not executable."""

    def __init__(self, code: int, why: str) -> None:
        self.code = code
        self.why = why
        super().__init__(why)


class _Unfit(NamedTuple):
    path: str
    why: str


def candidates(name: str, env_path: str, cwd: str) -> list[str]:
    """Return the files that ``name`` may stand for, as absolute paths, the one that counts first.

    As for execvp(3) after a change to ``cwd``, the working directory of the process: that is where a relative name
    begins, and a relative folder of PATH.
    """
    if "/" in name:
        return [os.path.join(cwd, name.removeprefix("./"))]
    return [os.path.join(cwd, part, name) for part in env_path.split(":")]


def of(spec: ProcessSpec) -> str:
    """Return the file that a process's command runs. Raises SpawnError as ``find`` does."""
    return find(spec.argv[0], spec.env.get("PATH", os.defpath), spec.cwd)


def find(name: str, env_path: str, cwd: str) -> str:
    """Return the file to run. Raises SpawnError where there is none, or none that may be executed."""
    unfit = None
    for path in candidates(name, env_path, cwd):
        why = _why_not(path)
        if why == "":
            _check_format(path)
            return path
        if why is not None and unfit is None:
            unfit = _Unfit(path, why)
    if unfit is not None:
        raise SpawnError(NOT_EXECUTABLE, f"cannot run {unfit.path}: {unfit.why}")
    if "/" not in name:
        where = f"no such program in PATH ({env_path})"
    elif os.path.isabs(name):
        where = "no such file"
    else:
        where = f"no such file in its working directory {cwd}"
    raise SpawnError(NOT_FOUND, f"cannot run {name}: {where}; put it into the image, or mend the command's first word")


def _why_not(path: str) -> str | None:
    """Return why a file cannot be run: empty where it can, None where there is none."""
    try:
        mode = os.stat(path).st_mode
    except PermissionError as error:
        return f"{error.strerror}; let its user pass through every folder on the way"
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(mode):
        return "it is a folder; name the program in it"
    if not stat.S_ISREG(mode):
        return "it is no regular file; name a program"
    return "" if os.access(path, os.X_OK) else "it is not executable; `chmod +x` it in the image"


def _check_format(path: str) -> None:
    """Refuse what the kernel cannot run: the launcher's execvp(3) would hand it to a shell as a script."""
    head = _head(path)
    if head.startswith(_ELF):
        if not _runs_here(head[_ELF_MACHINE]):
            raise SpawnError(
                NOT_EXECUTABLE, f"cannot run {path}: it is for another processor; use an image for this one"
            )
    elif head and not head.startswith(b"#!"):
        raise SpawnError(NOT_EXECUTABLE, f"cannot run {path}: it is neither a program nor a script with #! at its head")


def _runs_here(machine: bytes) -> bool:
    # Without /proc, Python's own file tells as well; where neither does, the kernel is to say.
    own = (_head("/proc/self/exe") or _head(sys.executable))[_ELF_MACHINE]
    if not own or machine == own or (own, machine) in _ELF_COMPATIBLE:
        return True
    try:
        # An emulator may be registered for it, beside the two files that are always there.
        return not {"register", "status"}.issuperset(os.listdir("/proc/sys/fs/binfmt_misc"))
    except OSError:
        return False


def _head(path: str) -> bytes:
    """Return a file's first bytes; none where it may be executed but not read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_ELF_MACHINE.stop)
    except (OSError, ValueError):
        return b""
