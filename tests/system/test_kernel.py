"""What the kernel reports about this process's environment."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.system import kernel

if TYPE_CHECKING:
    from pathlib import Path

ASKS = "from supervisor.system import kernel; print(*kernel.missing_ids(65534, [0, 65533]), sep=', ')"


def test_a_user_namespace_lacks_what_is_not_mapped() -> None:
    """Root may be the only user in one: others in /etc/passwd do not exist there."""
    assert kernel.missing_ids(65534, [0, 65533]) == ()
    words = ("unshare", "--user", "--map-root-user")
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces cannot be had here")
    said = subprocess.run([*words, sys.executable, "-c", ASKS], capture_output=True, text=True, check=True)
    assert said.stdout == "uid 65534, gid 65533, setgroups\n"


@pytest.mark.parametrize("text", ["", "nonsense\n", "0 0\n"])
def test_what_cannot_be_read_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """Without /proc, or with that of another kernel, a start is tried."""
    (tmp_path / "map").write_text(text)
    read = kernel.read
    monkeypatch.setattr(kernel, "read", lambda _path: read(str(tmp_path / "map")))
    assert kernel.missing_ids(1000, [1000]) == ()
