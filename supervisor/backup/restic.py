"""Calls restic: its command lines, its environment, and the interpretation of its output."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import msgspec

from supervisor.backup import programs
from supervisor.backup.listener import Answer, Listener
from supervisor.backup.messages import Message, snapshots_of
from supervisor.backup.words import INCOMPLETE, LOCKED, NO_REPOSITORY, BackupError, Trouble, explain, known
from supervisor.config.backup_plan import LEAST_VERSION
from supervisor.config.plan import common_environment
from supervisor.core.process import ProcessSpec
from supervisor.errors import ConfigError
from supervisor.json_input import decode_json
from supervisor.system import kernel
from supervisor.system.spawn import SpawnError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.config.plan import BackupPlan
    from supervisor.config.settings import BackupSettings
    from supervisor.core.backup import SnapshotView
    from supervisor.core.process import ExitStatus
    from supervisor.runtime.engine import Engine

NAME = "restic"
# Measured: it used 71 to 91 MB of memory for 100 MB of data.
_MEMORY = "64MiB"
_ERRORS = 1
# It may not create them, and they would be removed: device files, and attributes that give rights.
_DROPPED_ANYWAY = ("mknod", "security.", "trusted.")
# These commands run for long without output.
_SILENT_BY_NATURE = frozenset({"forget", "check", "unlock", "version"})


class Restic:
    """One repository. ``on_progress`` gets a fraction from 0 to 1, ``on_trouble`` the current problem of a call."""

    def __init__(self, plan: BackupPlan, settings: BackupSettings, engine: Engine, environ: Mapping[str, str]) -> None:
        self.on_progress: Callable[[float], None] = lambda _share: None
        self.on_trouble: Callable[[Trouble | None], None] = lambda _trouble: None
        self._plan = plan
        self._settings = settings
        self._engine = engine
        self._environ = environ

    async def check_version(self) -> None:
        """Raise BackupError if restic is missing or too old."""
        answer = await self.call("version", needs_repository=False)
        said = answer.summary.version or b" ".join(answer.lines).decode(errors="replace").removeprefix("restic ")
        number = said.split()[0] if said.split() else ""
        parts = tuple(int(part) if part.isdecimal() else 0 for part in number.split(".")[:2])
        if parts < LEAST_VERSION:
            least = ".".join(map(str, LEAST_VERSION))
            raise BackupError(Trouble(f"restic {number or '?'} is too old", f"put {least} or newer into the image"))

    async def snapshots(self) -> tuple[SnapshotView, ...] | None:
        """Return the supervisor's snapshots; None if there is no repository yet. Raises BackupError."""
        answer = await self._ask("snapshots", fine=(0, NO_REPOSITORY))
        if answer.ending.code == NO_REPOSITORY:
            return None
        try:
            return snapshots_of(answer.lines[-1] if answer.lines else b"null")
        except msgspec.DecodeError as error:
            raise BackupError(Trouble("restic's list of snapshots makes no sense", "update restic")) from error

    async def repository_id(self) -> str:
        """Return the repository's id. Raises BackupError."""
        answer = await self._ask("cat", "config")
        whole = b"".join(answer.lines)
        try:
            return decode_json(whole, Message).id
        except msgspec.DecodeError:
            return answer.summary.id

    async def make_repository(self) -> None:
        """Create it. Raises BackupError."""
        await self._ask("init")

    async def back_up(self, words: Sequence[str]) -> Answer:
        """Take a snapshot; the answer says whether it is whole. Raises BackupError if none was taken."""
        answer = await self._ask("backup", *words, fine=(0, INCOMPLETE))
        if not answer.summary.snapshot_id:
            raise BackupError(Trouble("restic told of no snapshot", "its lines in the log say more"))
        return answer

    async def mark(self, snapshot_id: str, *tags: str) -> None:
        """Add tags to a snapshot, which changes its id. Raises BackupError."""
        await self._ask("tag", "--add", ",".join(tags), snapshot_id)

    async def forget(self, ids: Sequence[str]) -> None:
        """Remove snapshots, and data that no other snapshot needs. Raises BackupError."""
        await self._ask("forget", "--prune", *ids)

    async def check(self) -> Trouble | None:
        """Check the repository's structure; return the damage found. Raises BackupError if the check fails."""
        answer = await self._ask("check", fine=(0, _ERRORS))
        if not answer.ending.code:
            return None
        if not answer.summary.num_errors or known("; ".join(answer.errors)):
            raise BackupError(_trouble_of(answer))
        why = f"the repository is damaged: {next(iter(answer.errors), answer.failure)}"
        return Trouble(why, "repair it as restic's manual says under *Troubleshooting*, or begin a new one")

    async def dump(self, snapshot_id: str, path: str) -> bytes:
        """Return a small file from a snapshot. Raises BackupError."""
        answer = await self._ask("dump", snapshot_id, path)
        return b"\n".join(answer.lines)

    async def restore(self, snapshot_id: str, path: str, target_fd: int, name: str) -> None:
        """Make ``name`` in an open folder identical to a folder of a snapshot, and verify it.

        Raises BackupError.
        """
        # By its descriptor, so that renaming the folder meanwhile cannot redirect the restore.
        target = f"/proc/self/fd/{target_fd}/{name}"
        words = ("restore", f"{snapshot_id}:{path}", "--target", target, "--delete", "--verify")
        answer = await self._ask(*words, fine=(0, _ERRORS), fds=(target_fd,))
        wrong = [error for error in answer.errors if not any(word in error for word in _DROPPED_ANYWAY)]
        if wrong or (answer.ending.code and not answer.errors):
            raise BackupError(explain(answer.ending.code, wrong[0] if wrong else answer.failure))

    async def _ask(self, *words: str, fine: tuple[int, ...] = (0,), fds: tuple[int, ...] = ()) -> Answer:
        answer = await self.call(*words, fds=fds)
        if answer.ending.code == LOCKED:
            # Removes the stale locks of a killed restic, but none still in use.
            await self.call("unlock")
            answer = await self.call(*words, fds=fds)
        if answer.ending.code not in fine:
            raise BackupError(_trouble_of(answer))
        return answer

    async def call(self, *words: str, needs_repository: bool = True, fds: tuple[int, ...] = ()) -> Answer:
        """Run it to its end. Raises BackupError if it cannot be run, or gets no answer in time."""
        listener = Listener(self._engine, self.on_progress, self.on_trouble, silent=words[0] in _SILENT_BY_NATURE)
        try:
            env = self._environment() if needs_repository else common_environment(self._environ, "/", None)
            limit = kernel.only_capabilities(
                kernel.CAP_RESTORE if words[0] == "restore" else kernel.CAP_READ, self._engine.launcher
            )
            spec = ProcessSpec(NAME, (*limit, self._plan.program, "--json", *words), env, cwd=self._folder())
            with anyio.CancelScope() as scope:
                ending = await self._run(spec, listener, scope, fds)
        except SpawnError as error:
            raise BackupError(Trouble(error.why)) from error
        except ConfigError as error:
            raise BackupError(Trouble("; ".join(error.problems))) from error
        finally:
            self.on_trouble(None)
        if scope.cancelled_caught:
            raise BackupError(listener.trouble)
        return listener.answer(ending)

    async def _run(
        self, spec: ProcessSpec, listener: Listener, scope: anyio.CancelScope, fds: tuple[int, ...]
    ) -> ExitStatus:
        """Run it to its end; the listener cancels ``scope`` where it is silent. Raises SpawnError."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(listener.watch, scope)
                ending = await programs.run(self._engine, spec, listener.take, fds)
                group.cancel_scope.cancel()
        except* SpawnError as errors:
            # Unwrap the single exception of the group.
            raise errors.exceptions[0] from errors
        return ending

    def _folder(self) -> str:
        return self._plan.folder if os.path.isdir(self._plan.folder) else "/"

    def _environment(self) -> dict[str, str]:
        """Return restic's environment, secrets included. Raises ConfigError if a secret cannot be read."""
        settings, folder = self._settings, self._plan.folder
        secrets = {
            "RESTIC_PASSWORD": settings.password,
            "AWS_ACCESS_KEY_ID": settings.access_key_id,
            "AWS_SECRET_ACCESS_KEY": settings.secret_access_key,
        }
        values = {name: source.read().reveal() for name, source in secrets.items() if source is not None}
        for text in values.values():
            self._engine.log.redactor.learn(text)
        return {
            **common_environment(self._environ, folder, None),
            "HOME": folder,
            "RESTIC_REPOSITORY": settings.repository,
            "RESTIC_CACHE_DIR": os.path.join(folder, "cache"),
            "TMPDIR": os.path.join(folder, "tmp"),
            "RESTIC_PROGRESS_FPS": "1",
            "GOMAXPROCS": "1",
            "GOMEMLIMIT": _MEMORY,
            **values,
        }


def _trouble_of(answer: Answer) -> Trouble:
    return explain(answer.ending.code, answer.failure or "; ".join(answer.errors[-1:]))
