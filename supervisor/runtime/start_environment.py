"""What a start of a process depends on in files: some of its variables, and the place of its socket."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from supervisor.errors import ConfigError
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol, TypeVar

    from supervisor.core.process import EnvFile, ProcessSpec, SetUp
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.loop_latency import SoonReader

    class StartHost(Protocol):
        """The part of the engine that is used here."""

        log: LogPipeline

        @property
        def is_observed(self) -> bool:
            """Whether the main loop has begun."""

    T = TypeVar("T")

_LONGEST_URL = 512
_SLOW_FILE = "reading its file takes too long; check the disk that it is on"
_SLOW_PATH = "looking at the path of its socket takes too long; check the disk that it is on"
_SLOW_FOLDER = "looking into its data folder takes too long; check the disk that it is on"


class StartEnvironment:
    """The environment of one process's starts.

    ``external_url`` is the one of the last start, None if the process gets none; ``withheld`` is whether that start was
    not given the variable of its set-up.
    """

    def __init__(self, spec: ProcessSpec, engine: StartHost) -> None:
        self.external_url: str | None = None
        self.withheld = False
        self._spec = spec
        self._engine = engine
        self._env: Mapping[str, str] = spec.env
        self._started = False
        self._incomplete = False
        self._readers: dict[str, SoonReader[Any]] = {}

    def next(self) -> dict[str, str]:
        """Return the variables of the start that follows."""
        if self._spec.set_up is not None:
            self.withheld = self._withholds(self._spec.set_up)
        self._reread()
        self._started = True
        env = dict(self._env)
        if self.withheld and self._spec.set_up is not None:
            del env[self._spec.set_up.variable]
        if self._spec.env_file is not None:
            self.external_url = self._url(self._spec.env_file)
            if self.external_url:
                env[self._spec.env_file.variable] = self.external_url
        return env

    def prepare(self) -> str:
        """Make ready what a start needs besides; return why there must be none now, or an empty text."""
        try:
            return "" if self._spec.prepare is None else self._read_soon("socket", self._spec.prepare)
        except TimeoutError:
            return _SLOW_PATH

    def resume_set_up(self) -> None:
        """Give the variable of the set-up to the next start in any case: the set-up is not complete."""
        self._incomplete = True

    def _withholds(self, set_up: SetUp) -> bool:
        """Return whether the next start is not given the variable; one that cannot be judged gets what the last did."""
        incomplete, self._incomplete = self._incomplete, False
        if incomplete:
            return False
        # Only looked for: it is in a folder of the app's.
        look = partial(os.path.lexists, set_up.done)
        try:
            return self._read_soon("set-up", look)
        except TimeoutError:
            if not self.withheld:
                self._record("warning", "started with a former secret", _SLOW_FOLDER)
            return self.withheld

    def _reread(self) -> None:
        """Take over variables that have changed since the last start; an unreadable one stays as it was."""
        if self._spec.reread is None or not self._started:
            return
        try:
            fresh = self._read_soon("secret", self._spec.reread)
        except (ConfigError, TimeoutError) as error:
            if not self.withheld:
                self._record("warning", "started with a former secret", str(error) or _SLOW_FILE)
            return
        for value in fresh.values():
            self._engine.log.redactor.learn(value)
        self._env = {**self._env, **fresh}

    def _url(self, file: EnvFile) -> str:
        """Return the URL in a file, or that of the last start if its disk does not answer."""
        try:
            return self._read_soon("URL", partial(_recorded_url, file))
        except TimeoutError:
            self._record("warning", "started with a former URL", _SLOW_FILE)
            return self.external_url or ""

    def _read_soon(self, what: str, read: Callable[[], T]) -> T:
        """Look at a file that may be on a disk that hangs. Raises TimeoutError."""
        if not self._engine.is_observed:
            return read()
        if what not in self._readers:
            # Imported for a later start only: it brings the event loop.
            from supervisor.runtime.loop_latency import SoonReader

            self._readers[what] = SoonReader(read)
        return self._readers[what].read()  # type: ignore[no-any-return]

    def _record(self, level: str, event: str, why: str) -> None:
        self._engine.log.record(level, event, child=self._spec.name, why=why)


def _recorded_url(file: EnvFile) -> str:
    """Return the URL in a file, or an empty string. Symlinks are not followed: the file may be another user's."""
    try:
        with dirs.opened(file.folder) as folder_fd:
            data = dirs.read(file.name, _LONGEST_URL, folder_fd=folder_fd, flags=os.O_NOFOLLOW)
        url = data.decode("ascii")
    except (OSError, ValueError):
        return ""
    return url if url.startswith("https://") and url.isprintable() and " " not in url else ""
