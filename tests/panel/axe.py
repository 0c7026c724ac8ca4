"""Runs axe-core on a page and returns its findings as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import axe_playwright_python  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from playwright.sync_api import Page

_SOURCE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


def findings(page: Page) -> list[str]:
    """Return what axe-core finds, best practices too; it is injected past the page's policy, as by a debugger."""
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(_SOURCE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [
        f"{rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
