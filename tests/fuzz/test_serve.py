"""Serve configurations: the owner's file, tailscaled's configuration and the record of our entries may be anything."""

from __future__ import annotations

import msgspec
from hypothesis import example, given

from supervisor.tailnet.localapi import LocalApiError, _decoded
from supervisor.tailnet.serve import desired, diff, publisher
from supervisor.tailnet.serve.diff import Wish
from supervisor.tailnet.wire import Json
from tests.fuzz.mutating import mutations, thorough

NAME = "moltis.tail.example"
CONFIGS = (
    (
        b'{"TCP":{"443":{"HTTPS":true},"80":{"HTTP":true}},"Web":{"${TS_CERT_DOMAIN}:443":{"Handlers":{"/":{"Proxy":'
        b'"http://127.0.0.2:13131"}}},"moltis.tail.example:80":{"Handlers":{"/":{"Text":"x"},"/y":{"Path":"/srv"}}}}}'
    ),
    (
        b'{"TCP":{"22":{"TCPForward":"127.0.0.1:22","TerminateTLS":"moltis.tail.example"}},"AllowFunnel":'
        b'{"moltis.tail.example:443":true},"Foreground":{"s":{"TCP":{"80":{"HTTP":true}},"Web":null}}}'
    ),
    (
        b'{"Services":{"svc:a":{"TCP":{"80":{"HTTP":true}},"Web":{"a.tail.example:80":{"Handlers":{"/":{"Proxy":"x"}}}},'
        b'"Tun":true}},"ETag":"1"}'
    ),
    b'{"TCP":null,"Web":{"moltis.tail.example:80":null}}',
    b"null",
)
RECORDS = (
    (
        b'{"entries":[{"path":["TCP","80"],"value":{"HTTP":true}},'
        b'{"path":["Web","moltis.tail.example:80","Handlers","/"],"value":{"Proxy":"http://127.0.0.2:13131"}}]}'
    ),
    b'{"entries":[{"path":["Services","svc:a","TCP","80"],"value":null},{"path":["Services","svc:a","Tun"],"value":true}]}',
    b'{"entries":[{"path":[],"value":1},{"path":["TCP"],"value":[]},{"path":["Web","x"],"value":{}}]}',
)
WISH = desired.of_app("auto", "http://127.0.0.2:13131", NAME, (NAME,), None, lasting=True).wish or Wish({})


@thorough
@given(mutations(CONFIGS))
@example(b'{"TCP":{"' + b"1" * 5000 + b'":{}}}')
@example(b"[" * 100_000)
def test_the_owners_file(data: bytes) -> None:
    """It is decoded, or raises ValueError; a decoded configuration can be encoded and decoded again."""
    try:
        config, whys = desired.parse(data, NAME)
    except ValueError:
        return
    assert desired.parse(msgspec.json.encode(config), NAME) == (config, ())
    for domains in ((), (NAME,)):
        desired.of_file(config, domains, whys, lasting=False)


@thorough
@given(mutations(CONFIGS), mutations(RECORDS))
@example(b'{"Web":{"a:80":null}}', RECORDS[0])
@example(b'{"Web":{"a:80":{"Handlers":{"/":null}}},"TCP":{"80":7}}', RECORDS[2])
@example(b'{"Services":{"svc:a":null},"Foreground":{"s":7}}', RECORDS[1])
@example(
    b'{"TCP":7,"Web":{"moltis.tail.example:80":{"Handlers":{"/":7}}},"AllowFunnel":{"moltis.tail.example:80":1}}',
    b'{"entries":[]}',
)
@example(
    b'{"TCP":{"80":{"TCPForward":7}},"Web":7,"Services":7,"AllowFunnel":{"moltis.tail.example:80":1}}',
    b'{"entries":[]}',
)
def test_what_tailscaled_has_and_what_is_ours(config: bytes, record: bytes) -> None:
    """Any two of them result in a step; repeated steps come to an end, and all conflicts can be described."""
    try:
        current = _decoded(config, Json | None) or {}  # type: ignore[arg-type]
        ours = publisher._decoded(record)
    except (LocalApiError, msgspec.DecodeError):
        return
    for _ in range(4):
        step = diff.step(current, WISH, ours)
        for conflict in step.conflicts:
            assert publisher.conflict_text(conflict, current)
        found = diff.in_force(current, WISH, ours)
        diff.urls(current, found)
        diff.https_url(current, found, 13131)
        if step.config is None:
            return
        msgspec.json.encode(step.config)
        current = step.config
        for path, value in step.written.items():
            ours[path] = (*ours.get(path, ()), value)
    raise AssertionError(f"no end of steps: {step}")
