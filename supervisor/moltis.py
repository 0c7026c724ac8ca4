"""The facts about Moltis that the supervisor relies on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = "moltis"
# Its public URL, for passkeys and links; the user may set only the passkeys' host instead.
EXTERNAL_URL = "MOLTIS_EXTERNAL_URL"
PASSKEY_HOST = "MOLTIS_WEBAUTHN_RP_ID"
# The file in the state folder with the URL at which the app was last published by HTTPS.
EXTERNAL_URL_FILE = "external-url"
PASSWORD = "MOLTIS_PASSWORD"  # noqa: S105 - the name of one
# Moltis keeps that password only while its set-up is incomplete, and then makes this folder in its data folder. Given
# later, it still lets in WebSocket clients, whatever its owner has set since, and is passed on to what its tools start.
SET_UP_FOLDER = "agents/main"
# It answers without a login.
SET_UP_STATUS = "/api/auth/status"
NETWORK = "MOLTIS_TOOLS__EXEC__SANDBOX__NETWORK"
# Set for Moltis unless the user sets it.
DEFAULTS = {
    "MOLTIS_BEHIND_PROXY": "true",
    "MOLTIS_NO_TLS": "true",
    "MOLTIS_TAILSCALE": "off",
    NETWORK: "bypass",
    "MOLTIS_TERMINAL_DISABLED": "1",
}


class Guard(NamedTuple):
    """The safe values of a setting, and the effect of any other; Moltis may ignore the case of letters in them."""

    safe: tuple[str, ...]
    danger: str
    ignores_case: bool = True


# Its forward proxy: it accepts everyone, and connects to any address, including the loopback.
OPEN_PROXY_PORT = 18791
OPENS_PROXY = f"opens a forward proxy on port {OPEN_PROXY_PORT}, through which tailnet peers reach everything in here"
GUARDS = {
    "MOLTIS_BEHIND_PROXY": Guard(("true", "1"), "a tailnet peer that reaches 127.0.0.1 may then pass for a local user"),
    "MOLTIS_TAILSCALE": Guard(("off",), "Moltis then changes the serve configuration, which the supervisor manages"),
    NETWORK: Guard(("bypass", "blocked"), f"Moltis then {OPENS_PROXY}", ignores_case=False),
    "MOLTIS_TERMINAL_DISABLED": Guard(
        ("true", "1"), "everyone who signs in to Moltis then has a shell in the container"
    ),
}
PREFIX = "MOLTIS_"
# Every other variable with its prefix is written into its configuration, at the path of its name: __ leads from a
# section to a key. Moltis ignores paths that it does not know.
NO_OVERRIDES = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("ASSETS_DIR", "CONFIG_DIR", "DATA_DIR", "EXTERNAL_URL", "PASSWORD", "SHARE_DIR", "TAILSCALE", "TOKEN"),
        *("WEBAUTHN_ORIGIN", "WEBAUTHN_RP_ID"),
    )
)
STEP = "__"
SECTIONS = frozenset(
    (
        *("agents", "auth", "auxiliary", "caldav", "channels", "chat", "cloudflare_tunnel", "code_index", "cron"),
        *("env", "external_agents", "failover", "graphql", "heartbeat", "home_assistant", "hooks", "identity"),
        *("instrumentation", "mcp", "memory", "metrics", "models", "modes", "netbird", "ngrok", "phone", "providers"),
        *("server", "skills", "tailscale", "tls", "tools", "user", "voice", "webhooks"),
    )
)
# Those of other programs that it takes into its configuration, as texts.
TEXT_OVERRIDES = frozenset(
    (
        *("DAYTONA_API_KEY", "DAYTONA_API_URL", "DAYTONA_TARGET", "VERCEL_OIDC_TOKEN", "VERCEL_PROJECT_ID"),
        *("VERCEL_TEAM_ID", "VERCEL_TOKEN", f"{PREFIX}UPSTREAM_PROXY"),
    )
)
TEXT_SECTION = f"{PREFIX}ENV{STEP}"
# For its own tests: the setup code, instead of a random one.
FIXED_SETUP_CODE = "MOLTIS_E2E_SETUP_CODE"
# Where it waits, at the address of the app, for a browser that comes back from a model provider's sign-in.
SIGN_IN_PORT = 1455
# Its folders below its user's home, by the setting that moves each.
CONFIG_FOLDER = ("MOLTIS_CONFIG_DIR", ".config/moltis")
DATA_FOLDER = ("MOLTIS_DATA_DIR", ".moltis")
DATA_FLAG = "--data-dir"
# Files of its config folder: providers in the first two, models that run here in the last.
CONFIG_FILE, PROVIDER_KEYS_FILE, LOCAL_MODELS_FILE = "moltis.toml", "provider_keys.json", "local-llm.json"
LOCAL_PROVIDERS = ("local-llm", "local")
# Where each provider is asked unless its base_url says otherwise.
PROVIDER_HOSTS = {
    "anthropic": "api.anthropic.com",
    "cerebras": "api.cerebras.ai",
    "deepinfra": "api.deepinfra.com",
    "deepseek": "api.deepseek.com",
    "fireworks": "api.fireworks.ai",
    "gemini": "generativelanguage.googleapis.com",
    "github-copilot": "api.githubcopilot.com",
    "groq": "api.groq.com",
    "mistral": "api.mistral.ai",
    "moonshot": "api.moonshot.ai",
    "openai": "api.openai.com",
    "openrouter": "openrouter.ai",
    "venice": "api.venice.ai",
    "xai": "api.x.ai",
    "zai": "api.z.ai",
}
CLOSE_PROXY = f"set {NETWORK}=bypass; if it is set, Moltis ignores it because of another {PREFIX} variable: see `check`"
# The buckets of its own histograms, so that one dashboard reads both.
DURATION_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# The setup code in its banner, and as a log field.
SETUP_CODE_HINTS = (b"set", b"up", b"code")
SETUP_CODE = rb"""(?i)(\bset-?up[ _-]?code["']?\s*(?:[:=]|is\b)\s*["']?)([A-Za-z0-9][A-Za-z0-9-]{3,63})"""


def folders(environ: Mapping[str, str], home: str) -> dict[str, str]:
    """Return the names of its config and data folders."""
    named = (("config", CONFIG_FOLDER), ("data", DATA_FOLDER))
    return {key: os.path.normpath(environ.get(name) or f"{home}/{below}") for key, (name, below) in named}


def data_folder(argv: Sequence[str], environ: Mapping[str, str], home: str) -> str:
    """Return the name of its data folder, which a flag of its command may move too."""
    words = [*argv, ""]
    for index, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if flag == DATA_FLAG:
            return value if equals else words[index + 1]
    return folders(environ, home)["data"]
