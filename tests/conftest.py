"""What all tests share: properties have no deadline of their own, as a loaded machine is no failure."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("house")

# Whoever starts the tests in the background may have these ignored, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
