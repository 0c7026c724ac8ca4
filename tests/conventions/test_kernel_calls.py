"""All calls that the kernel may refuse are in tests/chaos/refusal_table.py, so that each refusal can be tested."""

from __future__ import annotations

from tests.chaos.refusal_table import ERRORS, HARMLESS, KERNEL, METHODS, UNREAL, calls_of, hidden_imports, sites


def test_every_place_that_asks_the_kernel_is_in_the_table() -> None:
    """A new one is added with its calls, and is refused in tests from then on; one that is gone is removed."""
    names = {site.name for site in sites()}
    assert not names - KERNEL.keys() - METHODS.keys() - HARMLESS
    assert not KERNEL.keys() - names
    assert {each for name in names for each in calls_of(name)} == ERRORS.keys()
    assert {(site.module, site.name) for site in sites()} >= UNREAL.keys()


def test_no_call_has_another_name() -> None:
    """Such as by `from os import sync`, or in a module that the table does not know, such as pathlib."""
    assert not [*hidden_imports()]
