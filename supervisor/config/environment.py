"""What each child finds in its environment: only what is its own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.config.tailscale_env import OURS, is_knob
from supervisor.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.config.diagnostics import Report
    from supervisor.config.model import Settings
    from supervisor.config.plan import Address
    from supervisor.core.process import User

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWORD = "MOLTIS_PASSWORD"  # noqa: S105 - the name of one
TAILSCALED_MEMORY = "96MiB"
_COMMON = (
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    *(name for word in ("http_proxy", "https_proxy", "no_proxy", "all_proxy") for name in (word.upper(), word)),
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
# What Moltis is told unless the user told it something, and what a user gives up who says otherwise.
MOLTIS_DEFAULTS = {
    "MOLTIS_BEHIND_PROXY": "true",
    "MOLTIS_NO_TLS": "true",
    "MOLTIS_TAILSCALE": "off",
    "MOLTIS_TOOLS__EXEC__SANDBOX__NETWORK": "bypass",
    "MOLTIS_TERMINAL_DISABLED": "1",
}
_GUARDS: dict[str, tuple[frozenset[str], str]] = {
    "MOLTIS_BEHIND_PROXY": (
        frozenset({"true", "1"}),
        "a tailnet peer that reaches Moltis on 127.0.0.1 may then pass for a local user",
    ),
    "MOLTIS_TAILSCALE": (
        frozenset({"off"}),
        "Moltis then changes the serve configuration, which the supervisor looks after",
    ),
    "MOLTIS_TOOLS__EXEC__SANDBOX__NETWORK": (
        frozenset({"bypass", "blocked"}),
        "Moltis then opens a forward proxy on port 18791, through which tailnet peers reach everything in here",
    ),
    "MOLTIS_TERMINAL_DISABLED": (
        frozenset({"true", "1"}),
        "whoever signs in to Moltis then has a shell in the container",
    ),
}


def common(environ: Mapping[str, str], home: str, user: User | None) -> dict[str, str]:
    """Return what every child gets."""
    env = {name: environ[name] for name in _COMMON if environ.get(name)}
    env.setdefault("PATH", DEFAULT_PATH)
    env["HOME"] = user.home if user else home
    return env


def for_tailscaled(
    settings: Settings, environ: Mapping[str, str], home: str, user: User | None, *, certificates: bool
) -> dict[str, str]:
    """Return tailscaled's: its knobs, and never PORT (it would become its UDP port) or a key.

    ``certificates`` says whether it may fetch any: tailscaled 1.102 does so by itself for whatever is served, plain
    HTTP too.
    """
    knobs = {name: text for name, text in settings.tailnet.knobs.items() if is_knob(name)}
    return {
        **({} if certificates else {"TS_CERT_SHARE_MODE": "ro"}),
        **common(environ, home, user),
        "GOMEMLIMIT": environ.get("GOMEMLIMIT") or TAILSCALED_MEMORY,
        "TS_LOGS_DIR": settings.tailnet.state_dir,
        **knobs,
    }


def for_app(
    settings: Settings, environ: Mapping[str, str], home: str, user: User | None, address: Address
) -> dict[str, str]:
    """Return the app's: all of ours but what is the supervisor's, tailscaled's or the platform's port."""
    env = {name: text for name, text in environ.items() if not name.startswith(OURS)}
    env.setdefault("PATH", DEFAULT_PATH)
    env["HOME"] = home
    if user is not None:
        env |= {"HOME": user.home, "USER": user.name, "LOGNAME": user.name}
    for name, text in MOLTIS_DEFAULTS.items():
        if not env.get(name):
            env[name] = text
    env.pop(f"{_PASSWORD}_FILE", None)
    password = settings.app.password
    if password is not None and (password.path is not None or not env.get(_PASSWORD)):
        # One that cannot be read is among the problems already.
        with suppress(ConfigError):
            env[_PASSWORD] = password.read().reveal()
    return env | {"HOST": address.host, "PORT": str(address.port)}


def warn_of_open_guards(environ: Mapping[str, str], report: Report) -> None:
    """Tell where a user switched off something that keeps the loopback address safe."""
    for name, (safe, danger) in _GUARDS.items():
        text = environ.get(name)
        if text and text.lower() not in safe:
            report.warnings.append(f"{name} is not {MOLTIS_DEFAULTS[name]}: {danger}")
