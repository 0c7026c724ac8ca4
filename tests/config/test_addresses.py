"""One address may be written in many ways; each is treated like the plain one."""

from __future__ import annotations

import pytest

from supervisor.config.parsers import is_on_loopback
from supervisor.config.plan import Address
from supervisor.errors import plain_host
from tests.config.machine import IMAGE, Machine, plan
from tests.config.test_build import problems

OF_PEERS = ("127.0.0.1", "LOCALHOST", "::ffff:127.0.0.1", "::FFFF:7f00:1", "0:0:0:0:0:ffff:127.0.0.1")
EVERY = ("0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0", "::ffff:0:0")
PRIVATE = ("127.0.0.2", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.2")


def at(host: str, port: int) -> str:
    """Return an address as it is set."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        *((host, "localhost" if "LOCAL" in host else "127.0.0.1") for host in OF_PEERS),
        *zip(EVERY, ("0.0.0.0", "::", "::", "0.0.0.0", "0.0.0.0"), strict=True),
        ("", ""),
        ("*", "*"),
        ("Moltis.Example.", "moltis.example"),
        ("::%lo", "::"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("a:b", "a:b"),
        ("::\0", "::\0"),
    ],
)
def test_an_address_has_one_plain_form(host: str, plain: str) -> None:
    """That of IPv4 where it can be, lower case, and short; what is no address stays as it is."""
    assert plain_host(host) == plain
    assert plain_host(plain) == plain


@pytest.mark.parametrize("host", [*OF_PEERS, *EVERY, ""])
@pytest.mark.parametrize("setting", ["TS_SOCKS5_SERVER", "TS_OUTBOUND_HTTP_PROXY_LISTEN", "socks5-server"])
def test_a_proxy_that_peers_reach_is_told_however_it_is_written(setting: str, host: str) -> None:
    """tailscaled listens there in all of these spellings."""
    assert [text for text in proxy_warnings(setting, host) if "an open door" in text]


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("setting", ["TS_SOCKS5_SERVER", "socks5-server"])
def test_a_private_proxy_is_not(setting: str, host: str) -> None:
    """Peers are forwarded to 127.0.0.1 alone."""
    assert not proxy_warnings(setting, host)


@pytest.mark.parametrize("host", ["localhost.", "::%lo"])
def test_spellings_that_go_to_tailscaled_as_they_are(host: str) -> None:
    """Flags are not parsed as addresses, and Go knows more spellings."""
    assert [text for text in proxy_warnings("socks5-server", host) if "an open door" in text]


def proxy_warnings(setting: str, host: str) -> tuple[str, ...]:
    """Return the warnings about a proxy there."""
    text = at(host, 1055)
    given = {"TS_TAILSCALED_EXTRA_ARGS": f"--{setting}={text}"} if setting.islower() else {setting: text}
    return plan(given, IMAGE).warnings


@pytest.mark.parametrize("host", [*OF_PEERS[2:], *EVERY])
def test_an_app_that_peers_reach_is_told_however_it_is_written(host: str) -> None:
    """They would bypass serve."""
    assert [text for text in plan({"SUPERVISOR_APP_BIND": host}, IMAGE).warnings if "bypassing serve" in text]


@pytest.mark.parametrize("host", [*OF_PEERS[2:], *EVERY])
def test_a_panel_that_peers_reach_is_not_said_to_be_out_of_reach(host: str) -> None:
    """`check` said so of `::ffff:127.0.0.1`, where they reach it."""
    assert not [text for text in plan({"SUPERVISOR_BIND": host}, IMAGE).warnings if "no peer" in text]


@pytest.mark.parametrize("host", ["::ffff:127.0.0.2", "0:0:0:0:0:0:0:1"])
def test_an_app_that_no_one_reaches_is_told_however_it_is_written(host: str) -> None:
    """It is on a loopback address, and there is no tailnet."""
    made = plan({"SUPERVISOR_APP_BIND": host, "SUPERVISOR_TAILSCALE": "off"}, IMAGE)
    assert [text for text in made.warnings if "no one can reach the app" in text]


@pytest.mark.parametrize("host", ["::1:2", "::1234"])
def test_an_address_that_begins_like_the_loopback_is_another(host: str) -> None:
    """`::1` is one address, not a prefix."""
    made = plan({"SUPERVISOR_APP_BIND": host, "SUPERVISOR_TAILSCALE": "off"}, IMAGE)
    assert not [text for text in made.warnings if "no one can reach the app" in text]


@pytest.mark.parametrize("host", ["127.0.0.2", "::ffff:127.0.0.2", *EVERY])
def test_a_proxy_at_the_apps_address_is_told_however_it_is_written(host: str) -> None:
    """tailscaled would fail for ever."""
    [problem] = problems({"TS_SOCKS5_SERVER": at(host, 13131)}, IMAGE)
    assert "SUPERVISOR_APP_PORT is 13131 as well" in problem


def test_a_proxy_at_localhost_meets_the_panel_at_127_0_0_1() -> None:
    """tailscaled resolves the name to that address."""
    [problem] = problems({"TS_SOCKS5_SERVER": "LocalHost:8080", "SUPERVISOR_BIND": "127.0.0.1"}, IMAGE)
    assert "PORT is 8080 as well" in problem


def test_what_is_listened_on_is_the_plain_address() -> None:
    """The kernel reports that one, the app gets it as HOST, and a program inside connects to it."""
    made = plan({"SUPERVISOR_APP_BIND": "::ffff:127.0.0.2", "SUPERVISOR_BIND": "0:0:0:0:0:0:0:0"}, IMAGE)
    assert (made.listen, made.app_address) == (("::", 8080), ("127.0.0.2", 13131))
    assert made.listen.local == Address("::1", 8080)
    assert made.app is not None
    assert made.app.env["HOST"] == "127.0.0.2"
    assert made.serve_target == "http://127.0.0.2:13131"


def test_a_machine_without_ipv6_may_be_given_an_ipv4_address_in_its_form() -> None:
    """It is an address of IPv4."""
    only_ipv4 = Machine(users=IMAGE._users, addresses=("127.0.0.1", "127.0.0.2"))
    assert plan({"SUPERVISOR_BIND": "::ffff:127.0.0.1"}, only_ipv4).listen == ("127.0.0.1", 8080)


@pytest.mark.parametrize(
    ("url", "is_own"),
    [
        ("http://[::ffff:127.0.0.1]:8080/", True),
        ("http://[0:0:0:0:0:0:0:1]", True),
        ("http://127.255.0.1?x", True),
        ("http://LOCALHOST", True),
        ("http://127.0.0.1.example", False),
        ("http://localhost.example:80", False),
        ("http://localhost@example", False),
        ("http://[::1]@example/", False),
        ("http://[::1].example/", False),
        ("http://[::2]/", False),
        ("ftp://127.0.0.1", False),
    ],
)
def test_a_url_of_this_machine_itself(url: str, is_own: bool) -> None:  # noqa: FBT001 - a column
    """Secrets may go there unencrypted, and no proxy is asked for it."""
    assert is_on_loopback(url) is is_own
