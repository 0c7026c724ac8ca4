"""Draws docs/explanation/*.svg from the code's own tables: `python -m scripts.pictures`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from scripts.transitions import transitions
from supervisor.core.process import HELD_STATES, State
from tests.conventions.test_layers import MAY_IMPORT

FOLDER = Path(__file__).resolve().parents[1] / "docs/explanation"
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">
<title>{title}</title>
<style>
  text {{ font: 14px system-ui, sans-serif; fill: #18181b; text-anchor: middle }}
  .small {{ font-size: 12px; fill: #52525b }}
  .box {{ fill: #f5f5f5; stroke: #a1a1aa; rx: 8px }}
  .arrow {{ fill: none; stroke: #16a34a; stroke-width: 1.5 }}
  .head {{ fill: #16a34a }}
  .paper {{ fill: #fff }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #e4e4e7 }} .small {{ fill: #a1a1aa }} .box {{ fill: #1a1d25; stroke: #52525b }}
    .arrow {{ stroke: #4ade80 }} .head {{ fill: #4ade80 }} .paper {{ fill: #0f1115 }}
  }}
</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path class="head" d="M0 0 10 5 0 10z"/></marker></defs>
<rect class="paper" width="{width}" height="{height}" rx="8"/>
"""


class Node(NamedTuple):
    """A box for one or more states: its position, and the text that replaces several names."""

    states: tuple[State, ...]
    x: int
    y: int
    said: str = ""


class Way(NamedTuple):
    """The course of an arrow: its offset where two would overlap, and its bend."""

    aside: int = 0
    bend: int = 0
    label_at: float = 0.5


NODES = {
    "waiting": Node((State.WAITING, *HELD_STATES), 130, 70, "also held by the backups"),
    "spawning": Node((State.SPAWNING,), 480, 70),
    "running": Node((State.RUNNING,), 830, 70),
    "at rest": Node((State.INACTIVE, State.ENDED, State.FAILED), 130, 260),
    "backoff": Node((State.BACKOFF,), 480, 260),
    "ending": Node((State.STOPPING, State.QUITTING, State.KILLING), 830, 260),
    "cleaning": Node((State.CLEANING,), 480, 450),
}
# For pairs where a straight arrow would cross another one, or a box.
WAYS = {
    ("at rest", "waiting"): Way(aside=45),
    ("waiting", "at rest"): Way(aside=45),
    ("at rest", "spawning"): Way(aside=14, label_at=0.33),
    ("spawning", "at rest"): Way(aside=14, label_at=0.33),
    ("spawning", "backoff"): Way(aside=40, label_at=0.3),
    ("backoff", "spawning"): Way(aside=40, label_at=0.3),
    ("cleaning", "spawning"): Way(bend=-190, label_at=0.4),
    ("running", "cleaning"): Way(bend=60, label_at=0.45),
}
WIDTH, HALF_W, HALF_H = 960, 95, 26


def lives() -> str:
    """Return the picture of a process's life."""
    home = {state: name for name, node in NODES.items() for state in node.states}
    ways: dict[tuple[str, str], list[str]] = {}
    for state, row in transitions().items():
        for kind, targets in row.items():
            for target in targets:
                said = ways.setdefault((home[state], home[target]), [])
                said += [kind.value] if kind.value not in said else []
    parts = [HEAD.format(width=WIDTH, height=510, title="The states of a process, and what leads from one to another")]
    arrows = [_arrow(pair, words) for pair, words in ways.items() if pair[0] != pair[1]]
    parts += [line for line, _ in arrows]
    parts += [_box(name, node) for name, node in NODES.items()]
    return "".join([*parts, *(label for _, label in arrows), "</svg>\n"])


def _arrow(pair: tuple[str, str], words: list[str]) -> tuple[str, str]:
    way = WAYS.get(pair, Way())
    one, two = NODES[pair[0]], NODES[pair[1]]
    dx, dy = two.x - one.x, two.y - one.y
    length = (dx * dx + dy * dy) ** 0.5
    # Shifted to its left, so that the arrows of both directions are side by side.
    left = (dy / length, -dx / length)
    move = (left[0] * way.aside, left[1] * way.aside)
    middle = ((one.x + two.x) / 2 + move[0] + left[0] * way.bend, (one.y + two.y) / 2 + move[1] + left[1] * way.bend)
    begin = _edge((one.x + move[0], one.y + move[1]), middle)
    end = _edge((two.x + move[0], two.y + move[1]), middle)
    t = way.label_at
    at = [(1 - t) ** 2 * begin[i] + 2 * t * (1 - t) * middle[i] + t * t * end[i] for i in (0, 1)]
    path = f"M{begin[0]:.0f} {begin[1]:.0f}Q{middle[0]:.0f} {middle[1]:.0f} {end[0]:.0f} {end[1]:.0f}"
    text = ", ".join(words)
    width = 6.4 * len(text) + 8
    label = (
        f'<rect class="paper" x="{at[0] - width / 2:.0f}" y="{at[1] - 9:.0f}" width="{width:.0f}" height="18"/>'
        f'<text class="small" x="{at[0]:.0f}" y="{at[1] + 4:.0f}">{escape(text)}</text>\n'
    )
    return f'<path class="arrow" marker-end="url(#head)" d="{path}"/>\n', label


def _edge(inside: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Return the point where an arrow crosses a box's border."""
    dx, dy = towards[0] - inside[0], towards[1] - inside[1]
    share = min(HALF_W / abs(dx) if dx else 9.0, HALF_H / abs(dy) if dy else 9.0)
    return inside[0] + dx * share, inside[1] + dy * share


def _box(name: str, node: Node) -> str:
    states = node.said or " · ".join(state.value for state in node.states)
    shape = (
        f'<rect class="box" x="{node.x - HALF_W}" y="{node.y - HALF_H}" width="{2 * HALF_W}" height="{2 * HALF_H}"/>'
    )
    if states == name:
        return f'{shape}<text x="{node.x}" y="{node.y + 5}">{name}</text>\n'
    return (
        f'{shape}<text x="{node.x}" y="{node.y - 3}">{name}</text>'
        f'<text class="small" x="{node.x}" y="{node.y + 15}">{states}</text>\n'
    )


def layers() -> str:
    """Return the picture of the package's parts: each may import from lower rows only."""
    rows: dict[int, list[str]] = {}
    for part in MAY_IMPORT:
        rows.setdefault(_depth(part), []).append(part)
    height = 60 * len(rows) + 20
    parts = [
        HEAD.format(width=WIDTH, height=height, title="The parts of the package: each imports from lower rows only")
    ]
    for depth, names in rows.items():
        y = height - 60 * (depth + 1) + 5
        width = min(220, (WIDTH - 60) / len(names) - 20)
        for place, name in enumerate(names):
            x = WIDTH / 2 + (place - (len(names) - 1) / 2) * (width + 20)
            parts.append(
                f'<rect class="box" x="{x - width / 2:.0f}" y="{y - 20}" width="{width:.0f}" height="44"/>'
                f'<text x="{x:.0f}" y="{y + 7}">{name}</text>\n'
            )
    return "".join([*parts, "</svg>\n"])


def _depth(part: str) -> int:
    return 1 + max((_depth(below) for below in MAY_IMPORT[part]), default=-1)


PICTURES = {"process-states.svg": lives, "layers.svg": layers}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw())
