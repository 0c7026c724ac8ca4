"""A complete deploy: two containers with a real bucket and a real tailnet lose nothing but seconds."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.backup.deploying import KEY, KEY_OF_PEER, Disk, device, moments, readiness, through, wait_ready, writing
from tests.backup.world import back_up, wait_for_state
from tests.support.control import controlling
from tests.support.peer import peer
from tests.support.waiting import wait_until
from tests.tailnet.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backups import Bucket
    from tests.support.control import Control

MUCH_BYTES = 100_000_000
SERVED = {"TCP": {"9999": {"TCPForward": "127.0.0.2:1"}}}


@pytest.fixture
def control() -> Iterator[Control]:
    """A control server that accepts each of two keys once."""
    with controlling("-auth") as running:
        running.order("key", value=KEY)
        running.order("key", value=KEY_OF_PEER)
        yield running


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_deploy_is_a_pause_of_seconds(control: Control, server: Bucket) -> None:
    """The device keeps its name, address, serve entries and choice, and the app every row that was acknowledged."""
    old, new = Disk(server.repository, control), Disk(server.repository, control)
    with peer(control, key=KEY_OF_PEER) as other, old.container() as one:
        node = Node(one)
        node.wait_state("connected")
        before = device(node)
        wait_ready(one)
        other.wait_path(before[3])
        # State of this device alone: a foreign serve entry, the owner's choice, a passkey, and much data.
        node.ask("POST", "serve-config", served(node))
        node.connect()
        old.keep("a passkey's public key", "passkeys")
        (old.folder / ".moltis/much").write_bytes(os.urandom(MUCH_BYTES))
        wait_for_state(one, "idle")
        back_up(one)
        pid = old.ask("GET", "/stand-in/kept")["pid"]
        with writing(through(other)) as writer, new.container() as two:
            wait_until(lambda: len(writer.acknowledged(pid)) > 20, what="rows that were acknowledged")
            wait_ready(two)
            assert one.popen.poll() is None
            assert two.find("started") is None
            begin_s = time.time()
            one.send(signal.SIGTERM)
            first = writer.first_of_another(pid)
            print(moments(begin_s, one, two, first))
            assert one.wait() == 0
            assert readiness(two) == 200
            acknowledged = writer.acknowledged(pid)
            kept = set(new.kept())
            assert [row for row in acknowledged if row not in kept] == []
            assert new.kept("passkeys") == ["a passkey's public key"]
            second = Node(two)
            second.wait_state("connected")
            assert device(second) == before
            assert len(control.nodes()) == 2  # the device and the peer
            assert second.ask("GET", "serve-config")["TCP"]["9999"] == SERVED["TCP"]["9999"]
            assert (new.folder / ".moltis/much").stat().st_size == MUCH_BYTES
            assert first.at_s - begin_s < 30  # about ten at most; the machine is shared, and benchmarks measure it


def served(node: Node) -> dict[str, object]:
    """Return the current serve config with a foreign port added."""
    now = wait_until(lambda: node.ask("GET", "serve-config"), what="what is published")
    return {**now, "TCP": {**now.get("TCP", {}), **SERVED["TCP"]}}
