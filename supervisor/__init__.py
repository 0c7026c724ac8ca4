"""Runs an app and tailscaled together in one container."""

import sys

__version__ = "0.1.0"

# Makes aiohttp use frozenlist in Python: the compiled one loads the C++ library, 1.6 MB for a few short lists.
sys.modules.setdefault("frozenlist._frozenlist", None)  # type: ignore[arg-type]
