"""Signals that wait to be read."""

from __future__ import annotations

import os
import signal

from supervisor.system.signals import Inbox


def test_each_order_to_stop_counts_and_others_once() -> None:
    """A second INT that comes before the first was read counts separately; of a hundred CHLD one is enough."""
    inbox = Inbox()
    try:
        for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGINT, signal.SIGCHLD):
            inbox._take(number, None)
        assert inbox.read() == [signal.SIGINT, signal.SIGCHLD, signal.SIGINT]
        assert inbox.read() == []
    finally:
        os.close(inbox.fd)
        os.close(inbox._wake_fd)
