"""Draws docs/images/badges.svg from the files that each badge is about: `make format`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from supervisor.tailnet.versions import TESTED

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/images/badges.svg"
HEIGHT_PX, CHARACTER_PX, PAD_PX, GAP_PX = 22, 6.8, 9, 8
FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" role="img" aria-label="{title}">
<title>{title}</title>
<style>text {{ font: 12px Verdana, "DejaVu Sans", sans-serif; fill: #fff }}</style>
{badges}
</svg>
"""


def facts() -> dict[str, str]:
    """Return the text of each badge by its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    tested = re.findall(r'"(3\.\d+)"', workflow[workflow.index("matrix:") :].split("\n      - ", 1)[0])
    return {
        "licence": project["project"]["license"],
        "Python": f"{tested[0]} to {tested[-1]}",
        "tailscaled": TESTED,
        **({"types": "mypy, strict"} if project["tool"]["mypy"]["strict"] else {}),
    }


def picture() -> str:
    """Return the badges in a row as SVG."""
    x_px, drawn = 0.0, []
    for name, said in facts().items():
        left_px, right_px = (len(text) * CHARACTER_PX + 2 * PAD_PX for text in (name, said))
        drawn.append(
            f'<g transform="translate({x_px:.1f})"><rect width="{left_px + right_px:.1f}" height="{HEIGHT_PX}" rx="4" '
            f'fill="#15803d"/><path d="M4 0H{left_px:.1f}V{HEIGHT_PX}H4a4 4 0 0 1-4-4V4a4 4 0 0 1 4-4" fill="#52525b"/>'
            f'<text x="{PAD_PX}" y="15" textLength="{left_px - 2 * PAD_PX:.1f}">{name}</text>'
            f'<text x="{left_px + PAD_PX:.1f}" y="15" textLength="{right_px - 2 * PAD_PX:.1f}">{said}</text></g>'
        )
        x_px += left_px + right_px + GAP_PX
    title = ", ".join(f"{name}: {said}" for name, said in facts().items())
    return FRAME.format(width=x_px - GAP_PX, height=HEIGHT_PX, title=title, badges="\n".join(drawn))


if __name__ == "__main__":
    PICTURE.write_text(picture())
