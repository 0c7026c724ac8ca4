"""The committed baseline: ratios to the peers from an earlier run, which hardly depend on the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.measure import Result

PATH = Path(__file__).with_name("baseline.json")
# A ratio that has grown by more than this is worse; smaller changes are noise between runs.
MOST_GROWTH = 1.25
Ratios = dict[str, dict[str, float]]


def ratios(found: Mapping[str, Mapping[str, Result]]) -> Ratios:
    """Return our figure divided by each peer's, by measure and peer; a ratio is used as it is."""
    made: Ratios = {}
    for name, results in found.items():
        ours = results["ours"].value
        if ours is None:
            continue
        peers = {peer: result.value for peer, result in results.items() if peer != "ours" and result.value}
        if peers:
            made[name] = {peer: round(ours / value, 3) for peer, value in sorted(peers.items())}
        elif len(results) == 1:
            made[name] = {"itself": round(ours, 3)}
    return made


def write(found: Mapping[str, Mapping[str, Result]], path: Path = PATH) -> None:
    """Replace the stored ratios of these measures."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**kept, **ratios(found)}, indent=1, sort_keys=True) + "\n")


def worse(found: Mapping[str, Mapping[str, Result]], path: Path = PATH) -> list[str]:
    """Return a line for each ratio that has grown too much since the baseline was written, or could not be measured."""
    before: Ratios = json.loads(path.read_text())
    missing = [
        f"{name}: {results['ours'].note or 'no figure'}"
        for name, results in found.items()
        if name in before and results["ours"].value is None
    ]
    return missing + [
        f"{name}: {ratio:g} of {peer}'s, {before[name][peer]:g} before"
        for name, by_peer in ratios(found).items()
        for peer, ratio in by_peer.items()
        if peer in before.get(name, {}) and ratio > before[name][peer] * MOST_GROWTH
    ]
