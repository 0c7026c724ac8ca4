"""Every text of tailscaled that the program relies on: log lines, states, names in its JSON, paths, flags.

The rows come from the code's own tables if there is one; a test compares the other places with this list.
``scripts/check-tailscale`` searches for each in the source of a version.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from supervisor.config import plan, tailscale_env
from supervisor.config.settings import Prefs
from supervisor.core import retry
from supervisor.core.tailnet import Backend
from supervisor.logs import tailscaled
from supervisor.tailnet import http1, localapi, log, preferences, view, wire

if TYPE_CHECKING:
    from collections.abc import Iterator


class Form(Enum):
    """How a text occurs in the source: within a string, at a string's beginning, or as an identifier."""

    WITHIN = "within a string"
    BEGINS = "at the beginning of a string"
    NAME = "as a name"


class Relied(NamedTuple):
    """One text: its use here, and the files of the source in which it is searched for (empty: all)."""

    text: str
    purpose: str
    form: Form = Form.WITHIN
    files: str = ""


# Lines that are composed when they are written, and the parts of them that the source contains.
PIECES: dict[str, tuple[Relied, ...]] = {
    text: tuple(Relied(piece, "", form, files) for piece, form, files in pieces)
    for text, pieces in {
        "Accept": [("Accept", Form.BEGINS, "wgengine/filter/")],
        "Accept: ": [("Accept", Form.BEGINS, "wgengine/filter/"), ("%s: %s %d %s", Form.WITHIN, "wgengine/filter/")],
        "Drop": [("Drop", Form.BEGINS, "wgengine/filter/")],
        "TryLogin": [("TryLogin", Form.NAME, "control/controlclient/"), ("Received error: %v", Form.WITHIN, "")],
        "derphttp.Client.Connect: connecting to derp-": [
            ("derphttp.Client.Connect", Form.BEGINS, "derp/"),
            ("%s: connecting to derp-%d", Form.BEGINS, "derp/"),
        ],
        "derphttp.Client.Recv: connecting to derp-": [
            ("derphttp.Client.Recv", Form.BEGINS, "derp/"),
            ("%s: connecting to derp-%d", Form.BEGINS, "derp/"),
        ],
        "ipnext: work queue shutdown failed: execqueue shut down": [
            ("work queue shutdown failed: ", Form.BEGINS, "ipn/ipnlocal/"),
            ("execqueue shut down", Form.BEGINS, "util/execqueue/"),
        ],
        "localapi: [POST] /localapi/v0/ping": [("localapi: [%s] %s", Form.BEGINS, "ipn/localapi/")],
        "netcheck: report: ": [("report: ", Form.BEGINS, "net/netcheck/")],
        '[RATELIMIT] format("': [("[RATELIMIT] format(%q)", Form.BEGINS, "types/logger/")],
        "): error": [("health(warnable=%s): error: %s", Form.BEGINS, "ipn/ipnlocal/")],
    }.items()
}
# Texts of Go's library, its runtime or the kernel that tailscaled passes on.
OF_GO = frozenset(
    {
        *("panic:", "fatal error:", "dial tcp", "connection refused", "no such host", "i/o timeout"),
        *("flag provided but not defined", "invalid value ", " for flag -", "invalid boolean value ", " for -"),
        *("permission denied", "cannot assign requested address", "no such file", "read-only", "bind:", "in use"),
    }
)
# Texts of control servers, which tailscaled passes on.
OF_CONTROL = frozenset({log.UNKNOWN_DEVICE, *(sign for _, signs in retry.KINDS for sign in signs)})

_FIELDS: tuple[tuple[type[msgspec.Struct], str], ...] = (
    (wire.Node, "ipn/ipnstate/"),
    (wire.UserProfile, "tailcfg/"),
    (wire.Tailnet, "ipn/ipnstate/"),
    (wire.Status, "ipn/ipnstate/"),
    (wire.DerpNode, "tailcfg/"),
    (wire.DerpRegion, "tailcfg/"),
    (wire.DerpMap, "tailcfg/"),
    (wire.WhoisNode, "tailcfg/"),
    (wire.Whois, "client/tailscale/apitype/"),
    (wire.Ping, "ipn/ipnstate/"),
    (wire.Notify, "ipn/backend.go"),
)
# Set in requests, or read from preferences, in addition to those of `preferences.wanted`.
_PREFERENCES = ("Config", "Advertise", "AdvertiseServices", "Apply", "AutoUpdateSet", "ApplySet")
_OPTIONS = ("AuthKey", "UpdatePrefs")
_SERVE = (
    *("TCP", "Web", "Services", "Handlers", "AllowFunnel", "Foreground", "Tun", "HTTP", "HTTPS"),
    *("TCPForward", "TerminateTLS", "Proxy", "Path", "Text", "Redirect"),
)
PATHS = (
    *("status", "prefs", "start", "login-interactive", "logout", "serve-config", "cert/", "usermetrics"),
    *("derpmap", "whois", "ping"),
)
BUS = "watch-ipn-bus"
_FLAGS = ("tun", "socket", "port", "state", "statedir", "socks5-server", "outbound-http-proxy-listen")
_OUR_VARIABLES = ("TS_LOGS_DIR", "TS_PARENT_DEATH_FD", "TS_CERT_SHARE_MODE")
_FORBIDDEN_VARIABLES = ("TS_DEBUG_REGISTER",)


def relied() -> tuple[Relied, ...]:
    """Return all texts, each once for each use."""
    rows = (*_of_the_log(), *_of_troubles(), *_of_answers(), *_of_requests(), *_of_the_command())
    return tuple(dict.fromkeys(rows))


def _of_the_log() -> Iterator[Relied]:
    for topic, heads in tailscaled.TOPICS.items():
        yield from (Relied(head, f"lines about {topic}", Form.BEGINS) for head in heads)
    for row in tailscaled.NOISE:
        yield from (Relied(text, f"noise: {row.kind}") for text in (row.begins, row.holds) if text)
    yield from (Relied(text, "level: error") for text in tailscaled.FATAL)
    yield from (Relied(text, "level: info") for text in tailscaled.HARMLESS)
    yield from (Relied(text, "level: warning") for text in tailscaled.TROUBLE)
    yield from (Relied(text, "level: warning") for text in (tailscaled.HEALTH, tailscaled.HEALTH_ERROR))
    yield from (Relied(text, "level: debug") for text in tailscaled.TALKATIVE)
    yield Relied(tailscaled.LIMITED, "lines that were repeated")
    yield from (Relied(text, "login URLs that are masked") for text in ("AuthURL",))


def _of_troubles() -> Iterator[Relied]:
    yield from (Relied(text, "health: no news", files="health/") for text in view.NO_NEWS)
    yield Relied(view.LOGIN_ERROR, "health: why a login failed", files="health/")
    yield Relied(view.STORE_FAILED, "health: the state is not kept")
    yield from (Relied(text, "health: control is out of reach") for text in view.UNREACHED)
    yield from (
        Relied(text, "the log tells that control is lost") for text in (log.LOST, log.UNKNOWN_DEVICE, log.NO_NODE_KEY)
    )
    yield Relied(retry.RATE_LIMIT, "errors of a login", files="control/")
    for _, signs in retry.KINDS:
        yield from (Relied(sign, "errors of a login") for sign in signs)
    for words, _ in plan.TAILSCALED_FAILURES:
        yield from (Relied(word, "why it ended for good") for word in words)


def _of_answers() -> Iterator[Relied]:
    yield from (Relied(state.value, "a state", Form.BEGINS, "ipn/backend.go") for state in Backend)
    for kind, files in _FIELDS:
        names = [field.encode_name for field in msgspec.structs.fields(kind)]
        yield from (Relied(name, f"{kind.__name__} in an answer", Form.NAME, files) for name in names)
    yield Relied("Etag", "the tag of a serve configuration", files="ipn/localapi/")
    yield from (Relied(name, "a serve configuration", Form.NAME, "ipn/serve.go") for name in _SERVE)


def _of_requests() -> Iterator[Relied]:
    yield Relied(localapi.ROOT, "a path of the LocalAPI")
    yield Relied(http1.HOST, "the name of the LocalAPI")
    yield from (Relied(path, "a path of the LocalAPI", Form.BEGINS) for path in (*PATHS, BUS))
    yield Relied("If-Match", "the tag of a serve configuration", files="ipn/localapi/")
    wanted = preferences.wanted(Prefs._make(() for _ in Prefs._fields))
    for name in (*wanted, *_PREFERENCES):
        yield Relied(name, "a preference", Form.NAME, "ipn/prefs.go")
    yield from (Relied(name, "the options of a start", Form.NAME, "ipn/backend.go") for name in _OPTIONS)


def _of_the_command() -> Iterator[Relied]:
    yield from (Relied(flag, "a flag of tailscaled", Form.BEGINS, "cmd/tailscaled/") for flag in _FLAGS)
    yield Relied("userspace-networking", "a flag of tailscaled", files="cmd/tailscaled/")
    yield Relied("mem:", "a flag of tailscaled", files="ipn/store/")
    names = (*_OUR_VARIABLES, *_FORBIDDEN_VARIABLES, *sorted(tailscale_env.PASSTHROUGH))
    yield from (Relied(name, "a variable of tailscaled") for name in dict.fromkeys(names))
