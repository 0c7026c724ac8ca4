"""Takes one snapshot: staged copies of databases, all other files in place, and a manifest that maps the folders."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

import anyio

from supervisor.backup import programs
from supervisor.backup.messages import MISSING, PARTIAL, tags_of
from supervisor.backup.places import DATABASES, MANIFEST, MARKER, RESERVE_BYTES, WORKSHOP
from supervisor.backup.words import BackupError, Trouble
from supervisor.config.plan import common_environment
from supervisor.core.process import ProcessSpec
from supervisor.errors import ConfigError
from supervisor.json_input import decode_object
from supervisor.system import dirs
from supervisor.system import spawn as find_programs
from supervisor.system.spawn import SpawnError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from supervisor.backup.messages import Message
    from supervisor.backup.places import Places
    from supervisor.backup.restic import Restic
    from supervisor.config.plan import BackupPlan, BackupSource, Plan
    from supervisor.core.backup import SnapshotView
    from supervisor.runtime.engine import Engine

MANIFEST_VERSION = 1
# A database that is locked for ever must not prevent the backup of everything else.
COPY_S = 600.0
_HELPER = "supervisor.backup.copies"
_HELPER_NAME = "copies"
_BESIDE = ("", "-wal", "-shm", "-journal")
# In tailscaled's folder: its log buffers, the targets of its links there (1.104), and the supervisor's own files.
_NOT_IDENTITY = ("supervisor.lock", "tailscaled.log?.txt", "tailscaled.log.conf", "dns-cache", MARKER)


class Taker:
    """Takes snapshots of one plan's folders."""

    def __init__(self, plan: Plan, engine: Engine, restic: Restic, places: Places, environ: Mapping[str, str]) -> None:
        if plan.backup is None:
            raise ValueError("cannot take snapshots: this plan has no backups")
        self._plan = plan
        self._backup: BackupPlan = plan.backup
        self._engine = engine
        self._restic = restic
        self._places = places
        self._environ = environ

    @property
    def programs(self) -> str:
        """Return what identifies the versions of the app and of tailscaled: their files' times and sizes."""
        found = []
        for spec in self._plan.processes:
            try:
                status = os.stat(find_programs.program_of(spec))
                found.append(f"{spec.name} {status.st_size} {status.st_mtime_ns}")
            except (OSError, SpawnError):
                found.append(spec.name)
        return hashlib.sha256("\n".join(found).encode()).hexdigest()[:12]

    def absent(self) -> list[str]:
        """Return the folders that do not exist."""
        return [source.path for source in self._backup.sources if not _is_folder(source.path)]

    async def take(self, view: SnapshotView, absent: list[str]) -> tuple[SnapshotView, str]:
        """Take a snapshot with these tags; return it, and what is missing from it (empty if it is whole).

        ``absent`` are the folders that did not exist at its beginning. Raises BackupError if no snapshot was taken.
        """
        try:
            return await self._take(view, absent)
        except OSError as error:
            why = f"cannot work in {self._backup.folder}: {error.strerror or error}"
            raise BackupError(Trouble(why, "check the disk")) from error

    async def _take(self, view: SnapshotView, absent: list[str]) -> tuple[SnapshotView, str]:
        self._places.make()
        sources = self._backup.sources
        if len(absent) == len(sources):
            raise BackupError(Trouble("none of the folders is there", "mount them, or check SUPERVISOR_BACKUP_PATHS"))
        self._check_room()
        copied, wrong = await self._copy_databases([source for source in sources if source.path not in absent])
        self._write_manifest(copied)
        wrong += [f"{path} is no folder" for path in absent]
        words = list(self._words(view, [source for source in sources if source.path not in absent], copied))
        answer = await self._restic.back_up(words)
        wrong += answer.errors
        vanished = [path for path in self.absent() if path not in absent]
        wrong += [f"{path} has vanished" for path in vanished]
        if answer.ending.code and not wrong:
            wrong.append("some files could not be read")
        if wrong:
            tags = (PARTIAL, MISSING) if absent or vanished else (PARTIAL,)
            await self._restic.mark(answer.summary.snapshot_id, *tags)
        return self._taken(view, answer.summary), "; ".join(wrong[:5])

    def _taken(self, view: SnapshotView, said: Message) -> SnapshotView:
        return view._replace(
            id=said.snapshot_id,
            at=said.backup_start,
            size_bytes=said.total_bytes_processed,
            added_bytes=said.data_added_packed,
            files=said.total_files_processed,
            duration_s=said.total_duration,
            staged=self._places.staged,
        )

    def _check_room(self) -> None:
        room = os.statvfs(self._backup.folder)
        if room.f_bavail * room.f_frsize < RESERVE_BYTES:
            raise BackupError(Trouble("the disk is nearly full, and a snapshot would fill it", "free some of it"))

    async def _copy_databases(self, sources: list[BackupSource]) -> tuple[list[str], list[str]]:
        """Return the databases that were copied, and the errors of the others."""
        copied: list[str] = []
        wrong: list[str] = []
        full: list[str] = []
        done = False

        def take(line: bytes, is_error: bool) -> None:  # noqa: FBT001
            nonlocal done
            said = decode_object(line)
            if is_error or said is None:
                wrong.append(line.decode(errors="replace"))
            elif "done" in said:
                done = True
            elif said.get("state") == "failed":
                (full if said.get("no_room") else wrong).append(f"{said['path']}: {said.get('why')}")
            else:
                copied.append(str(said["path"]))
                self._tell_wait(said)

        owner = sources[0].owner
        target = os.path.join(self._places.staged, DATABASES)
        argv = (sys.executable, "-I", "-m", _HELPER, target, *(source.path for source in sources))
        spec = ProcessSpec(_HELPER_NAME, argv, common_environment(self._environ, "/", owner), user=owner)
        try:
            with anyio.fail_after(COPY_S):
                ending = await programs.run(self._engine, spec, take)
        except TimeoutError as error:
            why = f"the databases could not be copied within {COPY_S:g} s"
            raise BackupError(Trouble(why, "the log says which were; is one of them held?")) from error
        except SpawnError as error:
            raise BackupError(Trouble(error.why)) from error
        if full:
            raise BackupError(Trouble(f"there is no room to copy a database: {full[0]}", "free some of the disk"))
        if not done:
            last = wrong[-1] if wrong else f"it ended with {ending.shell_status}"
            raise BackupError(Trouble(f"the databases could not be copied: {last}", "the log says more"))
        return copied, wrong

    def _tell_wait(self, said: dict[str, Any]) -> None:
        if said.get("waited_s"):
            log = self._engine.log
            log.record(
                "warning",
                "a database was copied in one pass",
                part="backup",
                path=said["path"],
                writers_waited_s=said["waited_s"],
                why="it is written too often to be copied in steps",
            )

    def _write_manifest(self, copied: list[str]) -> None:
        sources = [*self._backup.sources, *([self._backup.identity] if self._backup.identity else [])]
        manifest = {
            "version": MANIFEST_VERSION,
            "folders": [{"name": source.name, "path": source.path} for source in sources],
            "databases": copied,
        }
        fd = os.open(self._places.staged, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            dirs.put_file(fd, MANIFEST, json.dumps(manifest, indent=1) + "\n")
        except ConfigError as error:
            raise BackupError(Trouble("; ".join(error.problems))) from error
        finally:
            os.close(fd)

    def _words(self, view: SnapshotView, sources: list[BackupSource], copied: list[str]) -> Iterator[str]:
        yield from ("--host", self._plan.settings.app.name, "--group-by", "host", "--exclude-caches")
        for tag in tags_of(view):
            yield from ("--tag", tag)
        for path in copied:
            for beside in _BESIDE:
                yield from ("--exclude", _literal(path + beside))
        for source in sources:
            yield from ("--exclude", _literal(os.path.join(source.path, MARKER)))
            yield from ("--exclude", _literal(os.path.join(source.path, WORKSHOP)))
        identity = self._backup.identity
        if identity is not None:
            for name in _NOT_IDENTITY:
                yield from ("--exclude", f"{_literal(identity.path)}/{name}")
        yield "--"
        yield from (source.path for source in sources)
        if identity is not None:
            yield identity.path
        yield self._places.staged


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _literal(path: str) -> str:
    """Return a path as a restic pattern that matches only this path."""
    return "".join(f"\\{character}" if character in "\\*?[" else character for character in path)
