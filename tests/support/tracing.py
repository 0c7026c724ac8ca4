"""Whether strace can be used, which makes system calls fail."""

from __future__ import annotations

import shutil
import subprocess


def traces() -> bool:
    """Return whether strace is installed and may trace."""
    words = ["strace", "-o", "/dev/null", "true"]
    return (
        shutil.which("strace") is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )
