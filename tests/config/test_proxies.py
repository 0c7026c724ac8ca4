"""Which requests go through the proxy of the environment: as with restic and tailscaled, which are written in Go."""

from __future__ import annotations

import pytest

from supervisor.config.proxies import proxy_for

PROXY = "http://proxy:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a proxy, and hosts that need none."""
    for name in ("NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", PROXY)
    monkeypatch.setenv("https_proxy", "proxy:3128")
    monkeypatch.setenv("no_proxy", "fd00::9,inside.example,ported.example:9000")


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://outside.example/bucket", PROXY),
        ("HTTPS://outside.example:9000/bucket", PROXY),
        ("http://[fd00::8]:9000/bucket", PROXY),
        ("http://[fd00::9]:9000/bucket", None),
        ("http://[fd00::9]/bucket", None),
        ("http://Inside.example:9000/bucket", None),
        ("http://ported.example:9000/bucket", None),
        ("http://ported.example:9001/bucket", PROXY),
    ],
)
def test_hosts_that_need_no_proxy(url: str, proxy: str | None) -> None:
    """They may be named with a port, and an IPv6 address is named without the brackets that it has in a URL."""
    assert proxy_for(url) == proxy


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_this_machine_itself_needs_none(host: str) -> None:
    """This holds though NO_PROXY does not name it."""
    assert proxy_for(f"http://{host}:9000/bucket") is None
