"""Checks the way the node is to log in: one way of them, and an OAuth client's secret that can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config import oauth
from supervisor.config.parsers import UnfitError
from supervisor.errors import ConfigError

if TYPE_CHECKING:
    from supervisor.config.diagnostics import Report
    from supervisor.config.model import TailnetSettings
    from supervisor.config.secrets import SecretSource

_AUTH_KEY = "tskey-auth-"
_LOOPBACK = ("127.", "[::1]", "localhost")


def check(tailnet: TailnetSettings, report: Report) -> None:
    """Put what keeps the node from logging in into the report."""
    if tailnet.auth_key is not None and (tailnet.client_id is not None or tailnet.client_secret is not None):
        why = "TS_CLIENT_ID or TS_CLIENT_SECRET says otherwise how to log in"
        report.problem("use TS_AUTHKEY", why, "leave one way of them")
    if tailnet.client_id is not None and tailnet.client_secret is None:
        why = "TS_CLIENT_SECRET is not set, and workload identity is not supported"
        report.problem("use TS_CLIENT_ID", why, "set TS_CLIENT_SECRET, or use TS_AUTHKEY")
    source = tailnet.client_secret or tailnet.auth_key
    text = _text(source)
    if tailnet.client_secret is None and not oauth.is_client_secret(text):
        return
    if source is not None and text:
        _check_text(source.name, text, tailnet.api_url, report)
    if not tailnet.prefs.tags:
        report.problem(
            "use the OAuth client secret",
            "its keys are for tagged devices only, and no tag is set",
            "set TS_TAGS to tags of that client, such as TS_TAGS=tag:moltis",
        )


def _text(source: SecretSource | None) -> str:
    """Return what the setting holds; nothing where it cannot be read, which was said when it was read first."""
    try:
        return source.read().reveal() if source is not None else ""
    except ConfigError:
        return ""


def _check_text(name: str, text: str, api_url: str, report: Report) -> None:
    if text.startswith(_AUTH_KEY):
        report.problem(f"use {name}", "it is an auth key, not the secret of an OAuth client", "use TS_AUTHKEY")
        return
    try:
        api_url = oauth.parse(text).api_url or api_url
    except UnfitError as error:
        report.problem(f"use {name}", str(error), f"write {oauth.FORM}")
        return
    scheme, _, rest = api_url.lower().partition("://")
    if scheme == "http" and not rest.startswith(_LOOPBACK):
        host = rest.partition("/")[0]
        report.warnings.append(f"the OAuth client secret goes to {host} unencrypted; use https")
