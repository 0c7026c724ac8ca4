"""Writes docs/reference/doctor.md from the checks' own table: `python -m scripts.doctor_page > PAGE`."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING

from supervisor.doctor.report import CHECKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.doctor.finding import Check

HEAD = """\
# Doctor

<!-- This page is written by scripts/doctor_page.py from the checks in supervisor/doctor. -->

`moltis-supervisor doctor`, *Check everything* in the panel, and [`GET /api/doctor`](api.md#doctor) give one report.
Each finding says what was looked at, what was found, why it matters, and one thing to do.
It is *ok*, a *note* (worth knowing, and nothing is wrong), or a *problem*, with which the command ends with 1.

A supervisor that runs makes the report itself: it alone knows its processes, its tailnet and its settings.
Without one the command checks what can be seen then: settings, rights, machine and network.

Secrets, addresses, accounts and the tailnet's name are masked in every form of it.
An address has the same number everywhere in one report.

This much leaves the machine.
With a tailnet, names are looked up, and the control server is asked for `/generate_204`.
It is asked once more with a header of 4,000 bytes, and where that gets no answer, a dozen times with smaller packets.
Each region's relay gets one packet by UDP, the device's own one four more and a TCP connection.
The device that asks for the report gets a ping.
An OAuth client whose tags are set asks Tailscale's API for the tailnet's policy.
One beside an auth key (`TS_CLIENT_SECRET` with `TS_AUTHKEY`) asks for what that key is good for.
Moltis' model providers get a TLS handshake on port 443 and nothing else: 20 hosts at most, of public addresses only.
They are named in a configuration that the app's own user reads.
"""


def page() -> str:
    """Return the whole page."""
    groups = groupby(CHECKS, key=lambda check: check.group)
    return "\n".join([HEAD, *(_section(name, checks) for name, checks in groups)])


def _section(name: str, checks: Iterable[Check]) -> str:
    rows = [f"| `{check.name}` | {check.looked_at} | {check.why} |" for check in checks]
    return "\n".join(
        [f"## {name.capitalize()}", "", "| check | looks at | why it matters |", "|---|---|---|", *rows, ""]
    )


if __name__ == "__main__":
    sys.stdout.write(page())
