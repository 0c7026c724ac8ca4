"""Signals that a parent left blocked or ignored, and those that the kernel refuses to deliver."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.process.running import running
from tests.process.test_environment import TELL
from tests.support.refusing import refusing

INHERITED = ("env", "--block-signal", "--ignore-signal")
# 32 and 33 are the C library's own, which its posix_spawn leaves ignored.
LIBRARY = 1 << 31 | 1 << 32
FOR_EVER = ("sh", "-c", "echo ready; exec sleep 300")


@pytest.mark.parametrize("prefix", [("env", "--block-signal=CHLD"), ("env", "--ignore-signal=CHLD"), INHERITED])
def test_an_end_is_noticed_whatever_a_parent_blocked_or_ignored(prefix: tuple[str, ...]) -> None:
    """As under tini: the app's exit is noticed, and its exit code is passed on."""
    with running("sh", "-c", "exit 3", prefix=prefix, options=("--restart=never",)) as run:
        assert run.wait() == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_heard_whatever_a_parent_blocked_or_ignored(number: signal.Signals) -> None:
    """A wrapper that blocks TERM for itself must not cause a kill at the end of the grace period."""
    with running(*FOR_EVER, prefix=INHERITED) as run:
        run.wait_for("ready")
        run.send(number)
        assert run.wait() == 0


def test_children_inherit_neither_mask_nor_dispositions() -> None:
    """Python itself, which the child runs, ignores PIPE and XFSZ."""
    with running(sys.executable, "-c", TELL, prefix=INHERITED) as run:
        told = run.wait_for("told")
        assert int(told["blocked"], 16) == 0
        ignored = int(told["ignored"], 16)
        assert ignored & ~LIBRARY == 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1


@pytest.mark.parametrize("number", [signal.SIGWINCH, signal.SIGUSR1, signal.SIGRTMIN + 1])
def test_a_signal_that_the_kernel_refuses_is_told_and_ends_nothing(number: signal.Signals) -> None:
    """The kernel may refuse signals to a set-uid app; each resize of a terminal tries again, the first is logged."""
    with running(*FOR_EVER, prefix=refusing(f"kill=EPERM@{int(number)}")) as run:
        run.wait_for("ready")
        run.send(number)
        told = run.wait_for("cannot signal", child="moltis")
        assert told["why"] == "operation not permitted"
        run.send(number)
        assert run.stop() == 0
        assert len(run.all("cannot signal")) == 1


def test_a_stop_ends_though_the_kernel_refuses_every_signal() -> None:
    """What cannot be ended is reported; the supervisor exits anyway."""
    env = {"SUPERVISOR_STOP_TIMEOUT": "1s"}
    with running(*FOR_EVER, env=env, prefix=refusing("kill=EPERM")) as run:
        run.wait_for("ready")
        assert run.stop() == 0
        assert {record["signal"] for record in run.all("cannot signal")} >= {"SIGTERM", "SIGKILL"}
        run.wait_for("cannot be ended")
        assert "not everything was ended in order: moltis" in run.wait_for("stopped")["story"]["done"]
