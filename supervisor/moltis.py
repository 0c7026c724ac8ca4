"""The facts about Moltis that the supervisor relies on; those that a setting decides are in ``config``."""

from __future__ import annotations

# Its forward proxy: it takes everyone to everywhere, the loopback included.
OPEN_PROXY_PORT = 18791
CLOSE_PROXY = "set MOLTIS_TOOLS__EXEC__SANDBOX__NETWORK=bypass"
# Those of its own histograms, so that one dashboard reads both.
DURATION_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# The setup code in its banner, and the same as a field.
SETUP_CODE_HINTS = (b"code", b"Code", b"CODE")
SETUP_CODE = rb"""(?i)(\bset-?up[ _-]?code["']?\s*(?:[:=]|is\b)\s*["']?)([A-Za-z0-9][A-Za-z0-9-]{3,63})"""
