"""The committed ratios: what is compared, and what counts as worse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import baseline
from benchmarks.__main__ import MEASURES
from benchmarks.measure import Result

if TYPE_CHECKING:
    from pathlib import Path


def test_ratios_are_compared_and_not_figures(tmp_path: Path) -> None:
    """A slower machine does not make a slower program; a ratio that grows by more than a quarter is reported."""
    path = tmp_path / "baseline.json"
    baseline.write({"line": {"ours": Result(2.0), "sed": Result(8.0)}, "times": {"ours": Result(1.5)}}, path)
    slower_machine = {"line": {"ours": Result(20.0), "sed": Result(80.0)}, "times": {"ours": Result(1.6)}}
    assert baseline.worse(slower_machine, path) == []
    slower = {"line": {"ours": Result(3.0), "sed": Result(8.0)}, "times": {"ours": Result(2.0)}}
    assert baseline.worse(slower, path) == ["line: 0.375 of sed's, 0.25 before", "times: 2 of itself's, 1.5 before"]


def test_what_was_not_measured_is_kept_and_not_compared(tmp_path: Path) -> None:
    """Single rows can be updated, and a peer that is not installed is not an error."""
    path = tmp_path / "baseline.json"
    baseline.write({"a": {"ours": Result(1.0), "sed": Result(2.0)}}, path)
    baseline.write(
        {"b": {"ours": Result(1.0), "jq": Result(4.0)}, "c": {"ours": Result(None), "jq": Result(1.0)}}, path
    )
    assert path.read_text().count(":") == 4
    assert baseline.worse({"a": {"ours": Result(9.0)}, "c": {"ours": Result(9.0), "jq": Result(1.0)}}, path) == []


def test_what_could_not_be_measured_is_worse(tmp_path: Path) -> None:
    """A row with committed ratios and no figure of ours is not one that is no worse than before."""
    path = tmp_path / "baseline.json"
    baseline.write({"a": {"ours": Result(1.0), "sed": Result(2.0)}}, path)
    failed = Result(None, "failed: OSError: no room")
    assert baseline.worse({"a": {"ours": failed}, "b": {"ours": failed}}, path) == ["a: failed: OSError: no room"]
    assert baseline.worse({"a": {"ours": Result(None)}}, path) == ["a: no figure"]


def test_the_committed_baseline_is_of_measures_that_there_are() -> None:
    """If a measure is renamed, its ratios must be renamed too."""
    import json

    names = {measure.name for measure in MEASURES}
    assert json.loads(baseline.PATH.read_text()).keys() <= names
