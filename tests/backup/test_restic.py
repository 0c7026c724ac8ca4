"""How restic's output is parsed: that of other versions, and output forged in the name of the copy helper."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from supervisor.backup.listener import Listener
from supervisor.backup.messages import TAG, snapshots_of
from supervisor.backup.take import CopiesReport, exclusions
from supervisor.backup.words import explain
from supervisor.core.process import ExitStatus
from supervisor.logs.redact import Redactor

if TYPE_CHECKING:
    from supervisor.backup.listener import Answer
    from supervisor.runtime.engine import Engine


class _Log:
    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.redactor = Redactor(secrets)

    def record(self, *_words: object, **_fields: object) -> None:
        """Discard a record."""


class _Engine:
    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.log = _Log(secrets)


def heard(*lines: bytes, secrets: tuple[str, ...] = (), is_error: bool = False) -> Answer:
    """Return the answer parsed from lines of standard output, or of standard error."""
    listener = Listener(cast("Engine", _Engine(secrets)), lambda _share: None, lambda _trouble: None, silent=True)
    for line in lines:
        listener.take(line, is_error)
    return listener.answer(ExitStatus(0))


def test_what_a_later_version_adds_replaces_no_summary() -> None:
    """Each message has a type; unknown ones are ignored."""
    answer = heard(b'{"message_type":"summary","snapshot_id":"abc"}', b'{"message_type":"news","id":"1"}')
    assert answer.summary.snapshot_id == "abc"


def test_no_answer_is_no_empty_list_of_snapshots() -> None:
    """An empty list is printed as one, by each version in its own way."""
    assert snapshots_of(b"[]") == snapshots_of(b"null") == ()
    with pytest.raises(msgspec.DecodeError):
        snapshots_of(b"")


def test_a_snapshot_whose_tags_were_changed_counts_once() -> None:
    """With a key that may not delete, the first one stays next to the one that replaces it."""
    told = [{"id": "first", "tags": [TAG]}, {"id": "second", "tags": [TAG, "partial"], "original": "first"}]
    (view,) = snapshots_of(json.dumps(told).encode())
    assert (view.id, view.whole) == ("second", False)
    told.insert(0, {"id": "third", "tags": [TAG, "partial", "replaced"], "original": "first"})
    (view,) = snapshots_of(json.dumps(told).encode())
    assert (view.id, view.whole, view.replaced) == ("third", False, True)


DROPPED = [
    "/disk: mknod /proc/self/fd/9/files/disk: operation not permitted",
    "/tool: xattr.LSet /proc/self/fd/9/files/tool security.capability: operation not permitted",
    "/a\nb: xattr.LSet /proc/self/fd/9/files/a\nb trusted.overlay.opaque: operation not permitted",
]
FAULTS = [
    "/security.txt: write /proc/self/fd/9/files/security.txt: no space left on device",
    "/trusted.db: Load(<data/04c2>, 100, 0) failed: unexpected EOF",
    "/mknod: chmod /proc/self/fd/9/files/mknod: operation not permitted",
    "/note: xattr.LSet /proc/self/fd/9/files/note user.security.x: no space left on device",
]


def error(text: str) -> bytes:
    """Return restic's message about an error."""
    return json.dumps({"message_type": "error", "error": {"message": text}}).encode()


def test_only_what_would_be_dropped_anyway_is_no_fault_of_a_restore() -> None:
    """This does not depend on the names of the files that cannot be restored."""
    answer = heard(*map(error, [*DROPPED, *FAULTS]))
    assert (list(answer.errors), answer.dropped) == (FAULTS, True)
    assert not heard(*map(error, FAULTS)).dropped


def test_errors_of_a_million_files_take_no_memory() -> None:
    """Their number is limited, and errors about what would be dropped anyway, however many, displace none of them."""
    answer = heard(*map(error, DROPPED * 2000), *(error(f"/{number}: {FAULTS[0]}") for number in range(5000)))
    assert answer.errors[0] == f"/0: {FAULTS[0]}"
    assert len(answer.errors) == 1000


def test_a_helper_that_speaks_for_the_app_is_believed_nothing_about_others_files() -> None:
    """It runs as the app's user, who can forge its output: that must not exclude tailscaled's state from a snapshot."""
    report = CopiesReport(["/data"], str)
    lies = ["/state/tailscaled.state", "/data/../state/x", "/database", "/data/a\0b", "", "/data/./x"]
    for path in (*lies, "/data/good.db"):
        report.take(json.dumps({"path": path, "state": "copied"}).encode(), is_error=False)
    report.take(b'{"path": ["/data/x"], "state": "copied"}', is_error=False)
    report.take('{"path": "/data/\u20ac"}'.encode(), is_error=False)
    report.take(b"\xff", is_error=True)
    assert report.copied == ["/data/good.db", "/data/?"]
    assert len(report.wrong) == len(lies) + 2
    assert not report.done


@pytest.mark.parametrize("name", ["x" * 250, "*" * 250])
def test_the_databases_always_fit_into_a_command_line(name: str) -> None:
    """This holds for paths of any length: with one argument too many, there would be no snapshot at all."""
    report = CopiesReport(["/data"], str)
    for number in range(2000):
        path = f"/data/{name}/{name}/{number}"
        report.take(json.dumps({"path": path, "state": "copied"}).encode(), is_error=False)
    words = [word for path in report.copied for word in exclusions(path)]
    assert report.copied
    assert report.wrong
    subprocess.run(["/bin/true", *words], check=True)


def test_what_another_program_tells_is_masked_before_it_is_cut_and_shows_what_is_invisible() -> None:
    """Whether as restic's error, its plain text, or the copy helper's: every text has both."""
    secrets = ("AKIDEXAMPLE12345678", "hunter2backuppassword99")
    mask = Redactor(secrets).mask_text
    for begin in ("", "x" * 255, "x" * 299, "x" * 999):
        text = f"key {secrets[0]}\u202e\ufff0 and {begin}{secrets[1]}"
        shown = f"key [redacted]\\u202e\\ufff0 and {begin}[redacted]"
        answer = heard(
            json.dumps({"message_type": "exit_error", "code": 1, "message": text}, ensure_ascii=False).encode(),
            json.dumps({"message_type": "error", "error": {"message": "broken"}, "item": text}).encode(),
            secrets=secrets,
        )
        assert answer.failure == shown
        assert answer.errors == (f"{shown}: broken",)
        assert explain(1, answer.failure).why == f"restic failed: {shown}"[:315]
        assert heard(text.encode(), secrets=secrets, is_error=True).words == (shown,)
        report = CopiesReport(["/data"], mask)
        report.take(text.encode(), is_error=True)
        report.take(json.dumps({"path": "/data/x", "state": "failed", "why": text, "no_room": True}).encode(), False)
        assert (report.wrong, report.full) == ([shown[:1000]], f"/data/x: {shown}"[:1000])
    line = json.dumps([{"id": "ab", "time": "now\u200b", "tags": [TAG, "reason=\u202e"]}])
    (snapshot,) = snapshots_of(line.encode())
    assert (snapshot.at, snapshot.reason) == ("now\\u200b", "\\u202e")


def test_a_helper_that_speaks_without_end_takes_no_memory() -> None:
    """Neither its databases nor its errors are kept without a limit."""
    report = CopiesReport(["/data"], str)
    for number in range(10_000):
        report.take(json.dumps({"path": f"/data/{number}", "state": "copied"}).encode(), is_error=False)
        report.take(os.urandom(5000), is_error=True)
    assert 2000 < len(report.copied) < 10_000
    assert len(report.wrong) <= 100
    assert max(map(len, report.wrong)) <= 1000
