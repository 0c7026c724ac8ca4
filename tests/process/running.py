"""Runs the real supervisor as a separate process and reads its output."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.crowded import Stopwatch
from tests.support.processes import below
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 30.0
SUPERVISOR = (sys.executable, "-I", "-m", "supervisor", "run")
# A prefix: files, and clients at the end, have more than half a second, which a crowded machine may need.
PATIENT = (
    sys.executable,
    "-c",
    (
        "import sys\n"
        "from supervisor.cli import main\n"
        "from supervisor.runtime import loop_latency, stop\n"
        "loop_latency.SOON_S = stop.CLOSE_WEB_S = 30.0\n"
        "sys.exit(main(sys.argv[5:]))"
    ),
)
AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


class Run:
    """One run of the supervisor with JSON logs, which a thread reads as they arrive."""

    def __init__(
        self,
        *command: str,
        env: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        toml: str = "",
        **more: Any,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="run-"))
        self.run_dir = self.folder / "run"
        options = []
        if toml:
            (self.folder / "supervisor.toml").write_text(toml)
            options = ["--config", str(self.folder / "supervisor.toml")]
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PORT": "0",
            "SUPERVISOR_RUN_DIR": str(self.run_dir),
            "SUPERVISOR_TAILSCALE": "off",
            "SUPERVISOR_LOG_FORMAT": "json",
            "SUPERVISOR_BACKOFF_INITIAL": "10ms",
            "SUPERVISOR_APP_HEALTH_URL": "",
            **(env or {}),
        }
        self.records: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self.popen = subprocess.Popen(
            more.pop("program", None) or [*prefix, *SUPERVISOR, *options, *more.pop("options", ()), "--", *command],
            env={name: text for name, text in self.env.items() if text is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            **more,
        )
        self._errors: list[bytes] = []
        self._threads = [
            threading.Thread(target=self._take_records, daemon=True),
            threading.Thread(target=self._take_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _take_records(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._changed:
                self.records.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _take_errors(self) -> None:
        assert self.popen.stderr is not None
        self._errors.extend(self.popen.stderr)

    @property
    def pid(self) -> int:
        """The supervisor's pid, as seen from the test."""
        if self.popen.args[0] != AS_PROCESS_1[0]:  # type: ignore[index]
            return self.popen.pid
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return wait_until(lambda: int(children.read_text().split()[0]) if children.read_text().split() else None)

    @property
    def stderr(self) -> str:
        """The supervisor's output on standard error, once it has exited."""
        self._threads[1].join(DEADLINE_S)
        return b"".join(self._errors).decode()

    def find(self, message: str, **fields: object) -> dict[str, Any] | None:
        """Return the first record with this message and these fields."""
        for record in list(self.records):
            if record["message"] == message and all(record.get(name) == value for name, value in fields.items()):
                return record
        return None

    def all(self, message: str, **fields: object) -> list[dict[str, Any]]:
        """Return all records with this message and these fields."""
        return [
            record
            for record in list(self.records)
            if record["message"] == message and all(record.get(name) == value for name, value in fields.items())
        ]

    def wait_for(self, message: str, deadline_s: float = DEADLINE_S, **fields: object) -> dict[str, Any]:
        """Wait for a record with this message and these fields, and return it."""
        end_s = time.monotonic() + deadline_s
        with self._changed:
            while True:
                found = self.find(message, **fields)
                if found is not None:
                    return found
                left_s = end_s - time.monotonic()
                if left_s <= 0 or not self._threads[0].is_alive():
                    raise AssertionError(self._missing(message, fields))
                self._changed.wait(left_s)

    def wait_count(self, count: int, message: str, deadline_s: float = DEADLINE_S, **fields: object) -> None:
        """Wait until there are ``count`` records with this message and these fields."""
        end_s = time.monotonic() + deadline_s
        with self._changed:
            while len(self.all(message, **fields)) < count:
                left_s = end_s - time.monotonic()
                if left_s <= 0 or not self._threads[0].is_alive():
                    raise AssertionError(self._missing(message, fields))
                self._changed.wait(left_s)

    def _missing(self, message: str, fields: dict[str, object]) -> str:
        said = "\n".join(json.dumps(record) for record in self.records[-40:])
        return f"no record {message!r} {fields}; last ones:\n{said}\nstderr:\n{b''.join(self._errors).decode()}"

    def send(self, number: int) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait until the supervisor has exited, and return its exit code."""
        status = self.popen.wait(deadline_s)
        self._threads[0].join(deadline_s)
        return status

    def stop(self, deadline_s: float = DEADLINE_S) -> int:
        """Stop the supervisor as a platform would, and return its exit code."""
        self.send(signal.SIGTERM)
        return self.wait(deadline_s)

    def stop_net_s(self) -> float:
        """Stop it likewise; return the time that took, less what it and this process waited for a processor."""
        watch = Stopwatch(self.pid)
        self.send(signal.SIGTERM)
        # Not reaped yet: then its waits could no longer be read.
        os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOWAIT)
        return watch.net_s

    def close(self) -> None:
        """Kill it, whatever its state, and its descendants: those in other sessions outlive it. Remove its folder."""
        if self.popen.poll() is None:
            for pid in (self.pid, *below(self.popen.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.popen.wait(DEADLINE_S)
        for thread in self._threads:
            thread.join(DEADLINE_S)
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running(*command: str, **options: Any) -> Iterator[Run]:
    """Run the supervisor for the length of a block."""
    run = Run(*command, **options)
    try:
        yield run
    finally:
        run.close()
