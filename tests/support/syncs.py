"""Notes what is synced to the disk, and renamed, in place of syncing it: no test can take the power away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def noted_syncs(monkeypatch: pytest.MonkeyPatch, *, renames: bool = False) -> list[str]:
    """Return a list to which the path of each synced file or folder is added, and with ``renames`` each new name."""
    steps: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: steps.append(os.readlink(f"/proc/self/fd/{fd}")))
    rename = os.rename

    def note(old: str, new: str, **fds: int) -> None:
        steps.append(new)
        rename(old, new, **fds)

    if renames:
        monkeypatch.setattr(os, "rename", note)
    return steps
