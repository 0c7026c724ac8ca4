"""Takes one snapshot: staged copies of databases, all other files in place, and a manifest that maps the folders."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

import anyio
import msgspec

from supervisor.backup import programs
from supervisor.backup.messages import tags_of
from supervisor.backup.places import (
    BESIDE,
    DATABASES,
    LOST_AND_FOUND,
    MANIFEST,
    MARKER,
    RESERVE_BYTES,
    WORKSHOP,
    opened_folder,
)
from supervisor.backup.threads import SEE, Steps
from supervisor.backup.words import BackupError, Trouble
from supervisor.config.plan import common_environment
from supervisor.core.process import ProcessSpec
from supervisor.errors import ConfigError, remedy_for_resources
from supervisor.json_input import decode_json
from supervisor.logs.received import received_line
from supervisor.system import dirs
from supervisor.system import spawn as find_programs
from supervisor.system.spawn import SpawnError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from supervisor.backup.messages import Message
    from supervisor.backup.places import Places
    from supervisor.backup.restic import Restic
    from supervisor.config.plan import BackupPlan, BackupSource, Plan
    from supervisor.core.backup import SnapshotView
    from supervisor.runtime.engine import Engine

MANIFEST_VERSION = 1
# A database that is locked forever must not prevent the backup of everything else.
COPY_S = 600.0
# What excludes their live files from restic's command line, for which the kernel has 2 MiB.
MOST_EXCLUSIONS_BYTES = 1024 * 1024
_POINTER_BYTES = 8
_MOST_CHARACTERS = 1000
_MOST_NOTES = 100
_HELPER = "supervisor.backup.copies"
_HELPER_NAME = "copies"
# In tailscaled's folder: its log buffers, the targets of its links there (1.104), and the supervisor's own files.
_NOT_IDENTITY = ("supervisor.lock", "tailscaled.log?.txt", "tailscaled.log.conf", "dns-cache", MARKER, LOST_AND_FOUND)


class CopiesReport:
    """The helper's output about the databases below some folders.

    It runs as the app's user, so the app can make it say anything: only paths below these folders are believed, and
    only so many.
    """

    def __init__(self, folders: list[str], mask: Callable[[str], str]) -> None:
        self.copied: list[str] = []
        self.wrong: list[str] = []
        self.waits: list[tuple[str, float]] = []
        self.full = ""
        self.done = False
        self._left_bytes = MOST_EXCLUSIONS_BYTES
        self._mask = mask
        self._folders = [f"{os.path.normpath(folder)}/" for folder in folders]

    def take(self, line: bytes, is_error: bool) -> None:  # noqa: FBT001
        """Handle a line."""
        said = None
        if not is_error:
            with suppress(msgspec.DecodeError):
                said = decode_json(line, _Copied)
        if said is None:
            self._note(line.decode(errors="replace"))
        elif said.done:
            self.done = True
        else:
            self._take(said)

    def _take(self, said: _Copied) -> None:
        raw = said.path.encode("latin-1", "replace")
        path, shown = os.fsdecode(raw), raw.decode(errors="replace")
        if os.path.normpath(path) != path or "\0" in path or not path.startswith(tuple(self._folders)):
            self._note(f"{shown}: it is in none of the folders")
        elif said.state == "failed" and said.no_room:
            self.full = received_line(f"{shown}: {said.why}", self._mask, _MOST_CHARACTERS)
        elif said.state == "failed":
            self._note(f"{shown}: {said.why}")
        elif (size_bytes := _size_bytes(exclusions(path))) > self._left_bytes:
            self._note(f"{shown}: there are too many databases")
        else:
            self._left_bytes -= size_bytes
            self.copied.append(path)
            if said.waited_s:
                self.waits.append((shown, said.waited_s))

    def _note(self, why: str) -> None:
        if len(self.wrong) < _MOST_NOTES:
            self.wrong.append(received_line(why, self._mask, _MOST_CHARACTERS))


class _Copied(msgspec.Struct):
    path: str = ""
    state: str = ""
    why: str = ""
    no_room: bool = False
    waited_s: float = 0.0
    done: bool = False


class Seen(NamedTuple):
    """What was seen before a snapshot: the folders that do not exist, and what identifies the processes' versions."""

    absent: list[str]
    programs: str


class Taken(NamedTuple):
    """A snapshot that was taken, and what is missing from it (empty if it is whole).

    With ``marked_anew`` its tags, and with them its id, were changed afterwards, or could not be.
    """

    view: SnapshotView
    missing: str
    marked_anew: bool = False


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
        self._look = Steps(SEE)
        self._steps = Steps(f"work in {plan.backup.folder}")

    def _programs(self) -> str:
        """Return what identifies the versions of the app and of tailscaled: their files' times and sizes."""
        found = []
        for spec in self._plan.processes:
            try:
                status = os.stat(find_programs.program_of(spec))
                found.append(f"{spec.name} {status.st_size} {status.st_mtime_ns}")
            except (OSError, SpawnError):
                found.append(spec.name)
        return hashlib.sha256("\n".join(found).encode()).hexdigest()[:12]

    async def look(self) -> Seen:
        """Look at the folders and the programs. Raises BackupError if a disk does not answer."""
        return await self._look.take(self._see)

    def _see(self) -> Seen:
        # restic's own folders are on that disk, and it would wait for it in silence.
        with suppress(OSError):
            os.statvfs(self._backup.folder)
        return Seen([source.path for source in self._backup.all_sources if not _is_folder(source)], self._programs())

    async def take(self, view: SnapshotView, absent: list[str]) -> Taken:
        """Take a snapshot of this generation, sequence and so on.

        ``absent`` are the folders that did not exist at its beginning. If ``view`` is not whole, the snapshot is marked
        as such until it has turned out to be. Raises BackupError if no snapshot was taken.
        """
        try:
            return await self._take(view, absent)
        except OSError as error:
            why = f"cannot work in {self._backup.folder}: {error.strerror or error}"
            raise BackupError(Trouble(why, remedy_for_resources(error) or "check the disk")) from error

    async def _take(self, view: SnapshotView, absent: list[str]) -> Taken:
        await self._places.make()
        sources = [source for source in self._backup.sources if source.path not in absent]
        if not sources:
            raise BackupError(Trouble("none of the folders is there", "mount them, or check SUPERVISOR_BACKUP_PATHS"))
        await self._steps.take(self._check_room)
        copied, wrong = await self._copy_databases(sources)
        await self._steps.take(self._write_manifest, absent, copied)
        wrong += [f"{path} is not a folder" for path in absent]
        # Marked from the beginning, as a kill could come before a mark that is made afterwards.
        marked = view._replace(whole=view.whole and not wrong, complete=not absent)
        with ExitStack() as stack:
            fds = await self._steps.take(self._open_folders, stack)
            words = list(self._words(marked, sources, absent, copied))
            answer = await self._restic.back_up(words, fds)
        wrong += answer.errors
        vanished = []
        try:
            vanished = [path for path in (await self.look()).absent if path not in absent]
        except BackupError as error:
            # It was taken.
            wrong.append(error.trouble.why)
        wrong += [f"{path} has vanished" for path in vanished]
        if answer.ending.code and not wrong:
            wrong.append("some files could not be read")
        taken = self._taken(marked, answer.summary)
        right = taken._replace(whole=not wrong, complete=not (absent or vanished))
        missing = "; ".join(wrong[:5])
        if right == taken:
            return Taken(taken, missing)
        return Taken(right if await self._mark(right) else taken, missing, marked_anew=True)

    def _open_folders(self, stack: ExitStack) -> tuple[int, ...]:
        fds = []
        for source in self._backup.all_sources:
            # One that has vanished by now is noticed afterwards.
            with suppress(OSError):
                fds.append(stack.enter_context(opened_folder(source, make=False)))
        return tuple(fds)

    async def _mark(self, view: SnapshotView) -> bool:
        """Change the marks of a snapshot that was taken; if that fails, the snapshot is kept and the failure logged."""
        try:
            await self._restic.retag(view.id, tags_of(view))
        except BackupError as error:
            why, what_to_do = error.trouble.why, error.trouble.what_to_do or None
            self._engine.log.record("warning", "snapshot's tags left", part="backup", why=why, what_to_do=what_to_do)
            return False
        return True

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
        owner = sources[0].owner
        folders = [source.path for source in sources]
        target = os.path.join(self._places.staged, DATABASES)
        argv = (sys.executable, "-I", "-m", _HELPER, target, *folders)
        spec = ProcessSpec(_HELPER_NAME, argv, common_environment(self._environ, "/", owner), user=owner)
        report = CopiesReport(folders, self._engine.log.redactor.mask_text)
        try:
            with anyio.fail_after(COPY_S):
                ending = await programs.run(self._engine, spec, report.take)
        except TimeoutError as error:
            why = f"the databases could not be copied within {COPY_S:g} s"
            raise BackupError(Trouble(why, "the log lists the copied ones; another one may be locked")) from error
        except SpawnError as error:
            raise BackupError(Trouble(error.why)) from error
        for path, waited_s in report.waits:
            self._tell_wait(path, waited_s)
        if report.full:
            raise BackupError(Trouble(f"there is no room to copy a database: {report.full}", "free some of the disk"))
        if not report.done:
            last = report.wrong[-1] if report.wrong else f"it ended with {ending.shell_status}"
            raise BackupError(Trouble(f"the databases could not be copied: {last}", "see the log"))
        return report.copied, report.wrong

    def _tell_wait(self, path: str, waited_s: float) -> None:
        why = "it is written too often to be copied in steps"
        said = {"path": path, "writers_waited_s": waited_s, "why": why}
        self._engine.log.record("warning", "a database was copied in one pass", part="backup", **said)

    def _write_manifest(self, absent: list[str], copied: list[str]) -> None:
        there = [source for source in self._backup.all_sources if source.path not in absent]
        manifest = {
            "version": MANIFEST_VERSION,
            "folders": [{"name": source.name, "path": source.path} for source in there],
            "databases": [os.fsencode(path).decode(errors="replace") for path in copied],
        }
        try:
            with dirs.opened(self._places.staged) as fd:
                dirs.put_file(fd, MANIFEST, json.dumps(manifest, indent=1) + "\n")
        except ConfigError as error:
            raise BackupError(Trouble("; ".join(error.problems))) from error

    def _words(
        self, view: SnapshotView, sources: list[BackupSource], absent: list[str], copied: list[str]
    ) -> Iterator[str]:
        yield from ("--host", self._plan.settings.app.name, "--group-by", "host", "--exclude-caches")
        for tag in tags_of(view):
            yield from ("--tag", tag)
        for path in copied:
            yield from exclusions(path)
        for source in sources:
            for name in (MARKER, WORKSHOP, LOST_AND_FOUND):
                yield from ("--exclude", _literal(os.path.join(source.path, name)))
        identity = self._backup.identity
        if identity is not None:
            for name in _NOT_IDENTITY:
                yield from ("--exclude", f"{_literal(identity.path)}/{name}")
        yield "--"
        yield from (source.path for source in sources)
        if identity is not None and identity.path not in absent:
            yield identity.path
        yield self._places.staged


def exclusions(database: str) -> tuple[str, ...]:
    """Return the words of restic's command line that exclude a database's live files."""
    return tuple(word for beside in ("", *BESIDE) for word in ("--exclude", _literal(database + beside)))


def _size_bytes(words: tuple[str, ...]) -> int:
    """Return how much of a command line's room they take (execve(2))."""
    return sum(len(os.fsencode(word)) + 1 + _POINTER_BYTES for word in words)


def _is_folder(source: BackupSource) -> bool:
    try:
        with opened_folder(source, make=False):
            return stat.S_ISDIR(os.lstat(source.path).st_mode)
    except OSError:
        return False


def _literal(path: str) -> str:
    """Return a path as a restic pattern that matches only this path."""
    return "".join(f"\\{character}" if character in "\\*?[" else character for character in path)
