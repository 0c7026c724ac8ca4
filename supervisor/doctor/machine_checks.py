"""Checks the machine: memory, processes, descriptors, disks, the kernel and its sandbox."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from supervisor.doctor.finding import Check
from supervisor.system import cgroup, kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.doctor.finding import Diagnosis
    from supervisor.doctor.subject import Subject

_MIB = 1024 * 1024
_PAGE = "reference/image.md"
MEMORY = Check(
    "machine",
    "memory",
    "the container's memory limit, and what is used of it (cgroup)",
    "at the limit the kernel kills a process, mostly the app",
    _PAGE,
)
PROCESSES = Check(
    "machine",
    "processes",
    "the container's limit of processes (cgroup, pids)",
    "at the limit neither a process nor a thread can be started",
    _PAGE,
)
DESCRIPTORS = Check(
    "machine",
    "descriptors",
    "the hard limit of open files (RLIMIT_NOFILE)",
    "without descriptors no connection is accepted and no process started",
    _PAGE,
)
DISK = Check(
    "machine",
    "disk",
    "the room on each disk that is written to",
    "on a full disk the device's identity, your choices and the app's data are lost",
    _PAGE,
)
CHECKS = (MEMORY, PROCESSES, DESCRIPTORS, DISK)
# tailscaled, the supervisor and Moltis together use 75 MB when idle.
_LEAST_MEMORY_BYTES = 256 * _MIB
_NEARLY_ALL = 0.9
_LEAST_PROCESSES = 100
_LEAST_DESCRIPTORS = 1024
_LEAST_DISK_BYTES = 64 * _MIB
_LEAST_INODES = 1000


def findings(subject: Subject) -> Iterator[Diagnosis]:
    """Yield the findings about the machine."""
    yield _memory()
    yield _processes()
    yield _descriptors()
    yield from _disks(subject)


def _memory() -> Diagnosis:
    limit, used = cgroup.memory()
    if limit is None:
        return _without_limit(MEMORY)
    told = f"the limit is {limit // _MIB} MiB"
    told += f", {used // _MIB} MiB of it are used" if used is not None else ""
    if used is not None and used > limit * _NEARLY_ALL:
        return MEMORY.problem(told, "give the container more memory, or find in `status` what uses it")
    if limit < _LEAST_MEMORY_BYTES:
        return MEMORY.problem(told, f"give the container {_LEAST_MEMORY_BYTES // _MIB} MiB or more")
    return MEMORY.ok(told)


def _without_limit(check: Check) -> Diagnosis:
    if kernel.is_gvisor():
        return check.note("gVisor shows no limit, though there may be one", "see the platform's own pages for it")
    return check.ok("the kernel reports no limit")


def _processes() -> Diagnosis:
    limit, used = cgroup.processes()
    if limit is None:
        return _without_limit(PROCESSES)
    told = f"the limit is {limit}, {used or 0} are used"
    if limit < _LEAST_PROCESSES or (used or 0) > limit * _NEARLY_ALL:
        return PROCESSES.problem(told, f"raise the container's limit of processes to {_LEAST_PROCESSES} or more")
    return PROCESSES.ok(told)


def _descriptors() -> Diagnosis:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return DESCRIPTORS.ok("there is no limit")
    told = f"the hard limit is {hard}"
    if hard < _LEAST_DESCRIPTORS:
        return DESCRIPTORS.problem(told, f"raise it to {_LEAST_DESCRIPTORS} or more (docker run --ulimit nofile=…)")
    return DESCRIPTORS.ok(told)


def _disks(subject: Subject) -> Iterator[Diagnosis]:
    seen = set()
    for path in subject.folders:
        place = _nearest(path)
        try:
            device, room = os.stat(place).st_dev, os.statvfs(place)
        except OSError as error:
            yield DISK.note(f"{path}: cannot be read: {error.strerror}", "let the supervisor's user into that folder")
            continue
        if device not in seen:
            seen.add(device)
            yield _disk(path, room)


def _disk(path: str, room: os.statvfs_result) -> Diagnosis:
    free_bytes = room.f_bavail * room.f_frsize
    told = f"{path}: {free_bytes // _MIB} MiB of {room.f_blocks * room.f_frsize // _MIB} MiB are free"
    if free_bytes < _LEAST_DISK_BYTES:
        return DISK.problem(told, "free some of it, or give it more room")
    # Some file systems do not count inodes.
    if room.f_files and room.f_favail < _LEAST_INODES:
        return DISK.problem(
            f"{told}, but only {room.f_favail} more files can be made there", "remove some of the files"
        )
    return DISK.ok(told)


def _nearest(path: str) -> str:
    """Return a folder, or its nearest existing parent."""
    while path != "/" and not os.path.isdir(path):
        path = os.path.dirname(path)
    return path
