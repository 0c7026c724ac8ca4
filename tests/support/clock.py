"""A wrong clock: by libfaketime, and by another way for programs in Go, which ignore preloaded libraries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

# For libfaketime: the monotonic clock stays real. Otherwise waits end at once, and each of Python's threads
# that waits for another one uses a whole processor.
WALL_CLOCK_ALONE = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0"}
# In Go's time.go: the place where Now reads the time, and the code that is added.
_NOW = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
_SHIFT = """
var clockShift = func() (seconds int64) {
	text, _ := syscall.Getenv("CLOCK_SHIFT_S")
	sign := int64(1)
	for _, char := range text {
		if char == '-' {
			sign = -1
		} else {
			seconds = seconds*10 + int64(char-'0')
		}
	}
	return sign * seconds
}()
"""


def clock_overlay(folder: Path) -> Path:
    """Write an overlay for `go build` into a folder: time.Now is off by the seconds in CLOCK_SHIFT_S."""
    root = subprocess.run(["go", "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
    source = Path(root) / "src/time/time.go"
    text = source.read_text()
    assert _NOW in text, f"{source} has changed: find where Now reads the time"
    text = text.replace("import (\n", 'import (\n\t"syscall"\n', 1).replace(_NOW, f"{_NOW}\tsec += clockShift\n", 1)
    (folder / "time.go").write_text(text + _SHIFT)
    overlay = folder / "overlay.json"
    overlay.write_text(json.dumps({"Replace": {str(source): str(folder / "time.go")}}))
    return overlay
