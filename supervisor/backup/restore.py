"""Restores folders: into a folder owned by root on the same file system, sanitized, then renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple, Self

import anyio
import msgspec

from supervisor.backup.places import DATABASES, MANIFEST, MARKER, WORKSHOP, opened, opened_folder
from supervisor.backup.threads import in_thread
from supervisor.backup.words import BackupError, Trouble
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
_STAY = frozenset({MARKER, WORKSHOP, "supervisor.lock"})
_NEW, _COPIES, _OLD = "files", "copies", "before"
# Number of restics at a time: each uses up to 90 MB.
_AT_ONCE = 2
_MODE = 0o777
_DROPPED = ("security.", "trusted.", "system.posix_acl")


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
    """One restore under way: ``fetch`` it, then ``place`` it; used as an asynchronous context, which cleans up."""

    def __init__(self, restic: Restic, snapshot: SnapshotView, sources: Sequence[BackupSource]) -> None:
        self._restic = restic
        self._snapshot = snapshot
        self._sources = sources
        self._stack = ExitStack()
        self._prepared: dict[BackupSource, _Prepared] = {}
        self.missing: list[str] = []

    @property
    def id(self) -> str:
        """The id of the snapshot being restored."""
        return self._snapshot.id

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Remove the replaced or unused files; in a thread, as many files take seconds."""
        with anyio.CancelScope(shield=True):
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
            for prepared in self._prepared.values():
                await in_thread(_finish, prepared.workshop_fd, prepared.source.owner)
        except OSError as error:
            raise BackupError(_disk(error)) from error

    async def rehearse(self) -> None:
        """Write everything beside the current files, as it is in the snapshot. Raises BackupError."""
        manifest = await self._manifest()
        self.missing = []
        try:
            # In a thread, as it removes the remains of a killed restore.
            parts = await in_thread(self._all_parts, manifest)
        except OSError as error:
            raise BackupError(_disk(error)) from error
        if not parts:
            raise BackupError(Trouble("this snapshot holds none of the folders", "check SUPERVISOR_BACKUP_PATHS"))
        limit = anyio.Semaphore(_AT_ONCE)
        try:
            async with anyio.create_task_group() as group:
                for part in parts:
                    group.start_soon(self._restore, limit, *part)
        except* BackupError as errors:
            # Unwrap the single exception of the group.
            raise errors.exceptions[0] from errors

    async def _manifest(self) -> _Manifest:
        path = os.path.join(self._snapshot.staged or "/", MANIFEST)
        try:
            return decode_json(await self._restic.dump(self._snapshot.id, path), _Manifest)
        except msgspec.DecodeError as error:
            raise BackupError(Trouble("this snapshot's manifest makes no sense", "choose another one")) from error

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
            await self._restic.restore(self._snapshot.id, path, workshop_fd, name)

    async def place(self) -> None:
        """Replace the old files by the new ones, all or none. Raises BackupError."""
        try:
            await in_thread(_swap, tuple(self._prepared.values()))
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
    return opened(WORKSHOP, folder_fd=fd)


def _finish(workshop_fd: int, owner: User | None) -> None:
    """Move the databases to the other files, and sanitize all of them. Raises OSError."""
    with suppress(FileNotFoundError):
        for place, _, files, fd in os.fwalk(_COPIES, dir_fd=workshop_fd, follow_symlinks=False):
            parts = os.path.relpath(place, _COPIES).split("/")
            with ExitStack() as stack:
                target_fd = stack.enter_context(opened(_NEW, folder_fd=workshop_fd))
                for part in (part for part in parts if part != "."):
                    target_fd = stack.enter_context(_folder_in(target_fd, part))
                for name in files:
                    os.rename(name, name, src_dir_fd=fd, dst_dir_fd=target_fd)
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
    return opened(name, folder_fd=fd)


def _clean(workshop_fd: int, owner: User | None) -> None:
    """Give the restored files to their owner, and remove what could grant rights. Raises OSError."""
    made = os.fstat(workshop_fd)
    if made.st_uid != os.geteuid() or stat.S_IMODE(made.st_mode) != dirs.PRIVATE:
        raise PermissionError(errno.EPERM, "the folder for restoring was replaced by another one")
    for _, names, files, fd in os.fwalk(_NEW, dir_fd=workshop_fd, follow_symlinks=False):
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
    """Rename the old files aside and the new ones into place; undo all of it if a step fails. Raises OSError."""
    done: list[tuple[str, int, int]] = []
    with ExitStack() as stack:
        try:
            for each in prepared:
                os.mkdir(_OLD, dirs.PRIVATE, dir_fd=each.workshop_fd)
                old_fd = stack.enter_context(opened(_OLD, folder_fd=each.workshop_fd))
                new_fd = stack.enter_context(opened(_NEW, folder_fd=each.workshop_fd))
                for name in _names(each.fd):
                    _put_aside(name, each.fd, old_fd, done)
                for name in _names(new_fd):
                    os.rename(name, name, src_dir_fd=new_fd, dst_dir_fd=each.fd)
                    done.append((name, new_fd, each.fd))
                os.fchmod(each.fd, stat.S_IMODE(os.fstat(new_fd).st_mode) & _MODE)
        except OSError:
            for name, before_fd, now_fd in reversed(done):
                with suppress(OSError):
                    os.rename(name, name, src_dir_fd=now_fd, dst_dir_fd=before_fd)
            raise


def _names(fd: int) -> list[str]:
    return [name for name in os.listdir(fd) if name not in _STAY]


def _put_aside(name: str, fd: int, old_fd: int, done: list[tuple[str, int, int]]) -> None:
    try:
        os.rename(name, name, src_dir_fd=fd, dst_dir_fd=old_fd)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A folder of the image itself: overlayfs cannot rename it. Its content was saved in a snapshot.
        shutil.rmtree(name, dir_fd=fd)
    else:
        done.append((name, fd, old_fd))


def _disk(error: OSError) -> Trouble:
    if error.errno == errno.ENOSPC:
        return Trouble("the disk is full", "free some of it, or mount a larger volume")
    return Trouble(f"cannot put the files in their place: {error.strerror or error}", "check the folders and the disk")
