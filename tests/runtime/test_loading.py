"""Modules that are loaded late, in a thread: what stays is then left out of garbage collections."""

from __future__ import annotations

import gc
import subprocess
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


TOGETHER = """
import sys, threading
from supervisor.runtime.loop_latency import import_alone
names = ["prometheus_client.core", "prometheus_client.exposition", "prometheus_client.parser", "prometheus_client"]
sys.setswitchinterval(1e-5)
start, loaded = threading.Barrier(len(names)), []
def load(name):
    start.wait()
    loaded.append(import_alone(name).__name__)
threads = [threading.Thread(target=load, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*sorted(loaded))
"""


def test_threads_may_enter_a_package_by_different_modules() -> None:
    """If they import at the same time, most of these runs end with an error of importlib."""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", TOGETHER], capture_output=True, text=True, check=False)
        assert (done.stderr, len(done.stdout.split())) == ("", 4), done.stdout
