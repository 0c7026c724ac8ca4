"""`python -m supervisor` is the same as `moltis-supervisor`."""

from __future__ import annotations

import gc
import sys

from supervisor.system import stdio

# Before ctypes: a libffi of 3.5 or newer keeps its own file open, under the number of a stream that is closed.
stdio.open_closed()

from supervisor.system import kernel  # noqa: E402 - as above

# First of all: the environment contains secrets, and the app may run as the same user.
kernel.set_undumpable()
# Hardly anything imported is garbage: collecting would delay the first child. Long-running commands enable it again.
gc.disable()

from supervisor.cli import main  # noqa: E402 - what it loads takes time

if __name__ == "__main__":
    sys.exit(main())
