"""Times and numbers that the pages promise are those of the code: a test that shortens one cannot notice otherwise."""

from __future__ import annotations

import pytest

from supervisor.backup import holder, service, standby, work
from supervisor.core import backup, health, holding, process
from supervisor.logs import pipeline
from supervisor.system import sweeper
from supervisor.tailnet.serve import certificates
from supervisor.web import app, connections, events, sessions, throttle
from tests.conventions.tree import ROOT

# A page, its words with the figure, and the constant with the value that they give.
FIGURES = [
    ("api.md", "The head and the body of a request must arrive within 10 seconds each", connections.HEAD_S, 10),
    ("api.md", "The head and the body of a request must arrive within 10 seconds each", app.BODY_S, 10),
    ("api.md", "After 15 seconds without events a comment is sent", events.HEARTBEAT_S, 15),
    ("api.md", "with `figures=on`, every 5 seconds", events.FIGURES_S, 5),
    ("api.md", "is delayed by half a second", throttle.SLOW_S, 0.5),
    ("backups.md", "which it rewrites every 15 s", holding.RENEW_S, 15),
    ("backups.md", "when the counter has not changed for 60 s", holding.SILENCE_S, 60),
    ("backups.md", "within the same five seconds may both start", holder.SETTLE_S, 5),
    ("backups.md", "two minutes have passed after the take-over", work.READY_S, 120),
    ("backups.md", "a failed snapshot is tried again after 30 s", work.RETRY_S, 30),
    ("backups.md", "It looks every second, and after ten minutes every five", holder.EAGER_S, 1),
    ("backups.md", "It looks every second, and after ten minutes every five", holder.PATIENT_AFTER_S, 600),
    ("backups.md", "It looks every second, and after ten minutes every five", holder.LOOK_S, 5),
    ("backups.md", "After ten minutes in standby there is a warning", standby.LONG_S, 600),
    ("backups.md", "again each second while the stop has time", service.LAST_AGAIN_S, 1),
    ("backups.md", "three intervals", backup.STALE_INTERVALS, 3),
    ("health.md", "the first 10 s of being down", health.TAILNET_BLINK_S, 10),
    ("health.md", "a first `fail` is delayed by a minute", health.STARTUP_S, 60),
    ("logs.md", "after 60 s without any reading the oldest lines are dropped", pipeline.PATIENCE_S, 60),
    ("logs.md", "a stop waits for half a second at most", pipeline.STOP_PATIENCE_S, 0.5),
    ("processes.md", "every 500 ms until it first passes", health.EAGER_S, 0.5),
    ("processes.md", "then every 5 s, with a timeout of 2 s", health.STEADY_S, 5),
    ("processes.md", "then every 5 s, with a timeout of 2 s", health.DEADLINE_S, 2),
    ("processes.md", "After three failures in a row a process is not ready", health.MISSES, 3),
    ("processes.md", "TERM, then KILL after 2 s", sweeper.TERM_GRACE_S, 2),
    ("processes.md", "(QUIT) half a second before", process.QUIT_GRACE_S, 0.5),
    ("serve.md", "for at most 60 seconds", certificates.FETCH_S, 60),
]


@pytest.mark.parametrize(("page", "words", "constant", "value"), FIGURES)
def test_a_figure_of_a_page(page: str, words: str, constant: float, value: float) -> None:
    """Whoever changes one changes the other, and this table."""
    assert words in (ROOT / "docs/reference" / page).read_text(encoding="utf-8")
    assert constant == value


def test_a_living_holder_is_never_taken_for_a_silent_one() -> None:
    """Three renewals in a row may fail."""
    assert 4 * holding.RENEW_S <= holding.SILENCE_S


def test_a_stream_that_was_opened_with_a_replaced_token_ends_soon() -> None:
    """It is looked at as often as the streams say; a session lives half a day."""
    assert events.TOKEN_S <= 1
    assert sessions.SESSION_S == 12 * 3600
