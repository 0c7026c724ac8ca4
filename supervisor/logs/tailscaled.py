"""Parses the log lines of tailscaled 1.102, which have no levels: determines level, topic and noise.

Known noise is kept out of the log: the first lines of each kind pass, the rest of a minute is counted.

Only the line itself is used; a line that matches nothing is ``info`` without a topic.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from supervisor.logs.lines import MORE

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOW_S = 60.0
# The number of lines of each kind that pass in a window.
PASSING = 3

# Topics, and the first words of their lines: up to a colon, dot, bracket or blank.
TOPICS: dict[str, tuple[str, ...]] = {
    "certificates": ("acme", "cert"),
    "control": ("control", "controlhttp", "Received", "TryLogin", "mapRoutine", "authRoutine", "bootstrapDNS"),
    "derp": ("derphttp", "derp"),
    "dns": ("dns", "dnsfallback", "DNSQuery", "forwarder", "resolver"),
    "filter": ("Accept", "Drop", "open-conn-track"),
    "health": ("health",),
    "ipn": (
        "Backend",
        "EditPrefs",
        "SetPrefs",
        "Start",
        "StartLoginInteractiveAs",
        "Switching",
        "active",
        "blockEngineUpdates",
        "ipnext",
        "linkChange",
        "netmap",
        "nodeBackend",
        "pm",
        "transitioning",
    ),
    "localapi": ("localapi", "ipnserver"),
    "magicsock": ("magicsock", "Rebind", "disco"),
    "netcheck": ("netcheck",),
    "netmon": ("monitor", "netmon", "link", "netns"),
    "netstack": ("netstack", "peerapi", "socks5", "tsdial", "tstun"),
    "portmapper": ("portmapper", "portmap"),
    "serve": ("serve", "ingress", "handleIngress", "localListener"),
    "wgengine": ("wgengine", "wg", "Reconfig", "router"),
}


class Noise(NamedTuple):
    """Lines that are known to repeat without new information: how they begin, and what else they contain."""

    kind: str
    begins: str
    holds: str = ""


NOISE: tuple[Noise, ...] = (
    Noise("accepted", "Accept: "),
    Noise("certificates", "cert refresh loop: "),
    Noise("control-dial", "control: controlhttp: forcing port 443 dial"),
    Noise("derp-connections", "derphttp.Client.Connect: connecting to derp-"),
    Noise("derp-connections", "derphttp.Client.Recv: connecting to derp-"),
    Noise("derp-connections", "magicsock: adding connection to derp-"),
    Noise("derp-connections", "magicsock: closing connection to derp-"),
    Noise("derp-connections", "magicsock: ", " active derp conns"),
    Noise("derp-connections", "magicsock: derp-", " connected; connGen="),
    Noise("disco", "magicsock: disco: "),
    Noise("disco", "magicsock: new contact: "),
    Noise("endpoints", "magicsock: endpoints changed: "),
    Noise("link", "monitor: RTM_"),
    Noise("netcheck", "control: NetInfo: "),
    Noise("netcheck", "netcheck: UDP is blocked"),
    Noise("netcheck", "netcheck: netcheck: "),
    Noise("netcheck", "netcheck: probePortMapServices: "),
    Noise("netcheck", "netcheck: report: "),
    Noise("netmap", "netmap: suggested exit node: "),
    Noise("netmap", "updating netmap in disk cache"),
    Noise("ping", "localapi: [POST] /localapi/v0/ping"),
    Noise("ping", "ping("),
    Noise("portmapper", "portmapper: "),
    Noise("rate-limits", "[RATELIMIT] format("),
    Noise("reconfig", "dns: OScfg: "),
    Noise("reconfig", "dns: Resolvercfg: "),
    Noise("reconfig", "dns: Set: "),
    Noise("reconfig", "peerapi: serving on "),
    Noise("reconfig", "tsdial: bart table size: "),
    Noise("reconfig", "wgengine: Reconfig: "),
)

# Errors that end the program.
FATAL = (
    "panic:",
    "fatal error:",
    "getLocalBackend error",
    "safesocket.Listen:",
    "createEngine:",
    "error reading config",
)
# Logged at every start or stop in a container, without consequence there.
HARMLESS = (
    "TPM: error opening",
    "ipnext: work queue shutdown failed: execqueue shut down",
    "magicsock: last netcheck reported send error",
    "tstun: error initializing tun dev stats polling",
)
TROUBLE = ("Received error:", "logtail: dial", "control: bootstrapDNS", "[unexpected] ")
# After a blank or an equivalent; the lookahead makes it three times as fast.
_TROUBLE_WORDS = re.compile(
    r"[ (:](?=[EeFfCcUurt])"
    r"(?:[Ee]rrors?|[Ff]ail(?:ed|ure|ing)?|[Cc]ould not|[Cc]annot|[Uu]nable to|refused|timeout|timed out)"
    r"(?=[ :;,.)]|$)"
)
HEALTH = "health(warnable="
HEALTH_ERROR = "): error"
LIMITED = '[RATELIMIT] format("'
UNEXPECTED = "[unexpected] "
# Topics with many lines of little interest, which are debug.
TALKATIVE = frozenset(
    {"Accept", "dns", "magicsock", "monitor", "netcheck", "netstack", "peerapi", "portmapper", "tsdial", "wgengine"}
)
# Local time to the second, possibly with a fraction, then possibly a verbosity.
_HEAD = re.compile(r"(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d+)? )?(\[v\d\] ?)?")
_WORD = re.compile(r"\[?[\w-]*")


class DaemonLine(NamedTuple):
    """The level (debug, info, warning or error), topic (empty if unknown) and kind of noise of a line."""

    level: str
    topic: str
    noise: Noise | None


def parse(line: str) -> DaemonLine:
    """Parse a line."""
    found = _HEAD.match(line)
    # The pattern also matches an empty string.
    text, is_verbose = (line[found.end() :], found[1] is not None) if found else (line, False)
    limited = text.startswith(LIMITED)
    first = _first_word(text)
    told = _first_word(text.removeprefix(LIMITED).removeprefix(UNEXPECTED)) if text[:1] == "[" else first
    trouble = _TROUBLE_WORDS.search(f" {text}") is not None
    if text.startswith(FATAL):
        level = "error"
    else:
        level = "debug" if is_verbose or limited else _level(text, first, trouble=trouble)
    noise = _noise(text, first) if first in _NOISE_OF and (limited or not trouble) else None
    return DaemonLine(level, _TOPIC_OF.get(told, ""), noise)


class HeldBack(NamedTuple):
    """The number of lines held back in a window, in total and by kind."""

    lines: int
    kinds: dict[str, int]


class NoiseLimit:
    """Limits noise; the caller passes the time. A window begins with its first noise line."""

    def __init__(self) -> None:
        self.total = 0
        self._ends_s: float | None = None
        self._seen: dict[Noise, int] = {}
        self._held: dict[str, int] = {}

    @property
    def due_s(self) -> float | None:
        """When the held-back lines are to be reported; None if there are none."""
        return self._ends_s if self._held else None

    def passing(self, lines: Iterable[DaemonLine], now_s: float) -> list[int]:
        """Return the indexes of the lines that pass."""
        if self._ends_s is not None and now_s >= self._ends_s and not self._held:
            self._ends_s = None
            self._seen.clear()
        return [place for place, line in enumerate(lines) if line.noise is None or self._passes(line.noise, now_s)]

    def _passes(self, noise: Noise, now_s: float) -> bool:
        if self._ends_s is None:
            self._ends_s = now_s + WINDOW_S
        seen = self._seen[noise] = self._seen.get(noise, 0) + 1
        if seen <= PASSING:
            return True
        self.total += 1
        self._held[noise.kind] = self._held.get(noise.kind, 0) + 1
        return False

    def report(self) -> HeldBack | None:
        """Return what was held back since the last report, if anything, and reset the counts."""
        kinds, self._held = self._held, {}
        self._ends_s = None
        self._seen.clear()
        return HeldBack(sum(kinds.values()), dict(sorted(kinds.items()))) if kinds else None


def _level(text: str, first: str, *, trouble: bool) -> str:
    if first in _KNOWN_BY_BEGINNING:
        if text.startswith(HARMLESS):
            return "info"
        if text.startswith(HEALTH):
            return "warning" if HEALTH_ERROR in text else "info"
        trouble = trouble or text.startswith(TROUBLE)
    if trouble:
        return "warning"
    return "debug" if first in TALKATIVE else "info"


def _noise(text: str, first: str) -> Noise | None:
    """Return the kind of noise of a line; None for the first piece of a long line, so that its pieces stay together."""
    for row in _NOISE_OF.get(first, ()):
        if text.startswith(row.begins) and row.holds in text:
            return None if text.endswith(_MORE) else row
    return None


def _first_word(text: str) -> str:
    found = _WORD.match(text)
    return found[0] if found else ""


_MORE = MORE.decode()
_KNOWN_BY_BEGINNING = frozenset(map(_first_word, (*HARMLESS, *TROUBLE, HEALTH)))
_TOPIC_OF = {head: topic for topic, heads in TOPICS.items() for head in heads}
_NOISE_OF = {
    head: tuple(row for row in NOISE if _first_word(row.begins) == head)
    for head in {_first_word(row.begins) for row in NOISE}
}
