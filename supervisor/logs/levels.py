"""Understands how bad a line says it is: Moltis' tracing text, tailscaled's lines, and what crashes look like."""

from __future__ import annotations

import re
from functools import cache

# None of these is compiled before the first line that needs it.
# tracing-subscriber's line: time, level in capitals, then the rest; others put brackets around the level.
_TRACING = (
    r"^(?:\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?\s+)?"
    r"\[?(TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|FATAL|CRITICAL)\]?[\s:]"
)
_CRASH = r"^(?:Error:|error:|Caused by:|panic:|fatal error:|thread '.*' panicked|Traceback \(most recent)"

TAILSCALED = "tailscaled"

# What writers call them; the numbers are those of pino and bunyan.
NAMES = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "notice": "info",
    "warn": "warning",
    "warning": "warning",
    "err": "error",
    "error": "error",
    "fatal": "critical",
    "critical": "critical",
    "panic": "critical",
    "10": "debug",
    "20": "debug",
    "30": "info",
    "40": "warning",
    "50": "error",
    "60": "critical",
}
# The beginnings, after a newline, of lines that may not be of level info: as ``of_line`` has them, and JSON objects.
_SUSPECT = (
    rb"\n(?=[\d\[TDWEFCeptf{])(?:(?>\d{4}-\d\d-\d\d[T ][^ \t\n]+[ \t]+\[?|\[?)(?:TRACE|DEBUG|WARN|ERROR|FATAL|CRITICAL)"
    rb"|[EepCftT](?:rror:|aused by:|anic:|atal error:|hread '|raceback \()|\{)"
)


@cache
def suspect() -> re.Pattern[bytes]:
    """Return what finds lines that may not be of level info: ten times as quick as looking for each word by itself.

    Compiled for the first line: who has none does not pay for it.
    """
    return re.compile(_SUSPECT)


def of_line(process: str, text: str) -> str:
    """Return debug, info, warning, error or critical."""
    if process == TAILSCALED:
        # Loaded where there is a tailscaled.
        from supervisor.logs import tailscaled

        return tailscaled.level_of(text)
    found = re.match(_TRACING, text)
    if found:
        return NAMES[found[1].lower()]
    return "error" if re.match(_CRASH, text) else "info"


def topic_of_line(process: str, text: str) -> str:
    """Return what a line of tailscaled's is about; empty where it does not say, and for all others."""
    if process != TAILSCALED:
        return ""
    from supervisor.logs import tailscaled

    return tailscaled.topic_of(text)
