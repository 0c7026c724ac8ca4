"""The pages build as a site: no dead link or anchor, nothing loaded from elsewhere, no page that nobody is led to."""

from __future__ import annotations

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
    """What `make docs` does: a warning of MkDocs, or of scripts/docs_site.py, is an error."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout
    assert (tmp_path / "index.html").exists()


def test_the_index_leads_to_every_page() -> None:
    """A page is found from the index, which is the site's navigation too: once."""
    led_to = [f"docs/{page}" for page in re.findall(r"\]\(([^)#:]+\.md)\)", read(INDEX)) if not page.startswith("..")]
    pages = {path for path in tracked() if path.startswith("docs/") and path.endswith(".md")} - {INDEX}
    assert sorted(led_to) == sorted(pages)
