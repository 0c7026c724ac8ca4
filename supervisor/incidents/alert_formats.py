"""The body and headers of an alert for each service. Links and mentions in an incident's text are neutralized."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from supervisor.core.causes import without_output
from supervisor.core.incidents import ERROR
from supervisor.incidents.incident_files import story_of
from supervisor.logs.format import stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.incidents import Incident
    from supervisor.secret import Secret

JSON, NTFY, SLACK, DISCORD = "json", "ntfy", "slack", "discord"
# ntfy turns a message of more than 4,096 bytes into a file, or refuses it; Discord refuses 2,000 characters.
_NTFY_BYTES = 4000
_MOST_CHARACTERS = {NTFY: 3500, SLACK: 3500, DISCORD: 1900}
_SUPPRESS_EMBEDS = 4
_ZERO_WIDTH = "\u200b"
# What services turn into links or mentions: URLs, host and account names, and text after an @ or an opening bracket.
_LINKS = re.compile(r"(?<=[\w\]])\.(?=\w)|(?<=[A-Za-z]):(?=\S)|/(?=/)|(?<=\S)(?=@)|(?<=[@<#&!])(?=\S)")
_MARKDOWN = re.compile(r"([\\*_~`|>\[\]()])")
# What makes a heading or a list at the beginning of a line.
_BLOCK = re.compile(r"^(?=[ \t]*(?:[#+=-]|\d+[.)]))", re.MULTILINE)
_SIGNED = "v1"
_PREFIX = "whsec_"
_SLACK_HOSTS = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})
# Its other clients show their own hosts, such as canary.discord.com.
_DISCORD_HOSTS = (".discord.com", ".discordapp.com")


class Alert(NamedTuple):
    """The content of an alert: an incident, the container's name, and how many were left out since the last one.

    It contains output of a process only if ``with_lines`` is true.
    """

    incident: Incident
    name: str
    left_out: int
    with_lines: bool

    @property
    def told(self) -> Incident:
        """Return the incident, reduced to what may be sent."""
        if self.with_lines:
            return self.incident
        return msgspec.structs.replace(self.incident, cause=without_output(self.incident.cause), last_lines=())

    @property
    def title(self) -> str:
        """Return a short title."""
        return f"{self.name}: {self.incident.what}"

    @property
    def text(self) -> str:
        """Return the incident as a few lines of text."""
        told = self.told
        facts = {"when": stamp(told.at_s), "why": told.why, "likely cause": told.cause, "done": told.done}
        lines = [f"{name}: {text}" for name, text in facts.items() if text]
        if self.left_out:
            lines.append(f"{self.left_out} more since the last alert: see the panel, or `moltis-supervisor logs`")
        if told.last_lines:
            lines += ["last lines:", *told.last_lines]
        return "\n".join(lines)


def format_of(url: str) -> str:
    """Return the alert format for a URL's host."""
    host = urlsplit(url).hostname or ""
    if host == "ntfy.sh" or host.startswith("ntfy."):
        return NTFY
    if host in _SLACK_HOSTS:
        return SLACK
    return DISCORD if f".{host}".endswith(_DISCORD_HOSTS) else JSON


def request_of(kind: str, alert: Alert, secret: Secret | None, now_s: float) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of an alert."""
    if kind == NTFY:
        return _ntfy(alert)
    if kind == SLACK:
        return _encoded(_slack(alert))
    if kind == DISCORD:
        return _encoded(_discord(alert))
    return _json(alert, secret, now_s)


def inert(text: str) -> str:
    """Return text that looks the same, in which no service recognizes a link or a mention."""
    return _LINKS.sub(lambda found: found[0] + _ZERO_WIDTH, text)


def _cut(text: str, kind: str) -> str:
    most = _MOST_CHARACTERS[kind]
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _encoded(body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    return msgspec.json.encode(body), {"Content-Type": "application/json"}


def _ntfy(alert: Alert) -> tuple[bytes, dict[str, str]]:
    is_bad = alert.incident.level == ERROR
    title = base64.b64encode(inert(alert.title).encode()).decode()
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Title": f"=?UTF-8?B?{title}?=",
        "Priority": "high" if is_bad else "default",
        "Tags": "rotating_light" if is_bad else "warning",
    }
    body = _cut(inert(alert.text), NTFY).encode()
    if len(body) > _NTFY_BYTES:
        body = f"{body[:_NTFY_BYTES].decode(errors='ignore')}…".encode()
    return body, headers


def _slack(alert: Alert) -> dict[str, Any]:
    """Plain text without formatting; notifications show the text outside of the blocks."""

    def escaped(text: str) -> str:
        return inert(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    said = _cut(f"{alert.title}\n{alert.text}", SLACK)
    return {
        "text": escaped(alert.title),
        "blocks": [{"type": "section", "text": {"type": "plain_text", "emoji": False, "text": inert(said)[:3000]}}],
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _discord(alert: Alert) -> dict[str, Any]:
    def escaped(text: str) -> str:
        return _BLOCK.sub(_ZERO_WIDTH, inert(_MARKDOWN.sub(r"\\\1", text)))

    text = _cut(f"**{escaped(alert.title)}**\n{escaped(alert.text)}", DISCORD)
    return {"content": text, "allowed_mentions": {"parse": []}, "flags": _SUPPRESS_EMBEDS}


def _json(alert: Alert, secret: Secret | None, now_s: float) -> tuple[bytes, dict[str, str]]:
    """Sign as Standard Webhooks 1.0 specifies, so that its libraries can verify the sender and the time."""
    told = alert.told
    body, headers = _encoded(
        {
            "type": f"incident.{told.kind}",
            "name": alert.name,
            "text": f"{alert.title}\n{alert.text}",
            "left_out": alert.left_out,
            "incident": story_of(told),
        }
    )
    # Receivers drop a second message with the same id: one that counts similar incidents is another message.
    name = told.id if told.times == 1 else f"{told.id}-{told.times}"
    signed = {"webhook-id": name, "webhook-timestamp": str(int(now_s))}
    if secret is not None:
        signed["webhook-signature"] = f"{_SIGNED},{_signature(secret, signed, body)}"
    return body, headers | signed


def _signature(secret: Secret, signed: Mapping[str, str], body: bytes) -> str:
    text = secret.reveal()
    key = text.encode()
    if text.startswith(_PREFIX):
        try:
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except ValueError:
            key = text.encode()
    message = ".".join(signed.values()).encode() + b"." + body
    return base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
