"""The page of settings is made from the table."""

from __future__ import annotations

from pathlib import Path

from scripts.settings_page import page

PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"


def test_the_page_is_current() -> None:
    """After a change: python scripts/settings_page.py > docs/reference/settings.md."""
    assert PAGE.read_text() == page()
