"""`python -m supervisor` is the same as `moltis-supervisor`."""

from __future__ import annotations

import gc
import sys

from supervisor.system import kernel

# First of all: the environment holds secrets, and where all is one user the app may be watching for it.
kernel.set_undumpable()
# Next to nothing of what is loaded goes again: looking for it would hold up the first child. Whoever stays enables it.
gc.disable()

from supervisor.cli import main  # noqa: E402 - what it loads takes time

if __name__ == "__main__":
    sys.exit(main())
