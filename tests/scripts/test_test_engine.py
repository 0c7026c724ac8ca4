"""The script that starts a Docker engine for tests: what it passes to the programs that it calls."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support.control import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_the_maker_of_the_base_image_gets_no_lock(tmp_path: Path) -> None:
    """mmdebstrap has a shell write to the first free descriptor, and dash knows none above 9."""
    programs = {
        "docker": '[ "$1" = info ]',
        "dockerd": "exit 1",
        "mmdebstrap": f"ls -l /proc/$$/fd >{tmp_path}/open; exit 1",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    engine = tmp_path / "engine"
    done = subprocess.run(
        [ROOT / "scripts/test-engine", "run", "true"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "TEST_ENGINE_DIR": str(engine), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "making a stand-in for debian" in done.stderr
    assert str(engine) not in (tmp_path / "open").read_text()
