"""What a device in its tailnet is helped with, and when that counts as done."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.tailnet.care import Care
from supervisor.tailnet.localapi import ForbiddenError, LocalApi
from supervisor.tailnet.remedies import Remedy
from supervisor.tailnet.wire import Node, Status
from tests.config.machine import plan

if TYPE_CHECKING:
    from supervisor.tailnet.hands import Hands

AWAY = Status(backend_state="Running", node=Node())
ONLINE = Status(backend_state="Running", node=Node(online=True))


class Refusing:
    """The hands of one who may not restart anything: what is asked of them is counted."""

    asked = 0

    async def restart_control_client(self) -> None:
        """Refuse."""
        self.asked += 1
        raise ForbiddenError("access denied")


@pytest.fixture
def hands() -> Refusing:
    """Whatever is asked of them."""
    return Refusing()


@pytest.fixture
def care(hands: Refusing, tmp_path: object) -> Care:
    """The care of a device that is published nowhere."""
    log = LogPipeline(format="json", color=False, redactor=Redactor([]), history_lines=100, names=[])
    settled = plan({"SUPERVISOR_SERVE": "off", "TS_STATE_DIR": f"{tmp_path}/state"})
    return Care(settled, log, LocalApi(f"{tmp_path}/socket", str), cast("Hands", hands))


async def test_a_remedy_stays_due_until_somebody_has_time_for_it(care: Care, hands: Refusing) -> None:
    """One that falls due while something else is done, such as publishing, is not lost until the next one's time."""
    assert care.look(AWAY, 1.0, removed=True) is Remedy.SOFT
    remedy = care.look(AWAY, 2.0, removed=True)
    assert remedy is Remedy.SOFT
    await care.work(AWAY, remedy, 2.0)
    assert hands.asked == 1
    assert care.look(AWAY, 3.0, removed=True) is None


def test_a_remedy_is_due_no_longer_than_its_outage(care: Care) -> None:
    """A device that is back needs none."""
    assert care.look(AWAY, 1.0, removed=True) is Remedy.SOFT
    assert care.look(ONLINE, 2.0, removed=False) is None
    assert care.look(AWAY, 3.0, removed=False) is None
