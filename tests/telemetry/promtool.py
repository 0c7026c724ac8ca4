"""Prometheus' own tools, and what the how-to shows for them."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.conventions.tree import read

if TYPE_CHECKING:
    from pathlib import Path

HOW_TO = "docs/how-to/monitor-with-prometheus.md"
TOKEN_FILE = "/etc/prometheus/moltis-supervisor.token"
RULES_FILE = "/etc/prometheus/moltis-supervisor.rules.yml"


def program(name: str) -> str:
    """Return the path of a program of Debian's package; fail where it is not there."""
    path = shutil.which(name)
    assert path is not None, f"cannot find {name}: install Debian's package prometheus (apt-get install prometheus)"
    return path


def promtool(*words: str, text: bytes = b"") -> str:
    """Run promtool, and return what it said; fail where it finds fault."""
    ended = subprocess.run([program("promtool"), *words], input=text, capture_output=True, timeout=60, check=False)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said


def shown() -> list[str]:
    """Return every piece of YAML that the how-to shows."""
    return re.findall(r"^```yaml\n(.*?)^```", read(HOW_TO), re.MULTILINE | re.DOTALL)


def rules(folder: Path) -> Path:
    """Write the alert rules of the how-to into a file."""
    path = folder / "rules.yml"
    path.write_text(next(piece for piece in shown() if piece.startswith("groups:")))
    return path


def configurations() -> list[str]:
    """Return the configurations of the how-to."""
    return [piece for piece in shown() if piece.startswith("scrape_configs:")]
