"""What is warned about in the variables and ports of Moltis, by the rules by which Moltis itself reads them."""

from __future__ import annotations

import pytest

from supervisor import moltis
from tests.config.machine import IMAGE, plan

NETWORK = "MOLTIS_TOOLS__EXEC__SANDBOX__NETWORK"
VOIDED = "ignores every such variable"


def warnings(*command: str, **environ: str) -> list[str]:
    """Return the warnings about an image with these settings."""
    return list(plan(environ, IMAGE, command=command).warnings)


def test_the_users_word_on_moltis_counts_and_is_warned_about() -> None:
    """The protection of the loopback may be switched off, but not silently."""
    made = plan({"MOLTIS_TERMINAL_DISABLED": "0", "MOLTIS_BEHIND_PROXY": "false"}, IMAGE)
    assert made.app is not None
    assert (made.app.env["MOLTIS_TERMINAL_DISABLED"], made.app.env["MOLTIS_BEHIND_PROXY"]) == ("0", "false")
    assert sum("MOLTIS_" in text for text in made.warnings) == 2


@pytest.mark.parametrize(
    ("name", "safe", "unsafe"),
    [
        (NETWORK, ("bypass", "blocked"), ("BYPASS", "Bypass", "Blocked", " bypass", "bypass ", "trusted", "none")),
        ("MOLTIS_BEHIND_PROXY", ("true", "TRUE", "1"), ("yes", " true", "on", "01")),
        ("MOLTIS_TERMINAL_DISABLED", ("true", "True", "1"), ("yes", "true ", "2")),
        ("MOLTIS_TAILSCALE", ("off", "OFF"), ("serve", "Funnel")),
    ],
)
def test_a_guard_is_read_as_moltis_reads_it(name: str, safe: tuple[str, ...], unsafe: tuple[str, ...]) -> None:
    """It ignores letter case in some; in the sandbox's network it counts, and all but two words open the proxy."""
    # See is_terminal_enabled, env_flag_enabled, TailscaleMode and SandboxConfig in its source.
    assert name in moltis.GUARDS
    for text in safe:
        assert not warnings(**{name: text}), text
    for text in unsafe:
        [told] = warnings(**{name: text})
        assert told.startswith(f"{name} is {text!r} and not {moltis.DEFAULTS[name]}")


def test_every_guard_is_tested() -> None:
    """A new one needs a row above, with the spellings that Moltis accepts."""
    assert set(moltis.GUARDS) == {NETWORK, "MOLTIS_BEHIND_PROXY", "MOLTIS_TERMINAL_DISABLED", "MOLTIS_TAILSCALE"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MOLTIS_METRICS", "1"),
        ("MOLTIS_METRICS", ""),
        ("MOLTIS_Server", "x"),
        ("MOLTIS_AUTH__DISABLED", "maybe"),
        ("MOLTIS_TOOLS__EXEC__DEFAULT_TIMEOUT_SECS", "60"),
        ("MOLTIS_SECTION_OF_A_LATER_VERSION__KEY", "1"),
        ("MOLTIS_ENV__API_KEY", "1234"),
        ("MOLTIS_UPSTREAM_PROXY", "8080"),
        ("VERCEL_TEAM_ID", "12345678"),
        ("DAYTONA_API_KEY", "12e3"),
        ("DAYTONA_TARGET", "True"),
        ("DAYTONA_TARGET", ' ["us"]'),
    ],
)
def test_what_may_void_the_guards_is_told(name: str, text: str) -> None:
    """One value of a wrong type makes Moltis drop every override of its configuration, our `bypass` among them."""
    [told] = warnings(**{name: text})
    assert told.startswith(f"{name} ")
    assert VOIDED in told
    assert "port 18791" in told
    assert 'network = "bypass"' in told


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, text) for name, text in moltis.DEFAULTS.items()),
        ("MOLTIS_NO_TLS", "1"),
        ("MOLTIS_DATA_DIR", "/data"),
        ("MOLTIS_CONFIG_DIR", "/data"),
        ("MOLTIS_PASSWORD", "12345678901234567890"),
        ("MOLTIS_TOKEN", "1"),
        ("MOLTIS_EXTERNAL_URL", "https://moltis.example"),
        ("MOLTIS_WEBAUTHN_RP_ID", "moltis.example"),
        ("MOLTIS_DEPLOY_PLATFORM", "digitalocean"),
        ("MOLTIS_PROVIDER", "openai"),
        ("MOLTIS_API_KEY", "123"),
        ("MOLTIS_ENV__API_KEY", "sk-1234"),
        ("MOLTIS_UPSTREAM_PROXY", "http://proxy:3128"),
        ("VERCEL_TOKEN", "a text"),
        ("DAYTONA_TARGET", "inf"),
        ("DAYTONA_TARGET", "[us"),
        ("VERCEL_ENV", "1"),
        ("SOMETHING__ELSE", "1"),
    ],
)
def test_what_cannot_void_them_is_not(name: str, text: str) -> None:
    """Its own variables are no overrides, and what Moltis reads as a text fits where it expects one."""
    assert not [told for told in warnings(**{name: text}) if VOIDED in told]


def test_all_that_may_void_them_is_told_at_once() -> None:
    """One warning names them in the order in which people look for them."""
    [told] = warnings(MOLTIS_B__X="1", MOLTIS_A__X="1", MOLTIS_CHAT="1")
    assert told.startswith("MOLTIS_A__X, MOLTIS_B__X and MOLTIS_CHAT go into Moltis' configuration")


@pytest.mark.parametrize(
    "name", ["MOLTIS_TOOLS", "MOLTIS_TOOLS__EXEC__SANDBOX", "MOLTIS_tools__exec__sandbox__network"]
)
def test_what_may_replace_the_network_is_told_as_that(name: str) -> None:
    """These hold it, or are another spelling of it; the last of the environment counts."""
    told = warnings(**{name: '{"network": "trusted"}'})
    assert [text for text in told if text.startswith(f"{name} may replace {NETWORK}") and "port 18791" in text]


@pytest.mark.parametrize(
    ("environ", "setting"),
    [
        ({"PORT": "18791"}, "PORT"),
        ({"PORT": "1455"}, "PORT"),
        ({"SUPERVISOR_APP_PORT": "18791"}, "SUPERVISOR_APP_PORT"),
        ({"SUPERVISOR_APP_PORT": "1455"}, "SUPERVISOR_APP_PORT"),
        ({"SUPERVISOR_EXPOSE": "public", "PORT": "18791"}, "PORT"),
        ({"SUPERVISOR_EXPOSE": "public", "SUPERVISOR_PORT": "1455"}, "SUPERVISOR_PORT"),
        ({"TS_SOCKS5_SERVER": "127.0.0.3:18791"}, "TS_SOCKS5_SERVER"),
        ({"TS_OUTBOUND_HTTP_PROXY_LISTEN": "127.0.0.2:1455"}, "TS_OUTBOUND_HTTP_PROXY_LISTEN"),
    ],
)
def test_ports_that_moltis_itself_listens_on(environ: dict[str, str], setting: str) -> None:
    """One of the two could not listen: the proxy on every address, the answer of a provider's sign-in on the app's."""
    [told] = warnings(**environ)
    assert told.startswith(f"{setting} is ")
    assert "use another port" in told
    # Where Moltis' proxy may be told apart from ours.
    assert not [text for text in warnings("another-app", **environ) if "Moltis" in text]


def test_a_port_that_does_not_meet_moltis_is_not_told() -> None:
    """The sign-in's answer is waited for at the app's address alone."""
    assert not warnings(TS_SOCKS5_SERVER="127.0.0.3:1455")
    assert not warnings(SUPERVISOR_BIND="127.0.0.1", PORT="1455")


def test_the_setup_code_of_moltis_own_tests_is_told() -> None:
    """It is chosen in advance, and stands in the platform's settings."""
    [told] = warnings(MOLTIS_E2E_SETUP_CODE="ABCDEFGH")
    assert told.startswith("MOLTIS_E2E_SETUP_CODE ")
    assert "ABCDEFGH" not in told
    assert not warnings(MOLTIS_E2E_SETUP_CODE="ABCDEFGH", SUPERVISOR_APP="off", SUPERVISOR_SERVE="off")
