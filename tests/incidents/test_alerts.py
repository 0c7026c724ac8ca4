"""Alerts: sent at once, retried, at most one a minute, signed, and without links or markup where they are shown."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import signal
import socket
import threading
import time
from email.header import decode_header
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from markdown_it import MarkdownIt

from supervisor.backoff import Backoff
from supervisor.config.parsers import SecretSource
from supervisor.config.settings import AlertSettings
from supervisor.core.incidents import ERROR, INFO, Incident
from supervisor.incidents import alerts
from supervisor.incidents.alert_formats import DISCORD, JSON, NTFY, SLACK, Alert, format_of, inert, request_of
from supervisor.secret import Secret
from tests.incidents.hook import hooking
from tests.incidents.looking import recorded
from tests.process.running import running

if TYPE_CHECKING:
    from pathlib import Path

CRASHES = ("sh", "-c", "echo the last word; sleep 0.2; exit 3")
EVIL = (
    "https://evil.example/x, www.evil.example, @everyone <@123> <!channel> [click](http://evil.example) #general "
    "mailto:a@evil.example, //evil.example, </order:1>, <t:1:R>, <:face:1>, tel:+123"
)
MARKUP = (
    *("[a](b.example)", "[a]: http://x", "![i](http://x)", "<https://x.example>", "<mailto:a@b.example>"),
    *("**bold** _it_ ~~s~~ `c`", "```\ncode\n```", "||spoiler||", ">>> q", "a\n===", "a\n---", "---", "| a |\n|---|"),
)
PLAIN = {"paragraph_open", "paragraph_close", "inline", "text", "softbreak", "strong_open", "strong_close"}
BLOCKS = ("# a heading", "  -# a small one", "- an item", "+ another", "1. the first", "> a quote", "```code")


def settings(folder: Path, url: str, **more: str) -> dict[str, str]:
    """Return the settings for a run that sends alerts."""
    slow = {"SUPERVISOR_BACKOFF_INITIAL": "10m", "SUPERVISOR_BACKOFF_MAX": "10m"}
    return {"TS_STATE_DIR": str(folder), "SUPERVISOR_ALERT_URL": url, "TS_HOSTNAME": "box", **slow, **more}


def alert(**changes: Any) -> Alert:
    """Return an alert in which every text contains links and mentions."""
    incident = Incident("i", 0.0, "crash", "moltis", ERROR, EVIL, EVIL, EVIL, EVIL, last_lines=("secret line",))
    return Alert(incident, "box", 2, with_lines=False)._replace(**changes)


def test_an_alert_is_signed_and_has_no_last_lines(tmp_path: Path) -> None:
    """ID, time and body are signed with one key, as by Standard Webhooks; the app's output is not sent."""
    secret = "a-secret-of-good-length"
    with hooking() as hook, running(*CRASHES, env=settings(tmp_path, hook.url, SUPERVISOR_ALERT_SECRET=secret)) as run:
        run.wait_for("incident")
        (told,) = hook.wait()
        assert told.json["type"] == "incident.crash"
        assert told.json["incident"]["done"].startswith("it is started again")
        assert "last_lines" not in told.json["incident"]
        assert b"the last word" not in told.body
        signed = f"{told.headers['webhook-id']}.{told.headers['webhook-timestamp']}.".encode() + told.body
        proof = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
        assert told.headers["webhook-signature"] == f"v1,{proof}"
        assert hook.url.encode() not in json.dumps(run.records).encode()


def test_last_lines_are_sent_where_they_are_asked_for(tmp_path: Path) -> None:
    """Last lines are sent with SUPERVISOR_ALERT_LINES=on."""
    with hooking() as hook, running(*CRASHES, env=settings(tmp_path, hook.url, SUPERVISOR_ALERT_LINES="on")):
        assert hook.wait()[0].json["incident"]["last_lines"] == ["the last word"]


def test_another_message_of_the_same_incident_has_an_id_of_its_own() -> None:
    """Receivers drop a repeated id: the eleventh crash within an hour is counted in the tenth's incident."""
    alike = msgspec.structs.replace(alert().incident, times=3)
    headers = [request_of(JSON, alert(incident=each), None, 0.0)[1] for each in (alert().incident, alike)]
    assert [each["webhook-id"] for each in headers] == [alike.id, f"{alike.id}-3"]


def test_an_answer_that_may_pass_is_tried_again(tmp_path: Path) -> None:
    """The alert is sent again until it is accepted, with the same id."""
    with hooking() as hook:
        hook.statuses[:] = [503, 429]
        with running(*CRASHES, env=settings(tmp_path, hook.url)):
            told = hook.wait(3)
            assert len({each.headers["webhook-id"] for each in told}) == 1


@pytest.mark.parametrize(
    ("status", "after", "after_s"),
    [
        (429, "3", 3.0),
        (503, "2.5", 2.5),
        (429, "86400", 600.0),
        (429, "-1", 0.0),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
        (403, "3", 0.0),
    ],
)
def test_how_long_a_service_asks_to_wait(status: int, after: str, after_s: float) -> None:
    """In seconds, up to ten minutes; an answer that is final asks for nothing."""
    with hooking() as hook:
        hook.statuses[:] = [status]
        hook.headers = {"Retry-After": after}
        assert alerts.post(hook.url, b"{}", {}).after_s == after_s


def test_a_service_that_asks_to_wait_is_not_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slack and Discord refuse for longer if they are."""
    monkeypatch.setattr(alerts, "RETRY", Backoff(initial_s=0.001, max_s=0.001))
    with hooking() as hook:
        hook.statuses[:] = [429]
        hook.headers = {"Retry-After": "1"}
        given = AlertSettings(SecretSource("URL", value=Secret(hook.url)), None, None, with_lines=False)
        alerts.AlertSender(given, "box", lambda _why: None).put(alert().incident)
        hook.wait()
        began_s = time.monotonic()
        hook.wait(2)
        assert time.monotonic() - began_s > 0.8


def test_what_is_waited_for_one_alert_is_limited_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others wait behind it: eight pauses of ten minutes held them up for more than an hour."""
    monkeypatch.setattr(alerts, "RETRY", Backoff(initial_s=0.001, max_s=0.001))
    monkeypatch.setattr(alerts, "_MOST_AFTER_S", 0.5)
    given_up = threading.Event()
    with hooking() as hook:
        hook.statuses[:] = [503] * alerts.TRIES
        hook.headers = {"Retry-After": "86400"}
        given = AlertSettings(SecretSource("URL", value=Secret(hook.url)), None, None, with_lines=False)
        began_s = time.monotonic()
        alerts.AlertSender(given, "box", lambda _why: given_up.set()).put(alert().incident)
        assert given_up.wait(20)
        assert len(hook.told) == alerts.TRIES
        # Of eight pauses.
        assert time.monotonic() - began_s < 6 * 0.5 + alerts._SETTLE_S


@pytest.mark.parametrize(("status", "headers"), [(403, {}), (302, {"Location": "/elsewhere"})])
def test_a_refusal_is_told_in_the_log_and_no_redirect_is_followed(
    tmp_path: Path, status: int, headers: dict[str, str]
) -> None:
    """The alert is sent once, and to no other address."""
    with hooking() as hook:
        hook.statuses[:] = [status] * 5
        hook.headers = headers
        with running(*CRASHES, env=settings(tmp_path, hook.url)) as run:
            assert run.wait_for("an alert was not sent")["why"] == f"it answered {status}"
            assert [each.path for each in hook.told] == ["/hook"]


def test_no_more_than_one_a_minute_and_the_rest_is_counted_by_the_next_run(tmp_path: Path) -> None:
    """A crash loop makes one alert; the give-up at its end is reported by the next run."""
    with hooking() as hook:
        env = settings(tmp_path, hook.url, SUPERVISOR_GIVE_UP="4/1m", SUPERVISOR_BACKOFF_INITIAL="800ms")
        with running("sh", "-c", "exit 3", env=env) as run:
            assert run.wait() == 70
        assert len(hook.told) == 1
        record = json.loads((tmp_path / "incidents" / "run.json").read_text())
        assert record["unsent"] >= 3
        # As if a minute had passed.
        (tmp_path / "incidents" / "run.json").write_text(json.dumps({**record, "alerted_s": record["alerted_s"] - 60}))
        with running("sleep", "300", env=env):
            again = hook.wait(2)[1].json
        assert again["incident"]["run"] == record["run"]
        assert again["left_out"] == record["unsent"] - 1


def test_a_clock_that_was_set_back_delays_an_alert_by_no_more_than_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last alert then seems to be in the future; the wait is still at most one interval."""
    monkeypatch.setattr(alerts, "LEAST_INTERVAL_S", 0.3)
    with hooking() as hook:
        given = AlertSettings(SecretSource("URL", value=Secret(hook.url)), None, None, with_lines=False)
        sender = alerts.AlertSender(given, "box", lambda _why: None)
        sender.go_on(time.time() + 86400, 0)
        sender.put(Incident("one", 0.0, "crash", "moltis", ERROR, "it crashed"))
        assert hook.wait()[0].headers["webhook-id"] == "one"


def test_a_silent_service_holds_nothing_up(tmp_path: Path) -> None:
    """Restarts continue, and the end of the supervisor waits only briefly."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with running(*CRASHES, env=settings(tmp_path, url, SUPERVISOR_BACKOFF_INITIAL="10ms")) as run:
            connection, _ = silent.accept()
            with connection:
                run.wait_count(3, "started", child="moltis")
                run.send(signal.SIGTERM)
                assert run.wait() == 0


def test_what_somebody_wanted_makes_no_alert(tmp_path: Path) -> None:
    """A stop in order is an incident, but no alert is sent."""
    with hooking() as hook:
        with running("sh", "-c", "echo ready; exec sleep 300", env=settings(tmp_path, hook.url)) as run:
            run.wait_for("ready")
            run.wait_for("previous run")
            assert run.stop() == 0
        assert [each["level"] for each in recorded(tmp_path, "end")] == [INFO]
        assert not hook.told


def test_formats_follow_the_host() -> None:
    """JSON is used for unknown hosts."""
    hosts = {
        "https://ntfy.sh/topic": NTFY,
        "https://ntfy.example.com/topic": NTFY,
        "https://hooks.slack.com/services/T/B/x": SLACK,
        "https://discord.com/api/webhooks/1/x": DISCORD,
        "https://canary.discord.com/api/webhooks/1/x": DISCORD,
        "https://ptb.discordapp.com/api/v10/webhooks/1/x": DISCORD,
        "https://hooks.slack-gov.com/services/T/B/x": SLACK,
        "https://slack.com.example.org/": "json",
        "https://notdiscord.com/api/webhooks/1/x": "json",
    }
    assert {url: format_of(url) for url in hosts} == hosts


def effects(text: str) -> list[str]:
    """Return the parts that some service might turn into a link or a mention."""
    return re.findall(r"\w+://\w|//\w|[a-z]:[^\s\u200b]|\w\.\w|\w@|@\w|<[@#!&/:t]|#\w", text)


def test_nothing_of_the_text_takes_effect_anywhere() -> None:
    """There is no link, mention or formatting; the text looks unchanged."""
    assert effects(EVIL)
    assert not effects(inert(EVIL)), inert(EVIL)
    assert inert(EVIL).replace("\u200b", "") == EVIL
    body, headers = request_of(NTFY, alert(), None, 0.0)
    title = decode_header(headers["Title"])[0][0].decode()
    assert not effects(body.decode()) + effects(title)
    slack = json.loads(request_of(SLACK, alert(), None, 0.0)[0])
    assert slack["blocks"][0]["text"]["type"] == "plain_text"
    assert not effects(slack["text"]) + effects(slack["blocks"][0]["text"]["text"])
    assert "<" not in slack["text"]
    assert "&lt;\u200b@" in slack["text"]
    assert slack["mrkdwn"] is False
    discord = json.loads(request_of(DISCORD, alert(), None, 0.0)[0])
    assert discord["allowed_mentions"] == {"parse": []}
    assert not effects(discord["content"])
    assert not re.search(r"(?<!\\)[\[\]()]", discord["content"])
    said = alert(with_lines=True, incident=msgspec.structs.replace(alert().incident, last_lines=BLOCKS))
    content = json.loads(request_of(DISCORD, said, None, 0.0)[0])["content"]
    assert content.count("\n\u200b") == 5
    assert not re.search(r"^\s*([#>+-]|\d+\.|`)", content, re.MULTILINE)


@pytest.mark.parametrize("text", [EVIL, *BLOCKS, *MARKUP])
def test_a_markdown_parser_finds_nothing_but_text(text: str) -> None:
    """By CommonMark, of which Discord's dialect is a part, there are only a bold title and lines of plain text."""
    incident = Incident("i", 0.0, "crash", "moltis", ERROR, text, text, text, text, last_lines=(text,))
    content = json.loads(request_of(DISCORD, alert(incident=incident, with_lines=True), None, 0.0)[0])["content"]
    blocks = MarkdownIt("commonmark").parse(content)
    kinds = {token.type for block in blocks for token in [block, *(block.children or [])]}
    assert kinds <= PLAIN
    # Escaped text is shown unchanged.
    shown = "".join(token.content for block in blocks for token in block.children or [])
    assert text.splitlines()[0].strip() in shown.replace("\u200b", "")


def test_a_long_story_is_cut_to_what_a_service_takes() -> None:
    """Discord refuses more than 2000 characters; ntfy turns more than 4096 bytes into a file."""
    long = alert(incident=Incident(id="i", at_s=0.0, kind="crash", subject="m", level=ERROR, what="w", why="x" * 9000))
    assert len(json.loads(request_of(DISCORD, long, None, 0.0)[0])["content"]) <= 2000
    assert len(request_of(NTFY, long, None, 0.0)[0]) <= 4096
    wide = alert(incident=msgspec.structs.replace(long.incident, why="漢." * 4000))
    body = request_of(NTFY, wide, None, 0.0)[0]
    assert 3900 < len(body) <= 4096
    assert body.decode().endswith("…")


def test_the_count_of_those_left_out_is_said() -> None:
    """The reader learns that there were more."""
    assert "2 more since the last alert" in alert().text
    assert "since the last alert" not in alert(left_out=0).text
