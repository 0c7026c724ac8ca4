"""Starts a process: new session, pipes for its output, nothing inherited that it was not given."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor.system import programs
from supervisor.system.programs import NOT_EXECUTABLE, NOT_FOUND, SpawnError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.model import ProcessSpec, User

MARK = "SUPERVISED_PROCESS"


class Spawned(NamedTuple):
    """A process just started, with the read ends of its pipes."""

    pid: int
    stdout_fd: int
    stderr_fd: int


def mark(name: str) -> str:
    """Return the value by which everything that process ``name`` starts can be told, as long as it keeps it."""
    return f"{name}:{os.getpid()}"


def spawn(
    spec: ProcessSpec, launcher: tuple[str, ...], death_fd: int | None = None, fds: tuple[int, ...] = ()
) -> Spawned:
    """Start the process and return at once.

    ``launcher`` is put before its command (see kernel.launcher). ``death_fd`` is a read end that tells the child
    when this process is gone; it is passed on as ``TS_PARENT_DEATH_FD``, ``fds`` under their own numbers. To be called
    on the main thread only: the kernel sends the parent-death signal when the creating thread ends. Raises SpawnError,
    or RuntimeError elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("cannot spawn outside the main thread: the child would die with this thread")
    program = programs.of(spec)
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
            pass_fds=fds if death_fd is None else (*fds, death_fd),
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
        error = open_pipe(spec)
    except SpawnError:
        for fd in out:
            os.close(fd)
        raise
    for _, write_fd in (out, error):
        _give_to(spec.user, write_fd)
    return out, error


def _give_to(user: User | None, write_fd: int) -> None:
    """Let a user open a pipe anew: that is what /dev/stdout is, whoever has the pipe open already."""
    if user is None:
        return
    try:
        os.fchown(write_fd, user.uid, user.gid)
    except OSError:
        # Root without CHOWN. No one but the processes of that user can name the pipe.
        with suppress(OSError):
            os.fchmod(write_fd, 0o622)


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
