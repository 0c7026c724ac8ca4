"""Publishing the panel through a sidecar with its own network."""

from __future__ import annotations

import pytest

from supervisor.config.load import Account, load
from supervisor.errors import Diagnostics

ATTACHED = {
    "SUPERVISOR_TAILSCALE": "attach",
    "TS_SOCKET": "/var/run/tailscale/tailscaled.sock",
    "SUPERVISOR_APP": "off",
    "SUPERVISOR_APP_BIND": "moltis",
    "SUPERVISOR_SERVE": "auto",
}


def read(url: str, **more: str) -> tuple[str | None, Diagnostics]:
    """Return the URL that is to be published, and the diagnostics."""
    diags = Diagnostics()
    environ = {**ATTACHED, "SUPERVISOR_SERVE_PANEL": url, **more}
    return load(environ, diags, account=Account(0, "/root")).tailnet.serve_panel, diags


def test_a_url_that_fits() -> None:
    """It has a name in the container network, and the panel's port."""
    found, diags = read("http://panel:8080")
    assert (found, diags.problems, diags.warnings) == ("http://panel:8080", [], [])


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://panel", "it has no port"),
        ("http://panel:80", "in the tailnet, port 80 is the app's"),
        ("http://panel:443/", "in the tailnet, port 443 is the app's"),
        ("http://panel:8080/x", "a path follows the port"),
    ],
)
def test_a_url_that_does_not(url: str, why: str) -> None:
    """A URL that cannot be published prevents the start."""
    _, diags = read(url)
    assert len(diags.problems) == 1
    assert why in diags.problems[0]


@pytest.mark.parametrize("more", [{"SUPERVISOR_SERVE": "off"}, {"TS_SERVE_CONFIG": "/serve.json"}])
def test_where_it_does_nothing(more: dict[str, str]) -> None:
    """Another setting then decides what is published, and a warning says so."""
    _, diags = read("http://panel:8080", **more)
    assert any("SUPERVISOR_SERVE_PANEL has no effect" in text for text in diags.warnings)
