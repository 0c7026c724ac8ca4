"""Brings folders back: into a folder of root's on the same file system, cleaned, then renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple, Self

import anyio
import msgspec
from anyio import to_thread

from supervisor.backup.places import DATABASES, MANIFEST, MARKER, WORKSHOP, opened, opened_folder
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

# What stays where it is.
_STAY = frozenset({MARKER, WORKSHOP, "supervisor.lock"})
_NEW, _COPIES, _OLD = "files", "copies", "before"
# So many restics at a time: each takes up to 90 MB.
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
    """A folder that is ready: ``fd`` is the folder itself, ``workshop_fd`` the one in it that holds the new files."""

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
        """The snapshot that is restored."""
        return self._snapshot.id

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Remove what was replaced, or fetched in vain; in a thread, as many files take seconds."""
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._remove)
        self._stack.close()

    def _remove(self) -> None:
        for prepared in self._prepared.values():
            with suppress(OSError):
                shutil.rmtree(WORKSHOP, dir_fd=prepared.fd)

    def follow(self, snapshot: SnapshotView) -> None:
        """Go on to another snapshot: what is the same in both need not be fetched again."""
        self._snapshot = snapshot

    async def fetch(self) -> None:
        """Write everything beside what is there, to be placed. Raises BackupError, and then nothing has changed."""
        await self.rehearse()
        try:
            for prepared in self._prepared.values():
                await to_thread.run_sync(_finish, prepared.workshop_fd, prepared.source.owner)
        except OSError as error:
            raise BackupError(_disk(error)) from error

    async def rehearse(self) -> None:
        """Write everything beside what is there, as it is in the snapshot. Raises BackupError."""
        manifest = await self._manifest()
        self.missing = []
        try:
            # In a thread, as it removes what a killed restore has left.
            parts = await to_thread.run_sync(self._all_parts, manifest)
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
            # Out of the group it comes alone again.
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
        """Yield each folder of the snapshot that belongs to a source, and where it is to be. Raises OSError."""
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
        """Put the new files in the old ones' place: all of it, or nothing. Raises BackupError."""
        try:
            await to_thread.run_sync(_swap, tuple(self._prepared.values()))
        except OSError as error:
            raise BackupError(_disk(error)) from error


def _path_in(manifest: _Manifest, source: BackupSource) -> str | None:
    """Return where in the snapshot a folder's files are: by its path, or by its name where it lay elsewhere."""
    by_path = [each.path for each in manifest.folders if each.path == source.path]
    by_name = [each.path for each in manifest.folders if each.name == source.name]
    return next(iter([*by_path, *by_name]), None)


def _workshop(fd: int) -> AbstractContextManager[int]:
    """Make the folder of ours in a folder, empty, whatever had that name before."""
    with suppress(FileNotFoundError):
        status = os.stat(WORKSHOP, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(WORKSHOP, dir_fd=fd)
        else:
            os.unlink(WORKSHOP, dir_fd=fd)
    os.mkdir(WORKSHOP, dirs.PRIVATE, dir_fd=fd)
    return opened(WORKSHOP, folder_fd=fd)


def _finish(workshop_fd: int, owner: User | None) -> None:
    """Put the databases among the other files, and have all of it be what it may be. Raises OSError."""
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
    """Open a folder; a link that the app had put in its place is no way out of here."""
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
    """Give what was restored to its owner, and take away what could give anybody rights. Raises OSError."""
    made = os.fstat(workshop_fd)
    if made.st_uid != os.geteuid() or stat.S_IMODE(made.st_mode) != dirs.PRIVATE:
        raise PermissionError(errno.EPERM, "the folder for restoring was replaced by another one")
    for _, names, files, fd in os.fwalk(_NEW, dir_fd=workshop_fd, follow_symlinks=False):
        for name in (*names, *files):
            _clean_one(fd, name, owner)
    _clean_one(workshop_fd, _NEW, owner)


def _clean_one(fd: int, name: str, owner: User | None) -> None:
    # Nobody else can enter this folder: what was looked at is what is changed.
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
    """Rename everything, old files aside and new ones in; undo it all where one step fails. Raises OSError."""
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
        # A folder of the image itself: an overlay does not rename it. What is in it was kept as a snapshot.
        shutil.rmtree(name, dir_fd=fd)
    else:
        done.append((name, fd, old_fd))


def _disk(error: OSError) -> Trouble:
    if error.errno == errno.ENOSPC:
        return Trouble("the disk is full", "free some of it, or mount a larger volume")
    return Trouble(f"cannot put the files in their place: {error.strerror or error}", "check the folders and the disk")
