"""How tailscaled's lines are parsed; the lines are those of the real 1.102."""

from __future__ import annotations

import pytest

from supervisor.logs.tailscaled import NOISE, TOPICS, parse
from tests.conventions.tree import ROOT

STAMP = "2026/11/24 17:17:24 "
# Level, topic and kind of noise, then the line.
LINES = [
    ("info", "", "", "Engine created."),
    ("info", "", "", "TPM: error opening: stat /dev/tpmrm0: no such file or directory"),
    ("info", "", "", "monitoring of nothing known"),
    ("info", "certificates", "certificates", "cert refresh loop: cert-share read-only mode; loop is a no-op"),
    ("info", "control", "", "control: client.Login(2)"),
    ("info", "control", "netcheck", 'control: NetInfo: NetInfo{varies= udp=true derp=#1 portmap= link=""}'),
    ("info", "control", "control-dial", "control: controlhttp: forcing port 443 dial due to recent noise dial"),
    ("warning", "control", "", "Received error: PollNetMap: unexpected EOF"),
    ("warning", "certificates", "", 'cert("one.tail.example"): getCertPEM: cannot reach the authority'),
    ("info", "derp", "derp-connections", "derphttp.Client.Recv: connecting to derp-1 (test)"),
    ("debug", "dns", "reconfig", "dns: OScfg: {}"),
    ("debug", "filter", "accepted", "[v1] Accept: TCP{100.64.0.2:4096 > 100.64.0.1:80} 60 tcp ok"),
    ("info", "filter", "", "Drop: TCP{100.64.0.2:4096 > 100.64.0.1:22} 60 no rules matched"),
    ("warning", "health", "", "health(warnable=not-in-map-poll): error: not in map poll"),
    ("info", "health", "", "health(warnable=not-in-map-poll): ok"),
    ("info", "ipn", "", "Switching ipn state NeedsLogin -> Starting (WantRunning=true, nm=true)"),
    ("info", "localapi", "ping", "localapi: [POST] /localapi/v0/ping"),
    ("info", "localapi", "", "localapi: [PATCH] /localapi/v0/prefs"),
    ("debug", "magicsock", "", "magicsock: home is now derp-1 (test)"),
    ("debug", "magicsock", "derp-connections", "magicsock: 1 active derp conns: derp-1=cr0s,wr0s"),
    ("info", "magicsock", "", "magicsock: last netcheck reported send error. Rebinding."),
    ("warning", "magicsock", "", "magicsock: [0x3b0a] derp.Recv(derp-1): dial tcp4 127.0.0.1:4: connect: refused"),
    ("warning", "magicsock", "", "[unexpected] magicsock: nil endpoint"),
    ("debug", "magicsock", "rate-limits", '[RATELIMIT] format("magicsock: [%p] derp.Recv failed: %v") (10 dropped)'),
    ("debug", "netcheck", "netcheck", "netcheck: probePortMapServices: port mapping is disabled"),
    ("debug", "netcheck", "netcheck", "[v1] netcheck: report: udp=true v6=false"),
    ("debug", "portmapper", "portmapper", "portmapper: saw UPnP type WANIPConnection1"),
    ("warning", "portmapper", "", "portmapper: failed to get a mapping"),
    ("warning", "netstack", "", "netstack: could not connect to local backend server at 127.0.0.2:13131"),
    ("debug", "wgengine", "reconfig", "wgengine: Reconfig: configuring DNS"),
    ("error", "", "", "panic: runtime error"),
    ("debug", "", "", "[v2] an error that tailscaled finds not worth a word"),
    ("info", "", "", ""),
]


@pytest.mark.parametrize(("level", "topic", "kind", "text"), LINES)
def test_of_a_line(level: str, topic: str, kind: str, text: str) -> None:
    """A line's level, topic and kind of noise are recognised, with or without its time."""
    for line in (text, STAMP + text, f"2026/11/24 17:17:24.123456 {text}"):
        said = parse(line)
        assert (said.level, said.topic, said.noise.kind if said.noise else "") == (level, topic, kind)


def test_every_row_of_the_table_is_found() -> None:
    """Each kind of noise is recognised by its row; each word belongs to one topic only."""
    for row in NOISE:
        assert parse(f"{STAMP}{row.begins}x{row.holds}").noise is row
    words = [word for heads in TOPICS.values() for word in heads]
    assert len(words) == len(set(words))


def test_the_page_names_topics_and_kinds() -> None:
    """The reference lists every topic and every kind of noise."""
    page = (ROOT / "docs/reference/logs.md").read_text()
    kinds = {row.kind for row in NOISE}
    assert not [name for name in {*TOPICS, *kinds} if f"`{name}`" not in page]
