"""The panel's modules that run without a browser, in node's own test runner."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.conventions.tree import ROOT

PANEL = ROOT / "supervisor/web/panel"
TESTS = Path(__file__).with_name("js")
MOST_LINES = 300


def node() -> str:
    """Return the path of node, or fail with a hint."""
    found = shutil.which("node")
    assert found is not None, "cannot test the panel's modules: there is no node; install it (Debian: nodejs)"
    return found


def laid_out(folder: Path) -> Path:
    """Copy the modules and their tests so that node recognises them; return the tests' folder."""
    shutil.copytree(PANEL, folder / "panel")
    for test in TESTS.glob("*.mjs"):
        shutil.copy(test, folder / f"{test.stem}.test.mjs")
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def test_modules(tmp_path: Path) -> None:
    """All tests of all modules pass, and there are some."""
    folder = laid_out(tmp_path)
    files = sorted(path.name for path in folder.glob("*.test.mjs"))
    words = [node(), "--test", "--test-reporter=tap", *files]
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    passed = next(line for line in ended.stdout.splitlines() if line.startswith("# pass "))
    assert int(passed.split()[-1]) >= len(files) > 0


def test_every_module_is_sound(tmp_path: Path) -> None:
    """node accepts each as JavaScript."""
    folder = laid_out(tmp_path) / "panel"
    for path in sorted(folder.glob("*.js")):
        checked = subprocess.run(
            [node(), "--check", str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert checked.returncode == 0, checked.stderr


def test_every_module_can_be_read_in_one_go() -> None:
    """None is longer than other files may be, and each starts with its purpose."""
    for path in (*PANEL.glob("*.js"), *TESTS.glob("*.mjs")):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MOST_LINES, path.name
        if path.suffix == ".js":
            assert text.startswith("// "), path.name
            assert not re.search(r"(?m)(?<!\*/\n)^export (?:async )?(?:function|class)", text), path.name
