"""The pages build as a site: no dead link or anchor, nothing loaded from elsewhere, and each page is linked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.conventions.tree import ROOT, read, tracked

if TYPE_CHECKING:
    from pathlib import Path

INDEX = "docs/README.md"


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    """As with `make docs`, any warning is an error; the site has a search, edit links, and a list of versions."""
    (tmp_path / "1.9.0").mkdir()
    (tmp_path / "1.9.0/index.html").touch()
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "1.10.0")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout
    site = tmp_path / "1.10.0"
    assert "tailnet" in (site / "search/search_index.json").read_text()
    assert "/edit/main/docs/reference/settings.md" in (site / "reference/settings/index.html").read_text()
    assert "/edit/main/CONTRIBUTING.md" in (site / "repository/CONTRIBUTING/index.html").read_text()
    versions = json.loads((tmp_path / "versions.json").read_text())
    assert [(each["version"], each["aliases"]) for each in versions] == [("1.10.0", ["latest"]), ("1.9.0", [])]
    assert "url=1.10.0/" in (tmp_path / "index.html").read_text()


def test_the_index_leads_to_every_page() -> None:
    """Each page is linked exactly once from the index, which is also the site's navigation."""
    led_to = [f"docs/{page}" for page in re.findall(r"\]\(([^)#:]+\.md)\)", read(INDEX)) if not page.startswith("..")]
    pages = {path for path in tracked() if path.startswith("docs/") and path.endswith(".md")} - {INDEX}
    assert sorted(led_to) == sorted(pages)
