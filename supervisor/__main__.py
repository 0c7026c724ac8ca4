"""`python -m supervisor` is the same as `moltis-supervisor`."""

from __future__ import annotations

import gc
import os
import sys

# Closed streams get /dev/null before ctypes opens anything: a libffi of 3.5 or newer keeps a file, under their number.
for stream in range(3):
    try:
        os.fstat(stream)
    except OSError:
        os.open(os.devnull, os.O_RDWR)

from supervisor.system import kernel  # noqa: E402 - as above

# As early as possible: the environment contains secrets, and the app may run as the same user.
kernel.set_undumpable()
# Hardly anything imported is garbage: collecting would delay the first child. Long-running commands enable it again.
gc.disable()

from supervisor.cli import main  # noqa: E402 - what it loads takes time

if __name__ == "__main__":
    sys.exit(main())
