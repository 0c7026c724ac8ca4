"""This build compared with an earlier one: the change and its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import before
from benchmarks.measure import Bench, Measure, Result

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
        ([1.0, None], 0, "not measured"),
        # Memory kept after a load may be less than before it.
        ([1.0, -0.1], 0, "not measured"),
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
    measure = Measure("x", "a row", "s", "any", lambda _: True, lambda _: {"ours": Result(left.pop(0))})
    assert before.compare([measure], BENCH, "HEAD", 3) == status
    assert said in capsys.readouterr().out
