"""The folders that backups use: cache, staged copies, and the folders in which a restore is prepared."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from supervisor.backup.threads import Steps, in_thread
from supervisor.backup.words import BackupError, MixedError, Trouble
from supervisor.errors import ConfigError, remedy_for_resources
from supervisor.runtime.loop_latency import TimedReader
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from supervisor.config.plan import BackupPlan, BackupSource
    from supervisor.core.process import User

# Names of the supervisor's own files in and beside each folder that is backed up.
MARKER = ".moltis-supervisor.json"
WORKSHOP = ".moltis-supervisor"
# What mkfs makes in each volume: the file system's own, and closed to everyone but root.
LOST_AND_FOUND = "lost+found"
STAGED = "snapshot"
DATABASES = "databases"
MANIFEST = "manifest.json"
# SQLite's journals beside a database.
BESIDE = ("-wal", "-shm", "-journal")
# Space that always stays free on the disk.
RESERVE_BYTES = 64 * 1024 * 1024
_PASSABLE_BY_ALL = 0o711
# A folder on the way, which need not be readable.
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_MAY_WRITE = 0o022
_MOST_LINKS = 40
_SWAPPING = "swapping"
_MOST_BYTES = 128


class Swap(NamedTuple):
    """A replacement of files by a snapshot's; ``whole`` is true if tailscaled's files are among them.

    ``snapshot_id`` is empty if the record is damaged: only that there is one is known then.
    ``generation`` is the highest in the repository at that time. ``mark`` is written into the folders' markers once all
    files are in place: a record with it that could not be removed is then known to be over. ``recorded_s`` is when the
    record was written, in seconds since the epoch.
    """

    snapshot_id: str
    whole: bool
    generation: int
    mark: str = ""
    recorded_s: float = 0.0


class Places:
    """The folder from the plan, and the paths in it; ``tell_stuck`` gets why a swap's record cannot be removed."""

    def __init__(self, plan: BackupPlan, tell_stuck: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell_stuck
        # Whether a restore that failed in this run has left files of two times.
        self.mixed = False
        self.staged = os.path.join(plan.folder, STAGED)
        self._steps = Steps(f"use {plan.folder}")

    @asynccontextmanager
    async def swapping(self, swap: Swap) -> AsyncIterator[str]:
        """Record for the duration of a block that files are being swapped: a start after a kill continues with it.

        The block gets the mark that its markers are to have. If it fails, no file was swapped, and files that were a
        mix before are one still; a MixedError says otherwise, and leaves the record to the next try or start. Raises
        BackupError if the record cannot be read or written.
        """
        before = await self._steps.take(self.swapped_halfway)
        swap = swap._replace(mark=os.urandom(8).hex())
        try:
            await in_thread(self._write, swap)
        except (OSError, ConfigError) as error:
            raise BackupError(Trouble(f"cannot write into {self._plan.folder}: {error}", "check the disk")) from error
        try:
            yield swap.mark
        except MixedError:
            self.mixed = True
            raise
        except BaseException:
            if before is None:
                await self.forget_swap()
            else:
                # Where that fails, the new record says as much.
                with suppress(OSError, ConfigError):
                    await in_thread(self._write, before)
            raise
        await self.forget_swap()

    def _write(self, swap: Swap) -> None:
        what = "all" if swap.whole else "app"
        with dirs.opened(self._plan.folder) as fd:
            dirs.put_file(fd, _SWAPPING, f"{swap.snapshot_id} {what} {swap.generation} {swap.mark}\n", durable=True)

    def swapped_halfway(self) -> Swap | None:
        """Return the swap that has a record: a kill interrupted it, or the record could not be removed.

        Raises BackupError if the record cannot be read.
        """
        try:
            with dirs.opened(os.path.join(self._plan.folder, _SWAPPING), os.O_RDONLY | os.O_NOFOLLOW) as fd:
                data, recorded_s = os.read(fd, _MOST_BYTES), os.fstat(fd).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            # Without it files of two times would count as one state.
            why = f"cannot read {_SWAPPING} in {self._plan.folder}: {error.strerror or error}"
            raise BackupError(Trouble(why, "it is tried again; check the disk")) from error
        # One that could not be removed was emptied.
        return _parsed(data, recorded_s) if data else None

    async def forget_swap(self) -> None:
        """Remove the record: the files as they are now are the ones to use. One that cannot be removed is emptied."""
        self.mixed = False
        self._tell_left(await in_thread(self._remove_record))

    async def forget_swap_soon(self) -> None:
        """Do the same, but without waiting for a disk that hangs: the record is removed once it answers."""
        self.mixed = False
        try:
            self._tell_left(await TimedReader(self._remove_record).read())
        except TimeoutError:
            self._tell_left("its disk does not answer")

    def _tell_left(self, why: str) -> None:
        if why:
            self._tell(f"{os.path.join(self._plan.folder, _SWAPPING)}: {why}")

    def _remove_record(self) -> str:
        """Return why that fails; empty on success."""
        try:
            with dirs.opened(self._plan.folder) as fd:
                try:
                    os.unlink(_SWAPPING, dir_fd=fd)
                except FileNotFoundError:
                    return ""
                except OSError:
                    with dirs.opened(_SWAPPING, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, fd):
                        return ""
        except OSError as error:
            return error.strerror or str(error)
        return ""

    async def make(self) -> None:
        """Create the missing folders. Raises BackupError if the disk refuses them, or does not answer."""
        try:
            await self._steps.take(self._make)
        except ConfigError as error:
            raise BackupError(Trouble("; ".join(error.problems))) from error
        except OSError as error:
            what_to_do = remedy_for_resources(error) or "check the disk"
            raise BackupError(Trouble(f"cannot use {self._plan.folder}: {error.strerror}", what_to_do)) from error

    def _make(self) -> None:
        owner = self._plan.sources[0].owner if self._plan.sources else None
        for path in (self._plan.folder, self.staged):
            fd = dirs.owned_folder(path, None, "TS_STATE_DIR")
            try:
                # The helper that runs as the app's user has to reach its own folder below.
                os.fchmod(fd, _PASSABLE_BY_ALL)
            finally:
                os.close(fd)
        for name in ("cache", "tmp", "restore"):
            os.close(dirs.owned_folder(os.path.join(self._plan.folder, name), None, "TS_STATE_DIR"))
        os.close(dirs.owned_folder(os.path.join(self.staged, DATABASES), owner, "TS_STATE_DIR"))


def _parsed(record: bytes, recorded_s: float) -> Swap:
    try:
        snapshot_id, what, generation, *mark = record.decode("ascii").split()
        return Swap(snapshot_id, what == "all", int(generation), "".join(mark), recorded_s)
    except ValueError:
        return Swap("", whole=True, generation=0)


@contextmanager
def opened_folder(source: BackupSource, *, make: bool = True) -> Iterator[int]:
    """Open a folder that is backed up, and create it if it is missing; links made by other users are not followed.

    Raises OSError.
    """
    fd = _step_down(source.path, source.owner, make=make)
    try:
        yield fd
    finally:
        os.close(fd)


def _step_down(path: str, owner: User | None, *, make: bool) -> int:
    """Return the open folder, reached component by component: a parent folder's owner could redirect root."""
    fd = os.open("/", _STEP)
    rest = [part for part in path.split("/") if part]
    links = 0
    while rest:
        part = rest.pop(0)
        flags = _STEP if rest else dirs.FOLDER
        try:
            deeper = _enter(fd, part, flags, owner) if make else os.open(part, flags, dir_fd=fd)
        except OSError as error:
            is_other = error.errno in {errno.ENOTDIR, errno.ELOOP}
            target = _trusted_link(fd, part) if is_other else ""
            links += 1
            if not target or links > _MOST_LINKS:
                os.close(fd)
                what = "is a link or not a folder" if is_other else f"cannot be used: {error.strerror}"
                raise OSError(error.errno, f"{part} on the way to {path} {what}") from error
            rest = [step for step in target.split("/") if step] + rest
            if not target.startswith("/"):
                continue
            deeper = os.open("/", _STEP)
        os.close(fd)
        fd = deeper
    return fd


def _enter(fd: int, part: str, flags: int, owner: User | None) -> int:
    try:
        return os.open(part, flags, dir_fd=fd)
    except FileNotFoundError:
        os.mkdir(part, dirs.PRIVATE, dir_fd=fd)
        deeper = os.open(part, dirs.FOLDER, dir_fd=fd)
        try:
            if owner is not None:
                os.fchown(deeper, owner.uid, owner.gid)
        except OSError:
            os.close(deeper)
            # Otherwise the next try would find a folder that its owner cannot write to.
            os.rmdir(part, dir_fd=fd)
            raise
        return deeper


def _trusted_link(fd: int, part: str) -> str:
    """Return the target of a link that only root or this user could have made, else an empty string."""
    place = os.fstat(fd)
    loose = place.st_mode & _OTHERS_MAY_WRITE and not place.st_mode & stat.S_ISVTX
    with suppress(OSError):
        link = os.stat(part, dir_fd=fd, follow_symlinks=False)
        if not loose and {place.st_uid, link.st_uid} <= {0, os.geteuid()}:
            return os.readlink(part, dir_fd=fd)
    return ""
