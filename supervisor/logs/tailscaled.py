"""Reads tailscaled's own lines (1.102), which have no levels: how bad one is, what it is about, whether it is noise.

What is said here is what the line says of itself; one that says nothing is ``info`` and of no topic.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# What a line is about, and the first words of such lines: up to a colon, dot, bracket or blank.
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
    """Lines known to come again and again and to tell nothing new: how they begin, and what they hold besides."""

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

# The program's end, whatever else the line holds.
_FATAL = (
    "panic:",
    "fatal error:",
    "getLocalBackend error",
    "safesocket.Listen:",
    "createEngine:",
    "error reading config",
)
# Said at every start or stop in a container, and of no consequence there.
_HARMLESS = (
    "TPM: error opening",
    "ipnext: work queue shutdown failed: execqueue shut down",
    "magicsock: last netcheck reported send error",
    "tstun: error initializing tun dev stats polling",
)
_TROUBLE = ("Received error:", "logtail: dial", "control: bootstrapDNS", "[unexpected] ")
_TROUBLE_WORDS = re.compile(
    r"(?:^|[ (:])(?:[Ee]rrors?|[Ff]ail(?:ed|ure|ing)?|[Cc]ould not|[Cc]annot|[Uu]nable to|refused|timeout|timed out)"
    r"(?=[ :;,.)]|$)"
)
_HEALTH = "health(warnable="
_LIMITED = '[RATELIMIT] format("'
_UNEXPECTED = "[unexpected] "
# These say much, and little of it to whoever has no question.
_TALKATIVE = frozenset(
    {"Accept", "dns", "magicsock", "monitor", "netcheck", "netstack", "peerapi", "portmapper", "tsdial", "wgengine"}
)
# Local time to the second, perhaps with a fraction, then perhaps a verbosity.
_HEAD = re.compile(r"(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d+)? )?(\[v\d\] ?)?")
_WORD = re.compile(r"\[?[\w-]*")


def level_of(line: str) -> str:
    """Return debug, info, warning or error."""
    text, is_verbose = _said(line)
    if text.startswith(_FATAL):
        return "error"
    if is_verbose or text.startswith(_LIMITED):
        return "debug"
    if text.startswith(_HARMLESS):
        return "info"
    if text.startswith(_HEALTH):
        return "warning" if "): error" in text else "info"
    if text.startswith(_TROUBLE) or _TROUBLE_WORDS.search(text):
        return "warning"
    return "debug" if _first_word(text) in _TALKATIVE else "info"


def topic_of(line: str) -> str:
    """Return one of the topics; empty for a line that is of none."""
    text, _ = _said(line)
    text = text.removeprefix(_LIMITED).removeprefix(_UNEXPECTED)
    return _TOPIC_OF.get(_first_word(text), "")


def noise_of(line: str) -> Noise | None:
    """Return what noise this line is; None for what is unknown, and for what tells of trouble."""
    text, _ = _said(line)
    for row in _NOISE_OF.get(_first_word(text), ()):
        if text.startswith(row.begins) and row.holds in text:
            return row if text.startswith(_LIMITED) or not _TROUBLE_WORDS.search(text) else None
    return None


def _said(line: str) -> tuple[str, bool]:
    """Return a line without its time and verbosity, and whether it had one."""
    found = _HEAD.match(line)
    # The pattern matches nothing too.
    return (line[found.end() :], found[1] is not None) if found else (line, False)


def _first_word(text: str) -> str:
    found = _WORD.match(text)
    return found[0] if found else ""


_TOPIC_OF = {head: topic for topic, heads in TOPICS.items() for head in heads}
_NOISE_OF = {
    head: tuple(row for row in NOISE if _first_word(row.begins) == head)
    for head in {_first_word(row.begins) for row in NOISE}
}
