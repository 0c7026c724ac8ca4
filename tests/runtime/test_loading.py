"""Modules that are loaded late, in a thread: what stays is then left out of garbage collections."""

from __future__ import annotations

import gc
import sys

from supervisor.runtime.loop_latency import load_module


async def test_what_is_loaded_already_freezes_nothing() -> None:
    """Each scrape requests its module again: garbage that was frozen with it would never be freed."""
    first = await load_module("supervisor.telemetry.metrics")
    gc.collect()
    frozen = gc.get_freeze_count()
    cycle: list[object] = []
    cycle.append(cycle)
    assert await load_module("supervisor.telemetry.metrics") is first
    assert gc.get_freeze_count() <= frozen


async def test_what_is_new_is_frozen() -> None:
    """No later collection goes through its objects."""
    before = gc.get_freeze_count()
    sys.modules.pop("colorsys", None)
    await load_module("colorsys")
    assert gc.get_freeze_count() > before
    gc.unfreeze()
