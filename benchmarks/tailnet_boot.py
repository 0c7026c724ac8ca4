"""Runs containerboot under the same faults and control server: whether it exits, or reports itself healthy."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.running import below, program, wait_for
from benchmarks.tailnet import GOOD, Containerboot, joining
from benchmarks.tailnet_faults import Fault, Subject
from tests.support.control import controlling
from tests.support.localapi import LocalApi

if TYPE_CHECKING:
    from benchmarks.running import Run
    from tests.support.control import Control

_LOOK_EVERY_S = 0.05
# containerboot may end its tailscaled before that has answered.
_CUT_OFF = (OSError, HTTPException, AssertionError)


def put_through(fault: Fault, watched_s: float) -> str:
    """Return the result as text."""
    with tempfile.TemporaryDirectory(prefix="bench-boot-") as name, controlling("-auth") as control:
        settings = fault.arrange(control, Path(name) / "state")
        tags = settings.get("TS_TAGS", "")
        peer = Containerboot(control, settings.get("TS_AUTHKEY", GOOD), f"--advertise-tags={tags}" if tags else "")
        with joining(peer) as run:
            begin_s = run.began_ns / 1e9
            pid = int(wait_for(lambda: _tailscaled(run), 10))
            try:
                if fault.before:
                    assert wait_for(lambda: is_healthy(peer.health_port), 20), "containerboot did not become healthy"
                    begin_s = time.monotonic()
                    fault.hurt(_subject(peer, run, pid, control))
                return _fate(peer, run, begin_s, watched_s)
            finally:
                # A frozen tailscaled would block everything; one that was left behind would stay.
                if program(pid) == "tailscaled":
                    os.kill(pid, signal.SIGKILL)


def _tailscaled(run: Run) -> int | None:
    return next((pid for pid in below(run.process.pid) if program(pid) == "tailscaled"), None)


def _subject(peer: Containerboot, run: Run, pid: int, control: Control) -> Subject:
    api = LocalApi(peer.socket(run.folder))

    # As `tailscale down` and `tailscale logout` do.
    def disconnect() -> None:
        with contextlib.suppress(*_CUT_OFF):
            api.set_prefs(WantRunning=False)

    def log_out() -> None:
        with contextlib.suppress(*_CUT_OFF):
            api.ask("POST", "logout")

    return Subject(control, api, pid, disconnect, log_out)


def is_healthy(port: int) -> bool:
    """Return whether /healthz answers with 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _fate(peer: Containerboot, run: Run, begin_s: float, watched_s: float) -> str:
    answers = []
    while (passed_s := time.monotonic() - begin_s) < watched_s:
        status = run.process.poll()
        if status is not None:
            how = f"exit code {status}" if status >= 0 else signal.Signals(-status).name
            return f"ends after {passed_s:.1f} s, {how}"
        answers.append(is_healthy(peer.health_port))
        time.sleep(_LOOK_EVERY_S)
    if all(answers):
        return f"/healthz 200 for the {watched_s:.0f} s watched"
    return f"/healthz not 200 in {answers.count(False)} of {len(answers)} answers in {watched_s:.0f} s"
