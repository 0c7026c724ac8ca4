"""What a compose file for the official image does here, compared with docs/reference/containerboot.md.

Names and scenarios are those of cmd/containerboot in Tailscale 1.102.5.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor.config.load import Account, load
from supervisor.config.settings import BY_SPELLING
from supervisor.config.tailscale_env import refusal
from supervisor.errors import Diagnostics

PAGE = (Path(__file__).parents[2] / "docs/reference/containerboot.md").read_text()
NAMES = frozenset(
    re.findall(
        r"\w+",
        """
    TS_ACCEPT_DNS TS_AUDIENCE TS_AUTHKEY TS_AUTH_KEY TS_AUTH_ONCE TS_BOOT_TIMEOUT TS_CERT_SHARE_MODE TS_CLIENT_ID
    TS_CLIENT_SECRET TS_DEBUG_ADDR_PORT TS_DEST_IP TS_EGRESS_PROXIES_CONFIG_PATH TS_ENABLE_HEALTH_CHECK
    TS_ENABLE_METRICS TS_EXPERIMENTAL_CERT_SHARE TS_EXPERIMENTAL_DEST_DNS_NAME
    TS_EXPERIMENTAL_ENABLE_FORWARDING_OPTIMIZATIONS TS_EXPERIMENTAL_SERVICE_AUTO_ADVERTISEMENT
    TS_EXPERIMENTAL_VERSIONED_CONFIG_DIR TS_EXTRA_ARGS TS_HEALTHCHECK_ADDR_PORT TS_HOSTNAME TS_ID_TOKEN
    TS_INGRESS_PROXIES_CONFIG_PATH TS_KUBERNETES_READ_API_SERVER_ADDRESS_FROM_ENV TS_KUBE_SECRET TS_LOCAL_ADDR_PORT
    TS_OUTBOUND_HTTP_PROXY_LISTEN TS_ROUTES TS_SERVE_CONFIG TS_SOCKET TS_SOCKS5_SERVER TS_STATE_DIR
    TS_TAILNET_TARGET_FQDN TS_TAILNET_TARGET_IP TS_TAILSCALED_EXTRA_ARGS TS_TEST_FAKE_NETFILTER TS_TEST_ONLY_ROOT
    TS_USERSPACE
    """,
    )
)
# Neither settings nor refused: a warning says that they are unknown.
UNKNOWN = {"TS_CERT_SHARE_MODE", "TS_TEST_FAKE_NETFILTER", "TS_TEST_ONLY_ROOT"}
KEY = {"TS_AUTHKEY": "tskey-key"}
KERNEL = {**KEY, "TS_USERSPACE": "false"}
KUBE = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT_HTTPS": "6443"}
CONFIG_DIR = {"TS_EXPERIMENTAL_VERSIONED_CONFIG_DIR": "/etc/tailscaled/"}
LOCAL = {"TS_LOCAL_ADDR_PORT": "[::]:9002"}
EGRESS = {"TS_EGRESS_PROXIES_CONFIG_PATH": "/etc/tailscaled"}
SERVE = {"TS_SERVE_CONFIG": "/etc/tailscaled/serve-config.json"}
SCENARIOS: dict[str, dict[str, str]] = {
    "no_args": {},
    "authkey": KEY,
    "authkey_old_flag": {"TS_AUTH_KEY": "tskey-key"},
    "authkey_disk_state": {**KEY, "TS_STATE_DIR": "/tmp"},
    "routes": {**KEY, "TS_ROUTES": "1.2.3.0/24,10.20.30.0/24"},
    "empty_routes": {**KEY, "TS_ROUTES": ""},
    "routes_kernel_ipv4": {**KERNEL, "TS_ROUTES": "1.2.3.0/24,10.20.30.0/24"},
    "routes_kernel_ipv6": {**KERNEL, "TS_ROUTES": "::/64,1::/64"},
    "routes_kernel_all_families": {**KERNEL, "TS_ROUTES": "::/64,1.2.3.0/24"},
    "ingress_proxy": {**KERNEL, "TS_DEST_IP": "1.2.3.4"},
    "egress_proxy": {**KERNEL, "TS_TAILNET_TARGET_IP": "100.99.99.99"},
    "egress_proxy_fqdn_ipv6_target_on_ipv4_host": {**KERNEL, "TS_TAILNET_TARGET_FQDN": "ipv6-node.test.ts.net."},
    "authkey_once": {**KEY, "TS_AUTH_ONCE": "true"},
    "auth_key_once_extra_args_override_dns": {
        **KEY,
        "TS_AUTH_ONCE": "true",
        "TS_ACCEPT_DNS": "false",
        "TS_EXTRA_ARGS": "--accept-dns",
    },
    "kube_storage": {**KUBE, "POD_UID": "some-pod-uid"},
    "kube_disk_storage": {**KUBE, **KEY, "TS_KUBE_SECRET": "", "TS_STATE_DIR": "/tmp"},
    "kube_storage_no_patch": {**KUBE, **KEY},
    "kube_storage_auth_once": {**KUBE, "TS_AUTH_ONCE": "true"},
    "kube_storage_updates": KUBE,
    "proxies": {"TS_SOCKS5_SERVER": "localhost:1080", "TS_OUTBOUND_HTTP_PROXY_LISTEN": "localhost:8080"},
    "dns": {"TS_ACCEPT_DNS": "true"},
    "extra_args": {"TS_EXTRA_ARGS": "--widget=rotated", "TS_TAILSCALED_EXTRA_ARGS": "--experiments=widgets"},
    "extra_args_accept_routes": {"TS_EXTRA_ARGS": "--accept-routes"},
    "extra_args_accept_dns": {"TS_EXTRA_ARGS": "--accept-dns"},
    "extra_args_accept_dns_overrides_env_var": {"TS_ACCEPT_DNS": "true", "TS_EXTRA_ARGS": "--accept-dns=false"},
    "hostname": {"TS_HOSTNAME": "my-server"},
    "experimental_tailscaled_config_path": CONFIG_DIR,
    "sets_reissue_authkey_if_needs_login": {**KUBE, **CONFIG_DIR},
    "sets_reissue_authkey_if_auth_fails": {**KUBE, **CONFIG_DIR},
    "clears_reissue_authkey_on_change": {**KUBE, **CONFIG_DIR},
    "metrics_enabled": {**LOCAL, "TS_ENABLE_METRICS": "true"},
    "health_enabled": {**LOCAL, "TS_ENABLE_HEALTH_CHECK": "true"},
    "metrics_and_health_on_same_port": {**LOCAL, "TS_ENABLE_METRICS": "true", "TS_ENABLE_HEALTH_CHECK": "true"},
    "local_metrics_and_deprecated_health": {
        **LOCAL,
        "TS_ENABLE_METRICS": "true",
        "TS_HEALTHCHECK_ADDR_PORT": "[::]:9003",
    },
    "serve_config_no_kube": {**KEY, **SERVE},
    "serve_config_kube": {**KUBE, **SERVE},
    "egress_svcs_config_kube": {**KUBE, **EGRESS, **LOCAL},
    "egress_svcs_config_no_kube": {**KEY, **EGRESS},
    "serve_config_with_service_auto_advertisement": {**KEY, **SERVE},
    "kube_shutdown_during_state_write": {**KUBE, "TS_ENABLE_HEALTH_CHECK": "false"},
}


def rows(heading: str) -> dict[str, tuple[str, str]]:
    """Return the verdict and the text for each name in the table under a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    found: dict[str, tuple[str, str]] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            names, verdict, text = (cell.strip() for cell in line.strip("|").split("|"))
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", names), (verdict, text))
    return found


def problems(environ: dict[str, str]) -> list[str]:
    """Return the problems that prevent a start with these variables."""
    diags = Diagnostics()
    load(environ, diags, account=Account(0, "/root"))
    return diags.problems


def test_every_scenario_is_on_the_page() -> None:
    """The page has no other ones, and each has one of three verdicts."""
    table = rows("The scenarios of its main test")
    assert set(table) == set(SCENARIOS)
    assert {verdict for verdict, _ in table.values()} == {"same", "different", "not for us"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_starts_or_does_not_as_the_page_says(name: str) -> None:
    """If the page says exit 78, there is a problem that says what to do instead; otherwise there is none."""
    _, text = rows("The scenarios of its main test")[name]
    found = problems(SCENARIOS[name])
    assert bool(found) == ("exit 78" in text), found
    assert all("; " in problem for problem in found)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("no_args", {"accept_dns": False, "advertise_routes": (), "advertise_tags": ()}),
        ("routes", {"advertise_routes": ("1.2.3.0/24", "10.20.30.0/24")}),
        ("empty_routes", {"advertise_routes": ()}),
        ("auth_key_once_extra_args_override_dns", {"accept_dns": True}),
        ("dns", {"accept_dns": True}),
        ("extra_args_accept_routes", {"accept_routes": True}),
        ("extra_args_accept_dns", {"accept_dns": True}),
        ("extra_args_accept_dns_overrides_env_var", {"accept_dns": False}),
        ("hostname", {"hostname": "my-server"}),
    ],
)
def test_what_the_device_is_to_be(name: str, facts: dict[str, object]) -> None:
    """It is the same as what containerboot would pass to `tailscale up`."""
    prefs = load(SCENARIOS[name], Diagnostics(), account=Account(0, "/root")).tailnet.prefs
    assert {fact: getattr(prefs, fact) for fact in facts} == facts


def test_every_variable_is_on_the_page() -> None:
    """Each is a setting, or refused, or one of the few that are unknown."""
    table = rows("Its variables")
    assert not NAMES - set(table)
    known = {name for name in NAMES if name in BY_SPELLING or refusal(name, "true") or refusal(name, "false")}
    assert NAMES - known == UNKNOWN


@pytest.mark.parametrize("name", sorted(NAMES - UNKNOWN - set(BY_SPELLING)))
def test_a_variable_that_is_refused_is_so_on_the_page(name: str) -> None:
    """An empty one is accepted, and so is a switch that asks for the existing behaviour."""
    assert "xit 78" in rows("Its variables")[name][1]
    assert not problems({name: ""})
    asked = "false" if name == "TS_EXPERIMENTAL_SERVICE_AUTO_ADVERTISEMENT" else "true"
    assert len(problems({name: asked})) == 1


def test_services_may_be_asked_to_be_advertised() -> None:
    """They are advertised anyway, so this changes nothing."""
    assert not problems({"TS_EXPERIMENTAL_SERVICE_AUTO_ADVERTISEMENT": "true"})
