"""Starts processes: in a new session, with pipes for output, inheriting only what they were given."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from supervisor.characters import printable
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.process import ProcessSpec, User

MARK = "SUPERVISED_PROCESS"
_ENV = "/usr/bin/env"
NOT_EXECUTABLE = 126
NOT_FOUND = 127
# What the kernel reads of a file to know how to run it (BINPRM_BUF_SIZE); and enough to find most programs' loaders.
_KERNEL_BYTES = 256
_HEAD_BYTES = 4096
# elf(5): the magic, and the offset of e_machine; x86-64 runs i386, and aarch64 may run arm.
_ELF = b"\x7fELF"
_ELF_MACHINE = slice(18, 20)
_ELF_CLASS = slice(4, 6)
_ELF_64_BIT_LITTLE = b"\x02\x01"
_PT_INTERP = 3
_MOST_PATH_BYTES = 4096
_EMULATORS = "/proc/sys/fs/binfmt_misc"
_ELF_COMPATIBLE = {(b"\x3e\0", b"\x03\0"), (b"\xb7\0", b"\x28\0")}


class SpawnError(Exception):
    """A process could not be started; ``code`` is a shell's exit code: 127 not found, 126 not executable."""

    def __init__(self, code: int, why: str) -> None:
        self.code = code
        # A path may contain bytes that are not text, which JSON cannot hold.
        self.why = printable(why)
        super().__init__(self.why)


class Spawned(NamedTuple):
    """A process that was just started, with the read ends of its pipes."""

    pid: int
    stdout_fd: int
    stderr_fd: int


def mark(name: str) -> str:
    """Return the value that marks everything started by process ``name`` in its environment."""
    return f"{name}:{os.getpid()}"


def spawn(
    spec: ProcessSpec, launcher: tuple[str, ...], death_fd: int | None = None, fds: tuple[int, ...] = ()
) -> Spawned:
    """Start a process and return at once.

    ``launcher`` precedes its command (see kernel.launcher). ``death_fd`` is the read end of a pipe that closes when
    this process ends; it is passed on as ``TS_PARENT_DEATH_FD``, ``fds`` under their own numbers. Call it on the main
    thread only: the kernel sends the parent-death signal when the creating thread ends. Raises SpawnError, or
    RuntimeError on another thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("cannot spawn outside the main thread: the child would die with this thread")
    program = program_of(spec)
    env = {**spec.env, MARK: mark(spec.name)}
    if death_fd is not None:
        env["TS_PARENT_DEATH_FD"] = str(death_fd)
    given = _for_its_user_only(spec, env) if launcher else ()
    (out_read, out_write), (err_read, err_write) = _output_pipes(spec)
    try:
        child = subprocess.Popen(
            [*launcher, *_as_user(spec, launcher), *given, program, *spec.argv[1:]],
            env=env,
            cwd=spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            start_new_session=True,
            pass_fds=fds if death_fd is None else (*fds, death_fd),
            **_as_user_without_launcher(spec, launcher),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        os.close(out_read)
        os.close(err_read)
        raise _explained(spec, error) from error
    finally:
        os.close(out_write)
        os.close(err_write)
    # The reaper is the only waiter: a Popen that considers its child ended never calls wait.
    child.returncode = 0
    for fd in (out_read, err_read):
        os.set_blocking(fd, False)
    return Spawned(child.pid, out_read, err_read)


def open_pipe(spec: ProcessSpec) -> tuple[int, int]:
    """Return both ends of a new pipe. Raises SpawnError if there are no descriptors left."""
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
    """Let a user reopen a pipe, as a program does that opens /dev/stdout."""
    if user is None:
        return
    try:
        os.fchown(write_fd, user.uid, user.gid)
    except OSError:
        # Root without CHOWN. Only processes of that user can name the pipe.
        with suppress(OSError):
            os.fchmod(write_fd, 0o622)


def _as_user(spec: ProcessSpec, launcher: Sequence[str]) -> tuple[str, ...]:
    if spec.user is None or not launcher:
        return ("--",) if launcher else ()
    identity = ("--reuid", str(spec.user.uid), "--regid", str(spec.user.gid))
    return (*identity, "--init-groups", "--inh-caps=-all", "--")


def _for_its_user_only(spec: ProcessSpec, env: dict[str, str]) -> tuple[str, ...]:
    """Move variables of the C library's loader behind the change of user: setpriv is root before.

    Raises SpawnError.
    """
    names = [name for name in env if name.startswith("LD_") or name == "GCONV_PATH"] if spec.user else []
    if not names:
        return ()
    if "=" in spec.argv[0]:
        why = f"its path has a = in it, so that env cannot start it with {' and '.join(names)}; rename it"
        raise SpawnError(NOT_EXECUTABLE, f"cannot start {spec.name}: {why}")
    return (_ENV, *(f"{name}={env.pop(name)}" for name in names))


def _as_user_without_launcher(spec: ProcessSpec, launcher: Sequence[str]) -> dict[str, Any]:
    if spec.user is None or launcher:
        return {}
    groups = os.getgrouplist(spec.user.name, spec.user.gid)
    return {"user": spec.user.uid, "group": spec.user.gid, "extra_groups": groups}


def _explained(spec: ProcessSpec, error: OSError | ValueError | subprocess.SubprocessError) -> SpawnError:
    if isinstance(error, UnicodeEncodeError):
        why = f"its command or environment has characters that {error.encoding}, the encoding of the locale, lacks"
        return SpawnError(NOT_EXECUTABLE, f"cannot start {spec.name}: {why}; set LC_ALL=C.UTF-8")
    if not isinstance(error, OSError):
        return SpawnError(NOT_EXECUTABLE, f"cannot start {spec.name}: {error}")
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.filename == spec.cwd:
        why = f"cannot start {spec.name} in {spec.cwd}: {reason}; create that folder, and let its user enter it"
    elif error.errno == errno.ENOEXEC:
        why = f"cannot run {spec.argv[0]}: {reason}; it is for another processor, or a script without #!"
    elif error.errno in {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}:
        why = f"cannot start {spec.name}: {reason}; the container is at its limit of processes, memory or files"
    else:
        why = f"cannot start {spec.name}: {reason}"
    return SpawnError(NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE, why)


def program_candidates(name: str, env_path: str, cwd: str) -> list[str]:
    """Return the absolute paths that ``name`` may refer to, in order of precedence.

    As for execvp(3) after a change to ``cwd``, the working directory of the process, which relative names and relative
    folders of PATH are based on.
    """
    if "/" in name:
        # What follows ./ is relative, even if it begins with another slash.
        return [os.path.join(cwd, name[2:].lstrip("/") if name.startswith("./") else name)]
    return [os.path.join(cwd, part, name) for part in env_path.split(":")]


def program_of(spec: ProcessSpec) -> str:
    """Return the file that a process's command runs. Raises SpawnError as ``find_program`` does."""
    return find_program(spec.argv[0], spec.env.get("PATH", os.defpath), spec.cwd)


def find_program(name: str, env_path: str, cwd: str) -> str:
    """Return the file to run. Raises SpawnError if there is none, or it is not executable."""
    unfit = ""
    for path in program_candidates(name, env_path, cwd):
        why = _why_not(path)
        if why == "":
            _check_format(path, cwd)
            return path
        if why and not unfit:
            unfit = f"cannot run {path}: {why}"
    if unfit:
        raise SpawnError(NOT_EXECUTABLE, unfit)
    if "/" not in name:
        where = f"no such program in PATH ({env_path})"
    elif os.path.isabs(name):
        where = "no such file"
    else:
        where = f"no such file in its working directory {cwd}"
    raise SpawnError(NOT_FOUND, f"cannot run {name}: {where}; put it into the image, or correct the command")


def _why_not(path: str) -> str | None:
    """Return why a file cannot be run: empty if it can, None if it does not exist."""
    try:
        mode = os.stat(path).st_mode
    except PermissionError as error:
        return f"{error.strerror}; let its user pass through every folder on the way"
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(mode):
        return "it is a folder; name the program in it"
    if not stat.S_ISREG(mode):
        return "it is not a regular file; name a program"
    return "" if os.access(path, os.X_OK) else _why_not_executable(path, mode)


def _why_not_executable(path: str, mode: int) -> str:
    with suppress(OSError):
        if mode & 0o111 and os.statvfs(path).f_flag & os.ST_NOEXEC:
            return "its file system is mounted noexec; put it elsewhere, or mount that without noexec"
    return "it is not executable; `chmod +x` it in the image"


def _check_format(path: str, cwd: str) -> None:
    """Refuse a file that the kernel cannot run.

    The launcher's execvp(3) would pass it to a shell as a script; and where its interpreter is missing, the kernel says
    of the file itself that it does not exist.
    """
    head = _head(path)
    if head.startswith(_ELF):
        own = _own_machine()
        if not _runs_here(head, own):
            raise SpawnError(
                NOT_EXECUTABLE, f"cannot run {path}: it is for another processor; use an image for this one"
            )
        loader = _loader(path, head) if head[_ELF_MACHINE] == own else ""
        if loader and _is_missing(os.path.join(cwd, loader)):
            why = f"its loader {loader} is missing: it was built for another C library, such as musl instead of glibc"
            raise SpawnError(NOT_FOUND, f"cannot run {path}: {why}; use a build for this image, or a static one")
    elif head.startswith(b"#!"):
        _check_interpreter(path, head[:_KERNEL_BYTES], cwd)
    elif head:
        raise SpawnError(NOT_EXECUTABLE, f"cannot run {path}: it is neither a program nor a script with #! at its head")
    elif _is_empty(path):
        raise SpawnError(NOT_EXECUTABLE, f"cannot run {path}: it is empty, as after a copy or download that failed")


def _check_interpreter(path: str, head: bytes, cwd: str) -> None:
    line = head[2:].split(b"\n", 1)[0]
    words = line.split()
    named = os.fsdecode(words[0]) if words else ""
    # The kernel ends a name at a blank; a carriage return is a part of it.
    exact = named + "\r" if len(words) == 1 and line.endswith(b"\r") else named
    missing = bool(named) and _is_missing(os.path.join(cwd, exact))
    if line.endswith(b"\r") and (missing or os.path.basename(named) == "env"):
        why = "its lines end with CR LF, as on Windows, and the CR counts as part of a name; save it with LF alone"
    elif missing:
        why = f"its first line names {named}, which does not exist; put that into the image, or correct the line"
    else:
        return
    raise SpawnError(NOT_FOUND, f"cannot run {path}: {why}")


def _is_empty(path: str) -> bool:
    """Return whether a file certainly has no content: a shell would run it, with success."""
    try:
        return os.stat(path).st_size == 0 and os.access(path, os.R_OK)
    except (OSError, ValueError):
        return False


def _is_missing(path: str) -> bool:
    """Return whether a file certainly does not exist."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        pass
    return False


def _loader(path: str, head: bytes) -> str:
    """Return the program that loads the libraries of a 64-bit program (PT_INTERP in elf(5)); empty if there is none."""
    if head[_ELF_CLASS] != _ELF_64_BIT_LITTLE:
        return ""
    size, count = _number(head, 54, 2), _number(head, 56, 2)

    def part(at: int, length: int) -> bytes:
        if at + length <= len(head):
            return head[at : at + length]
        with open(path, "rb", buffering=0) as file:
            file.seek(at)
            return file.read(length)

    try:
        table = part(_number(head, 32, 8), size * count)
        for at in range(0, len(table), size or 1):
            if _number(table, at, 4) == _PT_INTERP:
                length = min(_number(table, at + 32, 8), _MOST_PATH_BYTES)
                return os.fsdecode(part(_number(table, at + 8, 8), length).rstrip(b"\0"))
    except (OSError, ValueError, OverflowError):
        pass
    return ""


def _number(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")


def _own_machine() -> bytes:
    """Return the processor that this interpreter was built for, as in its file's head; empty if that is unknown."""
    try:
        return _read_own_machine()
    except LookupError:
        return b""


@cache
def _read_own_machine() -> bytes:
    """Return the same. Raises LookupError if it is unknown, which is not cached: the next time it may be readable."""
    # Without /proc, Python's own file is used; without either, the kernel decides.
    found = (_head("/proc/self/exe") or _head(sys.executable))[_ELF_MACHINE]
    if not found:
        raise LookupError
    return found


def _runs_here(head: bytes, own: bytes) -> bool:
    machine = head[_ELF_MACHINE]
    if not own or machine == own or (own, machine) in _ELF_COMPATIBLE:
        return True
    try:
        return any(_emulates(f"{_EMULATORS}/{name}", head) for name in os.listdir(_EMULATORS))
    except OSError:
        return False


def _emulates(path: str, head: bytes) -> bool:
    """Return whether this registered emulator runs programs with this head (the kernel's binfmt-misc.rst)."""
    try:
        with open(path, encoding="ascii") as file:
            state, *lines = file.read().splitlines()
    except (OSError, ValueError):
        return False
    fields = dict(line.split(" ", 1) for line in lines if " " in line)
    if state != "enabled" or "magic" not in fields:
        return False
    offset, magic = int(fields["offset"]), bytes.fromhex(fields["magic"])
    mask = bytes.fromhex(fields["mask"]) if "mask" in fields else b"\xff" * len(magic)
    # Beyond the bytes that were read of the program, the kernel decides.
    return all((ours ^ its) & bits == 0 for ours, its, bits in zip(head[offset:], magic, mask, strict=False))


def _head(path: str) -> bytes:
    """Return the first bytes of a file; empty if it is executable but not readable."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return b""
