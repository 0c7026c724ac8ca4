"""What the kernel may refuse is known (tests/chaos/refusal_table.py), so that each refusal can be tried."""

from __future__ import annotations

from tests.chaos.refusal_table import ERRORS, HARMLESS, KERNEL, METHODS, UNREAL, calls_of, sites


def test_every_place_that_asks_the_kernel_is_in_the_table() -> None:
    """A new one is put there, with what it asks for, and is refused from then on; one that is gone is taken off."""
    names = {site.name for site in sites()}
    assert not names - KERNEL.keys() - METHODS.keys() - HARMLESS
    assert not KERNEL.keys() - names
    assert {each for name in names for each in calls_of(name)} == ERRORS.keys()
    assert {(site.module, site.name) for site in sites()} >= UNREAL.keys()
