"""What is noticed in tailscaled's log, and when it counts."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.core.snapshot import TailnetView
from supervisor.tailnet.log import LogWatcher, StateLogger
from tests.logs.rig import Rig

LOST = b"2026/11/24 15:21:52 Received error: PollNetMap: unexpected EOF\n"
REMOVED = b"2026/11/24 15:22:00 Received error: PollNetMap: initial fetch failed 404: node not found\n"
KEYLESS = b"2026/11/24 15:22:00 Received error: PollNetMap: privateNodeKey is zero\n"
OTHER = b"2026/11/24 15:22:00 control: client.Login(0)\n"


async def write(rig: Rig, data: bytes, process: str = "tailscaled") -> None:
    """Write output of a process, and return once it is in the log."""
    heard = asyncio.Event()
    leave = rig.log.subscribe(heard.set)
    await rig.say(data, process, "stderr")
    async with asyncio.timeout(30):
        await heard.wait()
    leave()


async def test_a_complaint_wakes() -> None:
    """tailscaled's errors wake it while the device is in a tailnet or logging in; an app's output does not."""
    rig = Rig()
    woken: list[bytes] = []
    said = b""
    complaints = LogWatcher(rig.log, lambda: woken.append(said))
    leave = complaints.listen()
    await write(rig, LOST)
    complaints.follow(running=True, online=True, trying=False)
    for said, name in ((OTHER, "tailscaled"), (LOST, "moltis"), (LOST, "tailscaled"), (OTHER, "tailscaled")):
        await write(rig, said, name)
    assert woken == [LOST]
    complaints.follow(running=False, online=False, trying=False)
    await write(rig, LOST)
    assert woken == [LOST]
    complaints.follow(running=False, online=False, trying=True)
    await write(rig, said := LOST)
    leave()
    complaints.follow(running=True, online=True, trying=False)
    await write(rig, LOST)
    rig.end()
    assert woken == [LOST, LOST]
    assert not complaints.removed


@pytest.mark.parametrize("message", [REMOVED, KEYLESS])
async def test_a_removed_device(message: bytes) -> None:
    """It counts as removed until it is online again, or out of its tailnet; earlier messages do not count."""
    rig = Rig()
    complaints = LogWatcher(rig.log, lambda: None)
    complaints.listen()
    await write(rig, message)
    found = []
    for running in (True, False):
        complaints.follow(running=True, online=False, trying=False)
        found.append(complaints.removed)
        await write(rig, message + LOST)
        complaints.follow(running=True, online=False, trying=False)
        found.append(complaints.removed)
        complaints.follow(running=running, online=running, trying=False)
    rig.end()
    assert found == [False, True, False, True]
    assert not complaints.removed


async def test_a_version_that_was_never_tried_is_told_once() -> None:
    """It is reported again only for another version; the tested version is not reported."""
    rig = Rig()
    logger = StateLogger(rig.log)
    for version in ("", "1.999.0", "1.999.0", "1.102.5", "1.999.1"):
        logger.tell(TailnetView(version=version), 0.0)
    rig.end()
    told = [line for line in rig.log.history.tail("supervisor", 100) if "never tried" in line]
    assert ["1.999.0" in told[0], "1.999.1" in told[1], len(told)] == [True, True, 2]
