"""Promtool, the alert rules in `deploy/`, and the configurations in the how-to."""

from __future__ import annotations

import re
import shutil
import subprocess

from tests.conventions.tree import ROOT, read

HOW_TO = "docs/how-to/monitor-with-prometheus.md"
TOKEN_FILE = "/etc/prometheus/moltis-supervisor.token"
RULES_FILE = "/etc/prometheus/moltis-supervisor.alerts.yaml"
RULES = ROOT / "deploy/observability/alerts.yaml"


def program(name: str) -> str:
    """Return the path of a program in Debian's package; fail if it is missing."""
    path = shutil.which(name)
    assert path is not None, f"cannot find {name}: install Debian's package prometheus (apt-get install prometheus)"
    return path


def promtool(*words: str, text: bytes = b"") -> str:
    """Run promtool and return its output; fail if it finds an error."""
    ended = subprocess.run([program("promtool"), *words], input=text, capture_output=True, timeout=60, check=False)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said


def configurations() -> list[str]:
    """Return the scrape configurations in the how-to."""
    return re.findall(r"^```yaml\n(scrape_configs:.*?)^```", read(HOW_TO), re.MULTILINE | re.DOTALL)
