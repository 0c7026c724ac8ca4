"""Restores folders: into a folder owned by root on the same file system, sanitized, then renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

import anyio
import msgspec

from supervisor.backup.places import (
    BESIDE,
    DATABASES,
    LOST_AND_FOUND,
    MANIFEST,
    MARKER,
    WORKSHOP,
    opened_folder,
)
from supervisor.backup.threads import in_thread, task_group
from supervisor.backup.words import BackupError, MixedError, Trouble
from supervisor.errors import remedy_for_resources
from supervisor.json_input import decode_json
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from supervisor.backup.restic import Restic
    from supervisor.config.plan import BackupSource
    from supervisor.core.backup import SnapshotView
    from supervisor.core.process import User

# Files that stay in place.
_STAY = frozenset({MARKER, WORKSHOP, LOST_AND_FOUND, "supervisor.lock"})
_NEW, _COPIES, _OLD = "files", "copies", "before"
_NOT_FOUND = ": not found"
# Number of restics at a time: each uses up to 90 MB.
_AT_ONCE = 2
_MODE = 0o777
# How many names a message has.
_NAMED = 5
_DROPPED = ("security.", "trusted.", "system.posix_acl")


_MIXED = (
    "check the folders and the disk, and copy what you need from there; a restore, also of the snapshot taken before "
    "this one, replaces the files, as does the next start with this one"
)


class _HalfwayError(Exception):
    """A swap failed for ``cause``, and so did undoing it, for the files ``left``."""

    def __init__(self, cause: OSError, left: str) -> None:
        super().__init__(left)
        self.cause = cause
        self.left = left


class _Folder(msgspec.Struct):
    name: str
    path: str


class _Manifest(msgspec.Struct):
    version: int
    folders: list[_Folder]
    databases: list[str]


class _Prepared(NamedTuple):
    """A prepared folder: ``fd`` is the folder itself, ``workshop_fd`` the folder in it with the new files."""

    source: BackupSource
    fd: int
    workshop_fd: int


class Restoration:
    """One restore under way: ``fetch`` it, then ``place`` it, and ``aclose`` cleans up."""

    def __init__(self, restic: Restic, snapshot: SnapshotView, sources: Sequence[BackupSource]) -> None:
        self._restic = restic
        self._snapshot = snapshot
        self._sources = sources
        self._stack = ExitStack()
        self._prepared: dict[BackupSource, _Prepared] = {}
        self._absent: set[int] = set()
        self._keeps = False
        self.missing: list[str] = []

    @property
    def id(self) -> str:
        """The id of the snapshot being restored."""
        return self._snapshot.id

    async def aclose(self) -> None:
        """Remove the replaced or unused files, unless they could not be put back.

        In a thread, as many files take seconds.
        """
        with anyio.CancelScope(shield=True):
            if not self._keeps:
                await in_thread(self._remove)
        self._stack.close()

    def _remove(self) -> None:
        for prepared in self._prepared.values():
            with suppress(OSError):
                shutil.rmtree(WORKSHOP, dir_fd=prepared.fd)

    def follow(self, snapshot: SnapshotView) -> None:
        """Switch to another snapshot: files that are the same in both are not fetched again."""
        self._snapshot = snapshot

    async def fetch(self) -> None:
        """Write everything beside the current files, to be placed. Raises BackupError, and then nothing has changed."""
        await self.rehearse()
        try:
            for prepared in self._fetched():
                await in_thread(_finish, prepared.workshop_fd, prepared.source.owner)
        except OSError as error:
            raise BackupError(_disk(error)) from error

    async def rehearse(self) -> None:
        """Write everything beside the current files, as it is in the snapshot. Raises BackupError."""
        manifest = await self._manifest()
        self.missing = []
        self._absent.clear()
        try:
            # In a thread, as it removes the remains of a killed restore.
            parts = await in_thread(self._all_parts, manifest)
        except OSError as error:
            raise BackupError(_disk(error)) from error
        if not parts:
            raise BackupError(Trouble("this snapshot holds none of the folders", "check SUPERVISOR_BACKUP_PATHS"))
        limit = anyio.Semaphore(_AT_ONCE)
        async with task_group(BackupError) as group:
            for part in parts:
                group.start_soon(self._restore, limit, *part)

    async def _manifest(self) -> _Manifest:
        path = os.path.join(self._snapshot.staged or "/", MANIFEST)
        try:
            return decode_json(await self._restic.dump(self._snapshot.id, path), _Manifest)
        except msgspec.DecodeError as error:
            raise BackupError(Trouble("this snapshot's manifest cannot be parsed", "choose another one")) from error

    def _all_parts(self, manifest: _Manifest) -> list[tuple[str, int, str]]:
        return [part for source in self._sources for part in self._parts(source, manifest)]

    def _parts(self, source: BackupSource, manifest: _Manifest) -> Iterator[tuple[str, int, str]]:
        """Yield each folder of the snapshot that belongs to a source, and its target. Raises OSError."""
        inside = _path_in(manifest, source)
        if inside is None:
            self.missing.append(source.path)
            return
        if source not in self._prepared:
            fd = self._stack.enter_context(opened_folder(source))
            self._prepared[source] = _Prepared(source, fd, self._stack.enter_context(_workshop(fd)))
        workshop_fd = self._prepared[source].workshop_fd
        yield inside, workshop_fd, _NEW
        if any(database.startswith(f"{inside}/") for database in manifest.databases):
            yield os.path.join(self._snapshot.staged, DATABASES) + inside, workshop_fd, _COPIES

    async def _restore(self, limit: anyio.Semaphore, path: str, workshop_fd: int, name: str) -> None:
        async with limit:
            try:
                await self._restic.restore(self._snapshot.id, path, workshop_fd, name)
            except BackupError as error:
                # It vanished while the snapshot was taken, which is marked for it.
                if self._snapshot.complete or _NOT_FOUND not in error.trouble.why:
                    raise
                self.missing.append(path)
                self._absent.add(workshop_fd)

    def _fetched(self) -> tuple[_Prepared, ...]:
        return tuple(each for each in self._prepared.values() if each.workshop_fd not in self._absent)

    async def place(self) -> None:
        """Replace the old files by the new ones, all or none. Raises BackupError; MixedError if some stay replaced."""
        try:
            await in_thread(_swap, self._fetched())
        except _HalfwayError as error:
            self._keeps = True
            folders = ", ".join(os.path.join(each.source.path, WORKSHOP) for each in self._fetched())
            why = f"{_disk(error.cause).why}, and {error.left} could not be put back: see the folders in {folders}"
            raise MixedError(Trouble(why, _MIXED)) from error
        except OSError as error:
            raise BackupError(_disk(error)) from error


def _path_in(manifest: _Manifest, source: BackupSource) -> str | None:
    """Return the path of a folder's files in the snapshot: by its path, or by its name if its path was another."""
    by_path = [each.path for each in manifest.folders if each.path == source.path]
    by_name = [each.path for each in manifest.folders if each.name == source.name]
    return next(iter([*by_path, *by_name]), None)


def _workshop(fd: int) -> AbstractContextManager[int]:
    """Create an empty working folder in a folder, replacing anything of that name."""
    with suppress(FileNotFoundError):
        status = os.stat(WORKSHOP, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(WORKSHOP, dir_fd=fd)
        else:
            os.unlink(WORKSHOP, dir_fd=fd)
    os.mkdir(WORKSHOP, dirs.PRIVATE, dir_fd=fd)
    return dirs.opened(WORKSHOP, folder_fd=fd)


def _finish(workshop_fd: int, owner: User | None) -> None:
    """Move the databases to the other files, and sanitize all of them. Raises OSError."""
    with suppress(FileNotFoundError):
        for place, _, files, fd in os.fwalk(_COPIES, onerror=dirs.raised, dir_fd=workshop_fd):
            parts = os.path.relpath(place, _COPIES).split("/")
            with ExitStack() as stack:
                target_fd = stack.enter_context(dirs.opened(_NEW, folder_fd=workshop_fd))
                for part in (part for part in parts if part != "."):
                    target_fd = stack.enter_context(_folder_in(target_fd, part))
                for name in files:
                    os.rename(name, name, src_dir_fd=fd, dst_dir_fd=target_fd)
                    # Journals of a live file, which the snapshot contains if there were too many databases.
                    for beside in BESIDE:
                        dirs.remove_file(target_fd, name + beside)
    _clean(workshop_fd, owner)


def _folder_in(fd: int, name: str) -> AbstractContextManager[int]:
    """Open a folder without following a link that the app may have put in its place."""
    try:
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
        if not is_folder:
            os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        is_folder = False
    if not is_folder:
        os.mkdir(name, dirs.PRIVATE, dir_fd=fd)
    return dirs.opened(name, folder_fd=fd)


def _clean(workshop_fd: int, owner: User | None) -> None:
    """Give the restored files to their owner, and remove what could grant rights. Raises OSError."""
    made = os.fstat(workshop_fd)
    if made.st_uid != os.geteuid() or stat.S_IMODE(made.st_mode) != dirs.PRIVATE:
        raise PermissionError(errno.EPERM, "the folder for restoring was replaced by another one")
    for _, names, files, fd in os.fwalk(_NEW, onerror=dirs.raised, dir_fd=workshop_fd):
        for name in (*names, *files):
            _clean_one(fd, name, owner)
    _clean_one(workshop_fd, _NEW, owner)


def _clean_one(fd: int, name: str, owner: User | None) -> None:
    # No other user can enter this folder, so a file cannot be exchanged between check and change.
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    if kind in {stat.S_IFBLK, stat.S_IFCHR, stat.S_IFSOCK}:
        os.unlink(name, dir_fd=fd)
        return
    if owner is not None:
        os.chown(name, owner.uid, owner.gid, dir_fd=fd, follow_symlinks=False)
    if kind == stat.S_IFLNK:
        return
    os.chmod(name, stat.S_IMODE(status.st_mode) & _MODE, dir_fd=fd)
    path = f"/proc/self/fd/{fd}/{name}"
    with suppress(OSError):
        for attribute in os.listxattr(path, follow_symlinks=False):
            if attribute.startswith(_DROPPED):
                os.removexattr(path, attribute, follow_symlinks=False)


def _swap(prepared: Sequence[_Prepared]) -> None:
    """Rename the old files aside and the new ones into place; undo all of it if a step fails.

    Raises OSError, and _HalfwayError if not all could be undone.
    """
    with ExitStack() as stack:
        exchange, modes = _Exchange(stack), {}
        try:
            for each in prepared:
                os.mkdir(_OLD, dirs.PRIVATE, dir_fd=each.workshop_fd)
                old_fd = stack.enter_context(dirs.opened(_OLD, folder_fd=each.workshop_fd))
                new_fd = stack.enter_context(dirs.opened(_NEW, folder_fd=each.workshop_fd))
                for name in _names(each.fd):
                    exchange.put_aside(name, each.fd, old_fd)
                for name in _names(new_fd):
                    exchange.put_in_place(name, new_fd, each.fd)
                modes[each.fd] = stat.S_IMODE(os.fstat(new_fd).st_mode) & _MODE
            for fd, mode in modes.items():
                os.fchmod(fd, mode)
        except OSError as error:
            left = exchange.undo()
            if left:
                raise _HalfwayError(error, ", ".join(left[:_NAMED])) from error
            raise
        exchange.finish()


def _names(fd: int) -> list[str]:
    return [name for name in os.listdir(fd) if name not in _STAY]


class _Exchange:
    """Renames that can be undone. Folders stay open in ``stack`` until its end.

    overlayfs cannot rename a folder of the image itself. What is in it can be; the folder stays, and is removed at the
    end if nothing has taken its place.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._done: list[tuple[str, int, int]] = []
        self._emptied: dict[tuple[int, str], int] = {}

    def put_aside(self, name: str, fd: int, old_fd: int) -> None:
        """Move it to another folder. Raises OSError."""
        try:
            self._rename(name, fd, old_fd)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            os.mkdir(name, dirs.PRIVATE, dir_fd=old_fd)
            from_fd = self._emptied[fd, name] = self._open(name, fd)
            to_fd = self._open(name, old_fd)
            for inner in os.listdir(from_fd):
                self.put_aside(inner, from_fd, to_fd)

    def put_in_place(self, name: str, new_fd: int, fd: int) -> None:
        """Move it to where the old one was. Raises OSError."""
        to_fd = self._emptied.pop((fd, name), None)
        if to_fd is None:
            self._rename(name, new_fd, fd)
            return
        status = os.stat(name, dir_fd=new_fd, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            shutil.rmtree(name, dir_fd=fd)
            self._rename(name, new_fd, fd)
            return
        from_fd = self._open(name, new_fd)
        for inner in os.listdir(from_fd):
            self.put_in_place(inner, from_fd, to_fd)
        os.chown(to_fd, status.st_uid, status.st_gid)
        os.chmod(to_fd, stat.S_IMODE(status.st_mode))
        os.utime(to_fd, ns=(status.st_atime_ns, status.st_mtime_ns))

    def undo(self) -> list[str]:
        """Restore the original state; return the names of what could not be moved back."""
        left = []
        for name, before_fd, now_fd in reversed(self._done):
            try:
                os.rename(name, name, src_dir_fd=now_fd, dst_dir_fd=before_fd)
            except OSError:
                left.append(name)
        return left

    def finish(self) -> None:
        """Remove the folders that are empty now."""
        for fd, name in reversed(self._emptied):
            with suppress(OSError):
                os.rmdir(name, dir_fd=fd)

    def _rename(self, name: str, from_fd: int, to_fd: int) -> None:
        os.rename(name, name, src_dir_fd=from_fd, dst_dir_fd=to_fd)
        self._done.append((name, from_fd, to_fd))

    def _open(self, name: str, folder_fd: int) -> int:
        return self._stack.enter_context(dirs.opened(name, folder_fd=folder_fd))


def _disk(error: OSError) -> Trouble:
    if error.errno == errno.ENOSPC:
        return Trouble("the disk is full", "free some of it, or mount a larger volume")
    what_to_do = remedy_for_resources(error) or "check the folders and the disk"
    return Trouble(f"cannot put the files in their place: {error.strerror or error}", what_to_do)
