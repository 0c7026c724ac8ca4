"""Checks SUPERVISOR_SERVE_PANEL, which publishes the panel through a sidecar with a network of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from supervisor.config.diagnostics import Report
    from supervisor.config.model import TailnetSettings

_NAME = "SUPERVISOR_SERVE_PANEL"
_APPS_PORTS = (80, 443)


def check(tailnet: TailnetSettings, report: Report) -> None:
    """Find a URL that the panel cannot be published by, and say where it has no effect."""
    url = urlsplit(tailnet.serve_panel or "")
    shown = f"publish the panel by {_NAME}={tailnet.serve_panel}"
    if url.port is None or url.port in _APPS_PORTS:
        why = "it has no port" if url.port is None else f"in the tailnet, port {url.port} is the app's"
        report.problem(shown, why, "write the panel's own port, such as http://panel:8080")
    if url.path.strip("/") or url.query or url.fragment:
        report.problem(shown, "there is a path behind the port", "leave the path out")
    if tailnet.serve_config is not None:
        report.warnings.append(f"{_NAME} has no effect: TS_SERVE_CONFIG replaces it")
    elif tailnet.serve == "off":
        report.warnings.append(f"{_NAME} has no effect: SUPERVISOR_SERVE is off")
