"""The supervisor with the waits of backups shortened: `python hastened.py run …`, by a setting that tests alone have.

HASTE is a JSON object: `silence_s`, `renew_s`, `long_s` (of standby), `again_s` (after a failed start or rehearsal),
`patience_s` (with a restic that gets no answer) and `interval_s` in the place of what they are.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def hasten(haste: dict[str, Any]) -> None:
    """Put the shorter times in place."""
    from supervisor.core import holding

    # Before the modules that take them from there are loaded.
    holding.SILENCE_S = haste.get("silence_s", holding.SILENCE_S)
    holding.RENEW_S = haste.get("renew_s", holding.RENEW_S)
    from supervisor.backup import beginning, listener, standby, work

    standby.LONG_S = haste.get("long_s", standby.LONG_S)
    standby.AGAIN_S = haste.get("again_s", standby.AGAIN_S)
    beginning._AGAIN_S = haste.get("again_s", beginning._AGAIN_S)
    listener.PATIENCE_S = haste.get("patience_s", listener.PATIENCE_S)
    interval_s = haste.get("interval_s")
    if interval_s is not None:
        rest = work.Work.rest

        def rest_shortly(self: work.Work) -> None:
            self.settings = self.settings._replace(interval_s=interval_s)
            rest(self)

        work.Work.rest = rest_shortly  # type: ignore[method-assign]


if __name__ == "__main__":
    from supervisor.system import kernel

    kernel.set_undumpable()
    hasten(json.loads(os.environ.get("HASTE", "{}")))
    from supervisor.cli import main

    sys.exit(main())
