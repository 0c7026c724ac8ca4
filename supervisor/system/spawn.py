"""Starts a process: new session, pipes for its output, nothing inherited that it was not given."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.model import ProcessSpec

MARK = "SUPERVISED_PROCESS"
NOT_EXECUTABLE = 126
NOT_FOUND = 127


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
            return path
    if found:
        raise SpawnError(NOT_EXECUTABLE, f"cannot run {found[0]}: it is not executable; `chmod +x` it in the image")
    where = "no such file" if "/" in name else f"no such program in PATH ({env_path})"
    raise SpawnError(NOT_FOUND, f"cannot run {name}: {where}; check the command's first word")


def spawn(spec: ProcessSpec, launcher: tuple[str, ...], death_fd: int | None = None) -> Spawned:
    """Start the process and return at once.

    ``launcher`` is put before its command (see kernel.launcher). ``death_fd`` is a read end that tells the child
    when this process is gone; it is passed on as ``TS_PARENT_DEATH_FD``. To be called on the main thread only: the
    kernel sends the parent-death signal when the creating thread ends. Raises SpawnError.
    """
    program = find_program(spec.argv[0], spec.env.get("PATH", os.defpath))
    env = {**spec.env, MARK: mark(spec.name)}
    if death_fd is not None:
        env["TS_PARENT_DEATH_FD"] = str(death_fd)
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
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


def _as_user(spec: ProcessSpec, launcher: Sequence[str]) -> tuple[str, ...]:
    if spec.user is None or not launcher:
        return ("--",) if launcher else ()
    identity = ("--reuid", str(spec.user.uid), "--regid", str(spec.user.gid))
    return (*identity, "--init-groups", "--inh-caps=-all", "--")


def _as_user_without_launcher(spec: ProcessSpec, launcher: Sequence[str]) -> dict[str, object]:
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
