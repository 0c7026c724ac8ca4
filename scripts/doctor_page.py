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
Its level is *ok*, *note* (worth knowing, but nothing is wrong) or *problem*; with a problem the command exits with 1.

A running supervisor makes the report itself, because only it knows its processes, its tailnet and its settings.
Without one the command checks settings, rights, machine and network.

Secrets, addresses, accounts and the tailnet's name are masked in every form of the report.
Within one report each address always has the same number.

The checks send the following to other machines.
With a tailnet, names are looked up, and `/generate_204` is requested from the control server.
This is repeated with a header of 4,000 bytes, and if there is no answer, a dozen times with smaller packets.
Each region's relay gets one UDP packet, the device's own relay four more and a TCP connection.
The device that requests the report gets a ping.
With an OAuth client and tags, the tailnet's policy is requested from Tailscale's API.
With an OAuth client beside an auth key (`TS_CLIENT_SECRET` with `TS_AUTHKEY`), the key's properties are requested too.
Moltis' model providers get only a TLS handshake on port 443: at most 20 hosts, with public addresses only.
Their names come from the app's configuration, which is read as the app's user.
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
