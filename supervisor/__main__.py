"""`python -m supervisor` is the same as `moltis-supervisor`."""

from __future__ import annotations

import sys

from supervisor.system import kernel

# First of all: the environment holds secrets, and where all is one user the app may be watching for it.
kernel.set_undumpable()

from supervisor.cli import main  # noqa: E402 - what it loads takes time

if __name__ == "__main__":
    sys.exit(main())
