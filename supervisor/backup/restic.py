"""Calls restic: its command lines, its environment, and the interpretation of its output."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec

from supervisor.backup import programs
from supervisor.backup.listener import Answer, Listener
from supervisor.backup.messages import TAG, Message, snapshots_of
from supervisor.backup.threads import SecretReader, task_group
from supervisor.backup.words import ENDED, INCOMPLETE, LOCKED, NO_REPOSITORY, BackupError, Trouble, explain, known
from supervisor.characters import printable
from supervisor.config.backup_plan import LEAST_VERSION
from supervisor.config.plan import common_environment
from supervisor.core.process import ProcessSpec
from supervisor.json_input import decode_json
from supervisor.system import kernel
from supervisor.system.signals import signal_name
from supervisor.system.spawn import SpawnError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from supervisor.config.plan import BackupPlan
    from supervisor.config.settings import BackupSettings
    from supervisor.core.backup import SnapshotView
    from supervisor.core.process import ExitStatus
    from supervisor.runtime.engine import Engine

NAME = "restic"
# Measured: it used 71 to 91 MB of memory for 100 MB of data.
_MEMORY = "64MiB"
_ERRORS = 1
# Before 0.18 `check` has no summary.
_DAMAGED = "repository contains errors"
# A lock that was left by a killed container must not delay a start for half an hour, and the key may be read-only.
_READS = ("--no-lock",)
_IGNORED = re.compile(r'Ignoring "([0-9a-f]{8})')
_CONFINE = "supervisor.backup.confine"
# Programs and libraries, names of hosts and users, certificates, time zones.
_SYSTEM = ("/bin", "/etc", "/lib", "/lib64", "/opt", "/usr", "/run/systemd/resolve", "/run/resolvconf")
# These commands run for long without output.
_SILENT_BY_NATURE = frozenset({"forget", "prune", "check", "unlock", "version"})


class Restic:
    """One repository. ``on_progress`` gets a fraction from 0 to 1, ``on_trouble`` the current problem of a call."""

    def __init__(self, plan: BackupPlan, settings: BackupSettings, engine: Engine, environ: Mapping[str, str]) -> None:
        self.on_progress: Callable[[float], None] = lambda _share: None
        self.on_trouble: Callable[[Trouble | None], None] = lambda _trouble: None
        self.unreadable: tuple[str, ...] = ()
        self._plan = plan
        self._settings = settings
        self._engine = engine
        self._environ = environ
        sources = (settings.password, settings.access_key_id, settings.secret_access_key)
        self._readers = [SecretReader(source) for source in sources]

    async def check_version(self) -> None:
        """Raise BackupError if restic is missing or too old."""
        answer = await self.call("version", needs_repository=False)
        said = answer.summary.version or b" ".join(answer.lines).decode(errors="replace").removeprefix("restic ")
        number = said.split()[0] if said.split() else ""
        parts = tuple(int(part) if part.isdecimal() else 0 for part in number.split(".")[:2])
        if parts < LEAST_VERSION:
            least = ".".join(map(str, LEAST_VERSION))
            raise BackupError(
                Trouble(f"restic {printable(number[:40]) or '?'} is too old", f"install {least} or newer in the image")
            )

    async def snapshots(self) -> tuple[SnapshotView, ...] | None:
        """Return the supervisor's snapshots; None if there is no repository yet. Raises BackupError.

        Those that restic cannot read are left out of its list, though it ends with 0: ``unreadable`` are their short
        ids (cmd/restic/find.go of 0.18).
        """
        answer = await self._ask("snapshots", *_READS, "--tag", TAG, fine=(0, NO_REPOSITORY))
        ignored = filter(None, map(_IGNORED.match, answer.words))
        self.unreadable = tuple(found[1] for found in ignored)
        if answer.ending.code == NO_REPOSITORY:
            return None
        try:
            # No output is an error, not an empty list.
            return snapshots_of(answer.lines[-1] if answer.lines else b"")
        except msgspec.DecodeError as error:
            what_to_do = "update restic, or remove old snapshots where there are many thousand"
            raise BackupError(Trouble("restic's list of snapshots cannot be parsed", what_to_do)) from error

    async def repository_id(self) -> str:
        """Return the repository's id. Raises BackupError."""
        answer = await self._ask("cat", *_READS, "config")
        whole = b"".join(answer.lines)
        try:
            return decode_json(whole, Message).id
        except msgspec.DecodeError:
            return answer.summary.id

    async def make_repository(self) -> None:
        """Create it. Raises BackupError."""
        await self._ask("init")

    async def back_up(self, words: Sequence[str], fds: tuple[int, ...]) -> Answer:
        """Take a snapshot; the answer says whether it is whole. It may read only the folders ``fds``.

        Raises BackupError if none was taken.
        """
        answer = await self._ask("backup", *words, fine=(0, INCOMPLETE), fds=fds)
        if not answer.summary.snapshot_id:
            raise BackupError(Trouble("restic reported no snapshot", "see its lines in the log"))
        return answer

    async def retag(self, snapshot_id: str, tags: Sequence[str]) -> None:
        """Replace the tags of a snapshot, which changes its id. Raises BackupError."""
        await self._ask("tag", *(word for tag in tags for word in ("--set", tag)), snapshot_id)

    async def mark(self, snapshot_ids: Sequence[str], *tags: str) -> None:
        """Add tags to snapshots, which changes their ids. Raises BackupError."""
        await self._ask("tag", "--add", ",".join(tags), *snapshot_ids)

    async def forget(self, ids: Sequence[str]) -> Trouble:
        """Remove snapshots; return why some may have stayed, though restic exits with 0. Raises BackupError."""
        said = " ".join((await self._ask("forget", *ids)).words)
        return known(said) or Trouble("the repository's server keeps them", "see restic's lines in the log")

    async def prune(self) -> None:
        """Remove the data that no snapshot needs. Raises BackupError."""
        await self._ask("prune")

    async def check(self) -> Trouble | None:
        """Check the repository's structure; return the damage found. Raises BackupError if the check fails."""
        answer = await self._ask("check", fine=(0, _ERRORS))
        if not answer.ending.code:
            return None
        said = [*answer.errors, *answer.words]
        damaged = answer.summary.num_errors or any(_DAMAGED in text for text in said)
        if not damaged or known("; ".join(answer.errors)):
            raise BackupError(_trouble_of(answer))
        why = f"the repository is damaged: {next(iter(said), answer.failure)}"
        return Trouble(why, "repair it as restic's manual describes under *Troubleshooting*, or begin a new one")

    async def dump(self, snapshot_id: str, path: str) -> bytes:
        """Return a small file from a snapshot. Raises BackupError."""
        answer = await self._ask("dump", *_READS, snapshot_id, path)
        return b"\n".join(answer.lines)

    async def restore(self, snapshot_id: str, path: str, target_fd: int, name: str) -> None:
        """Make ``name`` in an open folder identical to a folder of a snapshot, and verify it.

        Raises BackupError.
        """
        # By its descriptor, so that renaming the folder meanwhile cannot redirect the restore.
        target = f"/proc/self/fd/{target_fd}/{name}"
        words = ("restore", *_READS, f"{snapshot_id}:{path}", "--target", target, "--delete", "--verify")
        answer = await self._ask(*words, fine=(0, _ERRORS), fds=(target_fd,))
        if answer.errors or (answer.ending.code and not answer.dropped):
            raise BackupError(explain(answer.ending.code, next(iter(answer.errors), answer.failure)))

    async def _ask(self, *words: str, fine: tuple[int, ...] = (0,), fds: tuple[int, ...] = ()) -> Answer:
        answer = await self.call(*words, fds=fds)
        if answer.ending.code == LOCKED:
            # Removes the stale locks of a killed restic, but none still in use.
            unlocked = await self.call("unlock")
            if unlocked.ending.code:
                raise BackupError(_trouble_of(unlocked))
            answer = await self.call(*words, fds=fds)
        if answer.ending.code not in fine:
            raise BackupError(_trouble_of(answer))
        return answer

    async def call(self, *words: str, needs_repository: bool = True, fds: tuple[int, ...] = ()) -> Answer:
        """Run it to its end. Raises BackupError if it cannot be run, or gets no answer in time."""
        secrets = await self._secrets() if needs_repository else {}
        listener = Listener(self._engine, self.on_progress, self.on_trouble, silent=words[0] in _SILENT_BY_NATURE)
        limit = kernel.only_capabilities(
            kernel.CAP_RESTORE if words[0] == "restore" else kernel.CAP_READ, self._engine.launcher
        )
        confined = self._confined(fds) if words[0] == "backup" else ()
        argv = (*limit, *confined, self._plan.program, "--json", *words)
        try:
            with _piped(secrets) as pipes, anyio.CancelScope() as scope:
                env = {**self._environment(), **{name: f"/proc/self/fd/{fd}" for name, fd in pipes.items()}}
                spec = ProcessSpec(NAME, argv, env)
                ending = await self._run(spec, listener, scope, (*fds, *pipes.values()))
        except SpawnError as error:
            raise BackupError(Trouble(error.why)) from error
        finally:
            self.on_trouble(None)
        if scope.cancelled_caught:
            raise BackupError(listener.trouble)
        return listener.answer(ending)

    async def _run(
        self, spec: ProcessSpec, listener: Listener, scope: anyio.CancelScope, fds: tuple[int, ...]
    ) -> ExitStatus:
        """Run it to its end; the listener cancels ``scope`` where it is silent. Raises SpawnError."""
        async with task_group(SpawnError) as group:
            group.start_soon(listener.watch, scope)
            ending = await programs.run(self._engine, spec, listener.take, fds)
            group.cancel_scope.cancel()
        return ending

    def _confined(self, fds: tuple[int, ...]) -> tuple[str, ...]:
        """Return the command prefix that lets root's restic read only these folders and what it needs itself."""
        if os.geteuid() != 0:
            return ()
        ours = [os.path.dirname(self._plan.program), self._plan.folder]
        if self._settings.in_folder:
            ours.append(self._settings.repository)
        certificates = [self._environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if self._environ.get(name)]
        return (sys.executable, "-I", "-m", _CONFINE, *map(str, fds), *_SYSTEM, *ours, *certificates, "--")

    async def _secrets(self) -> dict[str, str]:
        """Return the content of the files that restic reads secrets from, by the variables that name these files.

        Raises BackupError if a secret cannot be read.
        """
        password, key_id, key = [await reader.text() for reader in self._readers]
        for text in filter(None, (password, key_id, key)):
            self._engine.log.redactor.learn(text)
        if self._settings.in_folder:
            return {"RESTIC_PASSWORD_FILE": password}
        # The S3 library's own format, as that of AWS cannot hold every secret.
        keys = {"hosts": {"s3": {"accessKey": key_id, "secretKey": key, "api": "S3v4"}}}
        return {"RESTIC_PASSWORD_FILE": password, "MINIO_SHARED_CREDENTIALS_FILE": json.dumps(keys)}

    def _environment(self) -> dict[str, str]:
        folder = self._plan.folder
        return {
            **common_environment(self._environ, folder, None),
            "HOME": folder,
            "RESTIC_REPOSITORY": self._settings.repository,
            "RESTIC_CACHE_DIR": os.path.join(folder, "cache"),
            "TMPDIR": os.path.join(folder, "tmp"),
            "RESTIC_PROGRESS_FPS": "1",
            "GOMAXPROCS": "1",
            "GOMEMLIMIT": _MEMORY,
        }


@contextmanager
def _piped(texts: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Lend pipes that hold these texts, for the duration of a block: each can be read once.

    An environment could be read again: the app can lead restic to `/proc/self` by a link in place of a folder, and find
    what it has read after a restore. Raises BackupError.
    """
    with ExitStack() as stack:
        yield {name: _pipe(text, stack) for name, text in texts.items()}


def _pipe(text: str, stack: ExitStack) -> int:
    """Return the read end of a pipe that holds a text, until the stack's end. Raises BackupError."""
    try:
        read_fd, write_fd = os.pipe()
        stack.callback(os.close, read_fd)
        with open(write_fd, "wb", buffering=0) as pipe:
            os.set_blocking(write_fd, False)
            written = pipe.write(text.encode())
    except OSError as error:
        raise BackupError(Trouble(f"cannot pass restic its secrets: {error.strerror or error}")) from error
    if written != len(text.encode()):
        raise BackupError(Trouble("the password or a key is too long"))
    return read_fd


def _trouble_of(answer: Answer) -> Trouble:
    if answer.ending.signal is not None:
        return Trouble(f"restic was ended by {signal_name(answer.ending.signal)}", ENDED)
    # Before 0.18 a failure is reported as plain text.
    return explain(answer.ending.code, answer.failure or "; ".join(answer.errors[-1:]) or " ".join(answer.words[-3:]))
