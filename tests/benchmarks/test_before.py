"""This build compared with an earlier one: the change and its interval."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import __main__ as command
from benchmarks import before
from benchmarks.measure import INTERRUPTED, Bench, Measure, Result, at_most
from tests.support.backups import AS_PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCH = Bench({}, (), 3, quick=True)


def test_the_change_is_that_of_the_pairs() -> None:
    """A machine that becomes slower affects both; the interval is as wide as the pairs differ."""
    same = before.change_of([(1.0, 1.1), (10.0, 11.0), (3.0, 3.3)])
    assert same == pytest.approx((1.1, 1.1, 1.1))
    wide = before.change_of([(1.0, 1.0), (1.0, 1.21)])
    assert wide.times == pytest.approx(1.1)
    assert wide.least < 0.5
    assert wide.most > 2.0


@pytest.mark.parametrize(
    ("figures", "status", "said"),
    [
        ([1.0, 1.01, 1.0, 1.01, 1.0, 1.01], 0, "| 1.0 s | 1.0 s | 0.997 (0."),
        # The first figure of the first pair is the current build's.
        ([1.2, 1.0, 1.0, 1.2, 1.2, 1.0], 1, "| 1.0 s | 1.2 s | 1.200 (1.200 to 1.200) |"),
        # What was not measured is within no bound.
        ([1.0, None], 1, "| a row | | | not measured: before: no figure |"),
        ([1.0, 1.0, None], 1, "| a row | | | not measured: before: no figure |"),
        ([None], 1, "| a row | | | not measured: now: no figure |"),
        # Memory kept after a load may be less than before it.
        (
            [1.0, -0.1] * 3,
            0,
            "| -0.1 s | 1.0 s | no ratio of figures that are not positive; the target (≤ 2 s) is r",
        ),
        ([3.0, -0.1] * 3, 1, "the target (≤ 2 s) is not reached"),
    ],
)
def test_a_row(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    figures: Sequence[float | None],
    status: int,
    said: str,
) -> None:
    """A row has both medians and the change; if it may be 5 % worse the exit code is 1; the builds take turns."""
    left = [*figures]
    monkeypatch.setattr(before, "_installed", lambda _commit: "old")
    monkeypatch.setattr(before, "python", lambda: "new")
    measure = Measure(
        "x",
        "a row",
        "s",
        "≤ 2 s",
        lambda found: at_most(found, 2),
        lambda _: {"ours": Result(left.pop(0) if left else 1.0)},
    )
    assert before.compare([measure], BENCH, "HEAD", 3) == status
    assert said in capsys.readouterr().out


def test_why_something_was_not_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The row has the reason, and the next one is measured."""

    def fail(_bench: Bench) -> dict[str, Result]:
        raise OSError("no room")

    monkeypatch.setattr(before, "_installed", lambda _commit: "old")
    monkeypatch.setattr(before, "python", lambda: "new")
    good = Measure("good", "a good one", "s", "any", lambda _: True, lambda _: {"ours": Result(1.0)})
    assert before.compare([good._replace(title="a bad one", take=fail), good], BENCH, "HEAD", 3) == 1
    _, _, bad, after = capsys.readouterr().out.splitlines()
    assert bad == "| a bad one | | | not measured: before: failed: OSError: no room |"
    assert after.startswith("| a good one | 1.0 s | 1.0 s | 1.000 ")


@pytest.mark.parametrize("step", ["install", "row"])
def test_an_interruption_ends_it_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    """Ctrl-C while the earlier build is installed or a row is measured is no crash; earlier rows are printed."""

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    good = Measure("good", "a good one", "s", "any", lambda _: True, lambda _: {"ours": Result(1.0)})
    monkeypatch.setattr(before, "_installed", interrupted if step == "install" else lambda _commit: "old")
    monkeypatch.setattr(before, "python", lambda: "new")
    monkeypatch.setattr(command, "MEASURES", (good, good._replace(name="last", take=interrupted)))
    monkeypatch.setattr(command, "install", lambda: None)
    monkeypatch.setattr(command, "build", lambda _folder: {})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--before", "HEAD", "--pairs", "2"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv(AS_PUBLISHED, "1")
    assert command.main() == INTERRUPTED
    said = capsys.readouterr()
    assert ("a good one" in said.out) == (step == "row")
    assert (
        said.err.splitlines()[-1]
        == {
            "install": "interrupted before the first row",
            "row": "interrupted while measuring last: the rows above are complete",
        }[step]
    )
