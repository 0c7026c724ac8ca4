"""Starts a process: new session, pipes for its output, nothing inherited that it was not given."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.model import ProcessSpec

MARK = "SUPERVISED_PROCESS"
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


class Spawned(NamedTuple):
    """A process just started, with the read ends of its pipes."""

    pid: int
    stdout_fd: int
    stderr_fd: int


def mark(name: str) -> str:
    """Return the value by which everything that process ``name`` starts can be told, as long as it keeps it."""
    return f"{name}:{os.getpid()}"


def find_program(name: str, env_path: str) -> str:
    """Return the file that ``name`` stands for, as execvp would find it.

    Raises SpawnError where there is none, or none that may be executed.
    """
    candidates = [name] if "/" in name else [os.path.join(part or ".", name) for part in env_path.split(":")]
    found = [path for path in candidates if os.path.isfile(path)]
    for path in found:
        if os.access(path, os.X_OK):
            _check_format(path)
            return path
    if found:
        raise SpawnError(NOT_EXECUTABLE, f"cannot run {found[0]}: it is not executable; `chmod +x` it in the image")
    where = "no such file" if "/" in name else f"no such program in PATH ({env_path})"
    raise SpawnError(NOT_FOUND, f"cannot run {name}: {where}; put it into the image, or mend the command's first word")


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
    own = _head("/proc/self/exe")[_ELF_MACHINE]
    if machine == own or (own, machine) in _ELF_COMPATIBLE:
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
    except OSError:
        return b""


def spawn(spec: ProcessSpec, launcher: tuple[str, ...], death_fd: int | None = None) -> Spawned:
    """Start the process and return at once.

    ``launcher`` is put before its command (see kernel.launcher). ``death_fd`` is a read end that tells the child
    when this process is gone; it is passed on as ``TS_PARENT_DEATH_FD``. To be called on the main thread only: the
    kernel sends the parent-death signal when the creating thread ends. Raises SpawnError, or RuntimeError elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("cannot spawn outside the main thread: the child would die with this thread")
    program = find_program(spec.argv[0], spec.env.get("PATH", os.defpath))
    env = {**spec.env, MARK: mark(spec.name)}
    if death_fd is not None:
        env["TS_PARENT_DEATH_FD"] = str(death_fd)
    (out_read, out_write), (err_read, err_write) = _output_pipes(spec)
    try:
        child = subprocess.Popen(
            [*launcher, *_as_user(spec, launcher), program, *spec.argv[1:]],
            env=env,
            cwd=spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            start_new_session=True,
            pass_fds=() if death_fd is None else (death_fd,),
            **_as_user_without_launcher(spec, launcher),
        )
    except (OSError, subprocess.SubprocessError) as error:
        os.close(out_read)
        os.close(err_read)
        raise _explained(spec, error) from error
    finally:
        os.close(out_write)
        os.close(err_write)
    # The reaper is the only waiter: a Popen that believes its child ended never asks the kernel.
    child.returncode = 0
    for fd in (out_read, err_read):
        os.set_blocking(fd, False)
    return Spawned(child.pid, out_read, err_read)


def open_pipe(spec: ProcessSpec) -> tuple[int, int]:
    """Return both ends of a new pipe for a process. Raises SpawnError where there are no descriptors left."""
    try:
        return os.pipe()
    except OSError as error:
        raise _explained(spec, error) from error


def _output_pipes(spec: ProcessSpec) -> tuple[tuple[int, int], tuple[int, int]]:
    out = open_pipe(spec)
    try:
        return out, open_pipe(spec)
    except SpawnError:
        for fd in out:
            os.close(fd)
        raise


def _as_user(spec: ProcessSpec, launcher: Sequence[str]) -> tuple[str, ...]:
    if spec.user is None or not launcher:
        return ("--",) if launcher else ()
    identity = ("--reuid", str(spec.user.uid), "--regid", str(spec.user.gid))
    return (*identity, "--init-groups", "--inh-caps=-all", "--")


def _as_user_without_launcher(spec: ProcessSpec, launcher: Sequence[str]) -> dict[str, Any]:
    if spec.user is None or launcher:
        return {}
    groups = os.getgrouplist(spec.user.name, spec.user.gid)
    return {"user": spec.user.uid, "group": spec.user.gid, "extra_groups": groups}


def _explained(spec: ProcessSpec, error: OSError | subprocess.SubprocessError) -> SpawnError:
    if not isinstance(error, OSError):
        return SpawnError(NOT_EXECUTABLE, f"cannot start {spec.name}: {error}")
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.filename == spec.cwd:
        why = f"cannot start {spec.name} in {spec.cwd}: {reason}; make that folder, readable by its user"
    elif error.errno == errno.ENOEXEC:
        why = f"cannot run {spec.argv[0]}: {reason}; it is for another processor, or a script without #!"
    elif error.errno in {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}:
        why = f"cannot start {spec.name}: {reason}; the container is at its limit of processes, memory or files"
    else:
        why = f"cannot start {spec.name}: {reason}"
    return SpawnError(NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE, why)
