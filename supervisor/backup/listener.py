"""Follows the output of one restic call, and detects its silence."""

from __future__ import annotations

import itertools
import re
import time
from typing import TYPE_CHECKING, NamedTuple

import anyio

from supervisor.backup.messages import Message, message_of
from supervisor.backup.words import NO_REPOSITORY, SILENT, explain
from supervisor.logs.received import received, received_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.backup.words import Trouble
    from supervisor.core.process import ExitStatus
    from supervisor.runtime.engine import Engine

# Silence is reported after the first (the second once data has come), and ends the call after the third: restic 0.18
# itself retries for a quarter of an hour, and is silent for minutes.
SILENT_S = 4.0
STALLED_S = 30.0
PATIENCE_S = 60.0
_RETRIES = "returned error, retrying after"
# Other messages, such as those of later versions, must not replace a summary.
_SUMMARIES = frozenset({"summary", "version", "changed"})
_MOST_WORDS = 100
_MOST_CHARACTERS = 2000
# There may be one for each of a million files.
_MOST_ERRORS = 1000
# It may not create them, and they would be removed: device files, and attributes that give rights.
_DROPPED_ANYWAY = re.compile(
    r"(mknod /proc/self/fd/[^\0]*|xattr\.LSet /proc/self/fd/[^\0]* (security|trusted)\.\S+): operation not permitted\Z"
)
# Where the words of an error end, and the way through the program begins.
_TRACE = ("github.com/", "\t")
_SKIPS = "does not exist, skipping"


class Answer(NamedTuple):
    """The result of a call: output lines other than messages, the last summary, and the errors.

    ``dropped`` is whether there were others, about what a restore would remove anyway. ``failure`` is restic's last
    error message if it failed, ``words`` are the lines of plain text on standard error.
    """

    ending: ExitStatus
    lines: tuple[bytes, ...]
    summary: Message
    errors: tuple[str, ...]
    failure: str
    words: tuple[str, ...] = ()
    dropped: bool = False


class Listener:
    """Handles the output of one call, and detects its silence."""

    def __init__(
        self,
        engine: Engine,
        on_progress: Callable[[float], None],
        on_trouble: Callable[[Trouble | None], None],
        *,
        silent: bool,
    ) -> None:
        self.trouble = SILENT
        self._silent = silent
        self._log = engine.log
        self._mask = engine.log.redactor.mask_text
        self._on_progress = on_progress
        self._on_trouble = on_trouble
        self._lines: list[bytes] = []
        self._errors: list[str] = []
        self._dropped = False
        self._summary = Message()
        self._failure = ""
        self._words: list[str] = []
        self._well_s = time.monotonic()
        self._got: tuple[int, int] | None = None
        self._said: set[str] = set()

    def take(self, line: bytes, is_error: bool) -> None:  # noqa: FBT001
        """Handle a line."""
        message = message_of(line)
        if message is None or not message.message_type:
            if is_error:
                self._take_words(received(line.decode(errors="replace").strip(), self._mask))
            else:
                self._lines.append(line)
        elif message.message_type == "status":
            self._take_progress(message)
            self._on_progress(message.percent_done)
        elif message.message_type == "error":
            text = received(_text_of(message), self._mask)
            self._take_error(text)
            self._note(text)
        elif message.message_type == "exit_error":
            self._failure = received_line(message.message, self._mask, _MOST_CHARACTERS)
            if message.code != NO_REPOSITORY:
                # A missing repository is created, which is not worth a log line.
                self._note(received(message.message, self._mask))
        elif message.message_type in _SUMMARIES:
            self._summary = message

    def _take_words(self, text: str) -> None:
        if len(self._words) < _MOST_WORDS:
            self._words.append(text)
        if _RETRIES in text:
            self.trouble = explain(None, text)
            self._on_trouble(self.trouble)
        elif _SKIPS in text:
            self._take_error(text)
        self._note(text)

    def _take_error(self, text: str) -> None:
        if _DROPPED_ANYWAY.search(text):
            self._dropped = True
        elif len(self._errors) < _MOST_ERRORS:
            self._errors.append(text)

    def _note(self, text: str) -> None:
        """Log a line once: during an outage the same line is repeated."""
        text = "\n".join(itertools.takewhile(lambda line: not line.startswith(_TRACE), text.split("\n")))
        sort = text.partition(_RETRIES)[0] if _RETRIES in text else text
        if text and sort not in self._said and len(self._said) < 100:  # noqa: PLR2004 - limits the number of file names
            self._said.add(sort)
            self._log.record("warning", "restic says", part="backup", said=text[:_MOST_CHARACTERS])

    def _take_progress(self, message: Message) -> None:
        """Check for progress: status lines come each second, also while a server is unreachable."""
        got = (message.files_done + message.files_restored, message.bytes_done + message.bytes_restored)
        if got == self._got:
            return
        self._got, self._well_s = got, time.monotonic()
        if self.trouble is not SILENT:
            self.trouble = SILENT
            self._on_trouble(None)

    async def watch(self, scope: anyio.CancelScope) -> None:
        """Report silence, and give up on a repository that does not answer."""
        told = False
        while not self._silent:
            await anyio.sleep(1.0)
            still_s = time.monotonic() - self._well_s
            # Once it has begun, uploading one pack may take long.
            silent = still_s >= (SILENT_S if self._got is None else STALLED_S)
            if silent != told and self.trouble is SILENT:
                told = silent
                self._on_trouble(SILENT if silent else None)
            if still_s >= PATIENCE_S and (self.trouble is not SILENT or self._got is None):
                scope.cancel()

    def answer(self, ending: ExitStatus) -> Answer:
        """Return the result."""
        errors, words = tuple(self._errors), tuple(self._words)
        return Answer(ending, tuple(self._lines), self._summary, errors, self._failure, words, self._dropped)


def _text_of(said: Message) -> str:
    """Return the text of an error: about a file, or, from `check`, about the repository."""
    if said.message:
        return " ".join(said.message.split())
    error = said.error
    return f"{said.item}: {error.get('message', '') if isinstance(error, dict) else error}".removeprefix(": ")
