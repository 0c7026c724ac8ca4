"""Which TS_ and SUPERVISOR_ names mean something: settings, refused ones, tailscaled's own knobs, and slips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config.diagnostics import Report, nearest
from supervisor.config.table import BY_SPELLING

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = ("TS_", "SUPERVISOR_")
KNOB_PREFIXES = ("TS_DEBUG_", "TS_DISABLE_", "TS_NO_", "TS_LOG_")
# What tailscaled reads beside those; TS_BE_CLI, TS_PERMIT_CERT_UID and the like are left out on purpose.
KNOBS = frozenset(
    {
        "TS_BIND_TO_INTERFACE_BY_ROUTE",
        "TS_DERP_DISABLE_RTT_STATS",
        "TS_DISCO_PONG_IPV4_DELAY",
        "TS_DNS_FORWARD_SKIP_TCP_RETRY",
        "TS_FORCE_LINUX_BIND_TO_DEVICE",
        "TS_FORCE_NOISE_443",
        "TS_LOGS_DIR",
        "TS_NETSTACK_KEEPALIVE_IDLE",
        "TS_NETSTACK_KEEPALIVE_INTERVAL",
        "TS_PANIC_IF_HIT_MAIN_CONTROL",
        "TS_PLEASE_PANIC",
        "TS_PORTLIST",
        "TS_USE_CACHED_NETMAP",
        "TS_USE_CONTROL_DIAL_PLAN",
    }
)

_KERNEL = "it needs kernel networking, and here tailscaled runs in user space"
_OWN_HEALTH = "the supervisor answers on its own port"
_KUBERNETES = "it belongs to Tailscale's Kubernetes operator"
_IDENTITY = "workload identity is not supported"
_USE_KEY = "use TS_AUTHKEY, or TS_CLIENT_SECRET with TS_TAGS"
_USE_ROUTES = "remove it; to offer a network use TS_ROUTES, to publish the app SUPERVISOR_SERVE"

# Name, or prefix where it ends with *: why not, and what instead. The first that fits counts.
REFUSED: tuple[tuple[str, str, str], ...] = (
    ("TS_DEBUG_REGISTER", "it makes tailscaled print the auth key", "remove it"),
    ("TS_DEBUG_ADDR_PORT", "tailscaled's debug server is open to every tailnet peer", "remove it; use /metrics"),
    ("TS_PARENT_DEATH_FD", "the supervisor sets it", "remove it"),
    ("TS_DEST_IP", _KERNEL, _USE_ROUTES),
    ("TS_EXPERIMENTAL_DEST_DNS_NAME", _KERNEL, _USE_ROUTES),
    ("TS_TAILNET_TARGET_*", _KERNEL, "remove it; to reach the tailnet use TS_SOCKS5_SERVER"),
    ("TS_KUBE_SECRET", "the state is kept in a folder", "set it to nothing, and TS_STATE_DIR to a volume"),
    ("TS_KUBERNETES_*", _KUBERNETES, "remove it"),
    ("TS_EGRESS_*", _KUBERNETES, "remove it"),
    ("TS_INGRESS_*", _KUBERNETES, "remove it"),
    ("TS_ID_TOKEN", _IDENTITY, _USE_KEY),
    ("TS_AUDIENCE", _IDENTITY, _USE_KEY),
    ("TS_LOCAL_ADDR_PORT", _OWN_HEALTH, "remove it; use PORT or SUPERVISOR_PORT, with /health and /metrics"),
    ("TS_HEALTHCHECK_ADDR_PORT", _OWN_HEALTH, "remove it; ask /health on PORT"),
    ("TS_ENABLE_HEALTH_CHECK", _OWN_HEALTH, "remove it; ask /health on PORT"),
    ("TS_ENABLE_METRICS", _OWN_HEALTH, "remove it; ask /metrics on PORT, with the token"),
    ("TS_ENABLE_*", "nothing is switched on that way here", "remove it"),
    (
        "TS_BOOT_TIMEOUT",
        "a login may take as long as it takes, and nothing ends for it",
        "remove it; SUPERVISOR_TAILNET_GRACE says when health fails",
    ),
    (
        "TS_EXPERIMENTAL_VERSIONED_CONFIG_DIR",
        "tailscaled's configuration file would lock the settings that the supervisor makes",
        "remove it; use TS_HOSTNAME, TS_TAGS, TS_ROUTES and TS_EXTRA_ARGS",
    ),
    (
        "TS_EXPERIMENTAL_SERVICE_AUTO_ADVERTISEMENT",
        "the services in TS_SERVE_CONFIG are always advertised",
        "remove it, or take them out of that file",
    ),
    ("TS_EXPERIMENTAL_*", "experiments of the official image are not supported", "remove it"),
)
# Said as "no", these ask for nothing that is not so already; and the last one, said as "yes".
_SWITCHES = ("TS_ENABLE_", "TS_EXPERIMENTAL_")
_NO = frozenset({"0", "f", "false", "no", "off"})
_ON_ALREADY = "TS_EXPERIMENTAL_SERVICE_AUTO_ADVERTISEMENT"


def refusal(name: str, text: str) -> tuple[str, str] | None:
    """Return why a name cannot be honoured and what to use instead; None where it can, or asks for nothing."""
    asks = (text.strip().lower() in _NO) == (name == _ON_ALREADY)
    if not text or (name.startswith(_SWITCHES) and not asks):
        return None
    for pattern, why, remedy in REFUSED:
        if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            return why, remedy
    return None


def is_knob(name: str) -> bool:
    """Tell whether a name is tailscaled's own business."""
    return name in KNOBS or name.startswith(KNOB_PREFIXES)


def sort_out(given: Mapping[str, str], where: str, report: Report) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings and tailscaled's knobs among what was given; tell about the rest that looks like ours."""
    settings: dict[str, str] = {}
    knobs: dict[str, str] = {}
    for name, text in given.items():
        if name in BY_SPELLING:
            settings[name] = text
        elif name.startswith(OURS):
            refused = refusal(name, text)
            if refused:
                report.problem(f"honour {name}{where}", *refused)
            elif is_knob(name) and name != "TS_PARENT_DEATH_FD":
                knobs[name] = text
            elif text and not name.startswith(_SWITCHES):
                report.warnings.append(f"{name}{where} is not known and has no effect{nearest(name, BY_SPELLING)}")
    return settings, knobs
