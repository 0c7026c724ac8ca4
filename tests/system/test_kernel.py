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


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016", True),
        ("Linux version 4.19.0-gvisor #1 SMP", True),
        ("Linux version 4.4.0-210-generic (buildd@lgw01) #242-Ubuntu SMP Fri Apr 16 09:57:56 UTC 2021", False),
        ("Linux version 4.4.0 (root@host) #1 SMP Tue Jan 12 10:00:00 UTC 2016", False),
    ],
)
def test_gvisor_is_told_from_an_old_linux(monkeypatch: pytest.MonkeyPatch, version: str, expected: bool) -> None:  # noqa: FBT001
    """It is recognised by today's /proc/version, and by that of newer releases."""
    monkeypatch.setattr(kernel, "read", {"/proc/version": version.encode()}.get)
    assert kernel.is_gvisor() is expected
