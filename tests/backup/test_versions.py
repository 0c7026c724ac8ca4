"""Output of other versions of restic, from a shell script: 0.17 has fewer exit codes, and more plain text."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from supervisor.backup.restic import Restic
from supervisor.backup.words import BackupError, Trouble
from supervisor.config.parsers import SecretSource
from supervisor.doctor.facts import LoneParent
from supervisor.logs.redact import Redactor
from supervisor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

PASSWORD = SecretSource("PASSWORD", value=Secret("a password"))
NO_LIST = "restic's list of snapshots cannot be parsed"


class Notes:
    """A log that is read by the test."""

    def __init__(self) -> None:
        self.redactor = Redactor()
        self.said: list[str] = []

    def record(self, _level: str, _message: str, **fields: Any) -> None:
        """Keep the text of a record."""
        self.said.append(str(fields.get("said", "")))


async def asked(
    folder: Path, says: str, ask: Callable[[Restic], Awaitable[Any]], password: SecretSource = PASSWORD
) -> Any:
    """Call a restic that is a shell script; return the result or the trouble, and what was logged."""
    program = folder / "restic"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    settings = SimpleNamespace(
        repository=str(folder), in_folder=True, password=password, access_key_id=None, secret_access_key=None
    )
    plan = SimpleNamespace(program=str(program), folder=str(folder))
    async with LoneParent().reaping() as parent:
        engine = SimpleNamespace(launcher=parent.launcher, reaper=parent.reaper, log=Notes())
        restic = Restic(cast("Any", plan), cast("Any", settings), cast("Any", engine), {"PATH": "/usr/bin:/bin"})
        try:
            return await ask(restic), engine.log.said
        except BackupError as error:
            return error.trouble, engine.log.said


@pytest.mark.parametrize("says", ["exit 0", "echo rubbish", "echo '{\"snapshots\": 1}'"])
async def test_an_answer_that_is_no_list_is_no_empty_repository(tmp_path: Path, says: str) -> None:
    """If it were taken for one, the files here would be adopted as the beginning."""
    found, _ = await asked(tmp_path, says, Restic.snapshots)
    assert isinstance(found, Trouble)
    assert found.why == NO_LIST


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (
            "echo 'pack 4f is missing' >&2; echo 'Fatal: repository contains errors' >&2",
            "the repository is damaged: pack 4f is missing",
        ),
        ("echo 'Fatal: unable to open: the moon is full' >&2", "restic failed: unable to open: the moon is full"),
    ],
)
async def test_damage_is_told_without_a_summary(tmp_path: Path, says: str, why: str) -> None:
    """`check` of 0.17 reports it this way; an error that prevents the check is not reported as damage."""
    found, _ = await asked(tmp_path, f"{says}; exit 1", Restic.check)
    assert found.why == why


async def test_a_wrong_password_without_a_code_of_its_own(tmp_path: Path) -> None:
    """0.17.0 exits with 1, and reports it in plain text."""
    says = "echo 'Fatal: wrong password or no key found' >&2; exit 1"
    found, _ = await asked(tmp_path, says, Restic.snapshots)
    assert found.why == "the password is not the repository's"


async def test_a_failure_in_plain_text_is_told(tmp_path: Path) -> None:
    """This holds for unknown messages too."""
    found, _ = await asked(tmp_path, "echo 'Fatal: the moon is full' >&2; exit 1", Restic.snapshots)
    assert found.why == "restic failed: the moon is full"


async def test_a_lock_that_cannot_be_taken_away_is_told_as_such(tmp_path: Path) -> None:
    """A key that may not delete cannot remove it; the reported reason is the key rather than the lock."""
    says = """case "$*" in *unlock*) echo 'Fatal: client.RemoveObject: Access Denied.' >&2; exit 1;; esac; exit 11"""
    found, _ = await asked(tmp_path, says, Restic.snapshots)
    assert found.why == "the bucket refuses the access key"


async def test_the_way_through_the_program_is_not_told(tmp_path: Path) -> None:
    """0.18 appends a whole stack trace to the message of an internal error."""
    text = "Fatal: it broke\ngithub.com/restic/restic/internal/errors.New\n\t/go/src/errors.go:1"
    message = json.dumps({"message_type": "exit_error", "code": 1, "message": text})
    says = f"cat >&2 <<'END'\n{message}\nEND\nexit 1"
    _, said = await asked(tmp_path, says, Restic.snapshots)
    assert said == ["Fatal: it broke"]


async def test_its_words_hold_no_part_of_a_secret(tmp_path: Path) -> None:
    """Neither the trouble, which the API shows, nor the log, wherever the words are cut."""
    secret = "hunter2backuppassword99"
    password = SecretSource("PASSWORD", value=Secret(secret))
    for filler in ("", "x" * 280, "x" * 295, "x" * 1995):
        text = f"Fatal: {filler}{secret}\u202e"
        message = json.dumps({"message_type": "exit_error", "code": 1, "message": text})
        for words in (message, text):
            says = f"cat >&2 <<'END'\n{words}\nEND\nexit 1"
            found, said = await asked(tmp_path, says, Restic.snapshots, password)
            told = f"{filler}[redacted]\\u202e"
            assert found.why == f"restic failed: {told[:300]}"
            assert said == [f"Fatal: {told}"[:2000]]


async def test_a_restic_that_speaks_without_end_takes_no_memory(tmp_path: Path) -> None:
    """Only the first hundred of its lines in plain text are kept."""
    says = "yes 'a word' | head -n 20000 >&2"
    answer, _ = await asked(tmp_path, says, lambda restic: restic.call("check"))
    assert 0 < len(answer.words) <= 100


async def test_a_password_that_no_pipe_holds_is_told(tmp_path: Path) -> None:
    """It is passed in a pipe, which takes 64 KiB; writing more would block for ever."""
    endless = SecretSource("PASSWORD", value=Secret("x" * 70_000))
    found, _ = await asked(tmp_path, "exit 0", Restic.snapshots, endless)
    assert found.why == "the password or a key is too long"
