"""The desired serve configuration: what the settings publish, or the owner's file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from supervisor.config.tailscale_env import MOST_SERVE_BYTES
from supervisor.runtime.loop_latency import TimedReader
from supervisor.system import dirs
from supervisor.tailnet.serve.diff import Entries, Path, Wish, endpoint, entries, handling, is_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor.tailnet.serve.certificates import Certificate
    from supervisor.tailnet.wire import Json


PORTS = {"http": "80", "https": "443"}
_NOT_AT_START = (
    "TS_SERVE_CONFIG asks for HTTPS, which it did not at the start: tailscaled may fetch none, as a certificate "
    "would be lost with this container; restart the supervisor, or mount a volume at TS_STATE_DIR"
)
_NO_CERTIFICATES = "the tailnet issues no certificates; enable HTTPS on the DNS page of the admin console"
_NOT_KEPT = "TS_STATE_DIR is not a volume of its own, and there are no backups"
_KEEP = "mount a volume there, or set SUPERVISOR_BACKUP_REPOSITORY"


class Wanted(NamedTuple):
    """The desired configuration with related messages.

    ``wish`` is None if it is unknown, and nothing is changed then. ``certificate`` is the name that needs one, empty
    without HTTPS. ``whys`` are warnings, ``notes`` are notes.
    """

    wish: Wish | None
    certificate: str = ""
    whys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def nothing() -> Wanted:
    """Return the wish to publish nothing."""
    return Wanted(Wish({}))


def unknown(whys: tuple[str, ...]) -> Wanted:
    """Return an unknown wish, so that nothing is changed."""
    return Wanted(None, whys=whys)


def nameless() -> Wanted:
    """Return an unknown wish for a device without a name to publish under."""
    return unknown(("nothing is published: the device has no name in the tailnet yet",))


def certificate_name(mode: str, name: str, domains: tuple[str, ...], *, lasting: bool) -> str:
    """Return the name that needs a certificate; empty if none does."""
    if name not in domains or mode not in {"https", "auto"}:
        return ""
    return name if mode == "https" or lasting else ""


def of_app(
    mode: str, target: str, name: str, domains: tuple[str, ...], certificate: Certificate | None, *, lasting: bool
) -> Wanted:
    """Return the wish to publish the app at ``target``.

    ``certificate`` is the state of the certificate for this name, None if none is wanted.
    """
    if not name:
        return nameless()
    schemes = {"http": ("http",), "https": ("https",), "auto": ("http", "https")}[mode]
    wished: Entries = {}
    if "http" in schemes:
        wished |= _web("http", name, target)
    notes = _notes(mode, domains, lasting=lasting)
    if certificate is None:
        whys = (f"nothing is published: {_NO_CERTIFICATES}, or set SUPERVISOR_SERVE=auto",) if mode == "https" else ()
        return Wanted(Wish(wished), "", whys, notes)
    secure = _web("https", name, target)
    instead = "HTTP stays" if mode == "auto" else "the app is not published"
    if certificate.there:
        return Wanted(Wish(wished | secure), name, (), notes)
    if certificate.why:
        why = f"no HTTPS, {instead}: cannot get a certificate for {name}: {certificate.why}; {certificate.what_to_do}"
        return Wanted(Wish(wished), name, (why,), notes)
    waits = (f"the app is published as soon as the certificate for {name} is there",) if mode == "https" else ()
    # HTTPS that an earlier run published stays until its certificate is known to be missing.
    return Wanted(Wish(wished | secure, frozenset(secure)), name, waits, notes)


def with_panel(wanted: Wanted, name: str, target: str) -> Wanted:
    """Add the panel at ``target`` to a wish, published by HTTP on that URL's port."""
    if wanted.wish is None:
        return wanted
    panel = _web("http", name, target.rstrip("/"), str(urlsplit(target).port))
    return wanted._replace(wish=wanted.wish._replace(entries=wanted.wish.entries | panel))


def of_file(config: Json, domains: tuple[str, ...], whys: tuple[str, ...], *, lasting: bool) -> Wanted:
    """Return the wish of TS_SERVE_CONFIG, without HTTPS if the tailnet does not issue certificates."""
    wished = entries(config)
    secure = {endpoint(path) for path, value in wished.items() if is_port(path) and _is_secure(value)}
    if not secure:
        return Wanted(Wish(wished), whys=whys)
    if domains:
        return Wanted(Wish(wished), whys=whys, notes=_notes("https", domains, lasting=lasting))
    ports = ", ".join(sorted(f"{port} of {service}" if service else port for service, port in secure))
    kept = {path: value for path, value in wished.items() if endpoint(path) not in secure}
    said = f"TS_SERVE_CONFIG asks for HTTPS on port {ports}, which is left out: {_NO_CERTIFICATES}"
    return Wanted(Wish(kept), whys=(*whys, said))


def without_fetching(wanted: Wanted) -> Wanted:
    """Return the wish of TS_SERVE_CONFIG for a tailscaled that was started without the right to fetch certificates."""
    return wanted._replace(whys=(*wanted.whys, _NOT_AT_START)) if has_https(wanted) else wanted


def has_https(wanted: Wanted) -> bool:
    """Return whether HTTPS is wanted, or may be: nothing is known of an unknown wish."""
    if wanted.wish is None or wanted.certificate:
        return True
    return any(is_port(path) and _is_secure(value) for path, value in wanted.wish.entries.items())


def services(paths: Iterable[Path]) -> frozenset[str]:
    """Return the names of the services that entries belong to."""
    return frozenset(path[1] for path in paths if path[0] == "Services")


def _notes(mode: str, domains: tuple[str, ...], *, lasting: bool) -> tuple[str, ...]:
    if lasting or not domains or mode == "http":
        return ()
    limit = "and a name gets five in a week"
    if mode == "auto":
        why = f"{_NOT_KEPT}, so that each new container would take a certificate"
        return (f"the app is not published by HTTPS: {why}, {limit}; {_KEEP}",)
    return (f"{_NOT_KEPT}: each new container takes a certificate, {limit}; {_KEEP}",)


def _web(scheme: str, name: str, target: str, number: str = "") -> Entries:
    number = number or PORTS[scheme]
    port: Path = ("TCP", number)
    page: Path = ("Web", f"{name}:{number}", "Handlers", "/")
    return {port: {scheme.upper(): True}, page: {"Proxy": target}}


def _is_secure(handler: object) -> bool:
    return handling(handler) in {"https", "tls-terminated-tcp"}


DOMAIN = "${TS_CERT_DOMAIN}"
_HIGHEST_PORT = 65535
_FUNNEL = "AllowFunnel in TS_SERVE_CONFIG is left out: the supervisor does not open the app to the whole internet"
_SESSIONS = "Foreground in TS_SERVE_CONFIG is left out: it belongs to a `tailscale serve` that runs in a terminal"


class _Port(msgspec.Struct, omit_defaults=True):
    """The handler of a port (ipn.TCPPortHandler)."""

    https: bool = msgspec.field(default=False, name="HTTPS")
    http: bool = msgspec.field(default=False, name="HTTP")
    tcp_forward: str = msgspec.field(default="", name="TCPForward")
    terminate_tls: str = msgspec.field(default="", name="TerminateTLS")
    proxy_protocol: int = msgspec.field(default=0, name="ProxyProtocol")


class _Page(msgspec.Struct, omit_defaults=True):
    """The handler of a path of a web server (ipn.HTTPHandler)."""

    path: str = msgspec.field(default="", name="Path")
    proxy: str = msgspec.field(default="", name="Proxy")
    text: str = msgspec.field(default="", name="Text")
    app_caps: list[str] | None = msgspec.field(default=None, name="AcceptAppCaps")
    redirect: str = msgspec.field(default="", name="Redirect")


class _Server(msgspec.Struct, omit_defaults=True):
    """A web server (ipn.WebServerConfig)."""

    handlers: dict[str, _Page] | None = msgspec.field(default=None, name="Handlers")


class _Service(msgspec.Struct, omit_defaults=True):
    """A service of the tailnet (ipn.ServiceConfig)."""

    tcp: dict[str, _Port] | None = msgspec.field(default=None, name="TCP")
    web: dict[str, _Server] | None = msgspec.field(default=None, name="Web")
    tun: bool = msgspec.field(default=False, name="Tun")


class _Config(msgspec.Struct, omit_defaults=True):
    """The configuration (ipn.ServeConfig) without the parts that the supervisor does not set."""

    tcp: dict[str, _Port] | None = msgspec.field(default=None, name="TCP")
    web: dict[str, _Server] | None = msgspec.field(default=None, name="Web")
    services: dict[str, _Service] | None = msgspec.field(default=None, name="Services")


class Found(NamedTuple):
    """The content of the file: the last valid configuration (None if there was none), and what is wrong with it."""

    config: Json | None = None
    whys: tuple[str, ...] = ()


class ServeFile:
    """TS_SERVE_CONFIG, with its last valid content."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: object = None
        self._good: bytes | None = None
        self._found = Found()
        self._domain = ""
        self._reader = TimedReader(lambda: self.look(self._domain))

    async def look_in_time(self, domain: str) -> Found:
        """Return the result of ``look`` in a thread; the content is unknown if that takes too long."""
        self._domain = domain
        try:
            return await self._reader.read()
        except TimeoutError:
            why = "it takes too long; check the disk that it is on"
            return Found(None, (f"cannot use TS_SERVE_CONFIG {self._path}: {why}; what was published before stays",))

    def look(self, domain: str) -> Found:
        """Return the current content, with ${TS_CERT_DOMAIN} replaced by ``domain``."""
        state = (domain, _state(self._path))
        if state != self._seen:
            self._seen = state
            self._found = self._read(domain)
        return self._found

    def _read(self, domain: str) -> Found:
        try:
            data = dirs.read(self._path, MOST_SERVE_BYTES)
            found = Found(*parse(data, domain))
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):
                # It may be readable the next time without being another file.
                self._seen = None
            why = dirs.reason(error)
            said = f"cannot use TS_SERVE_CONFIG {self._path}: {why}; fix it; what was published before stays"
            return Found(None if self._good is None else parse(self._good, domain)[0], (said,))
        self._good = data
        return found


def parse(data: bytes, domain: str) -> tuple[Json, tuple[str, ...]]:
    """Parse a configuration; return it and what was left out. Raises ValueError if it is invalid."""
    raw = _decoded(data.replace(DOMAIN.encode(), domain.encode()))
    try:
        config = msgspec.to_builtins(msgspec.convert(raw, _Config))
        msgspec.json.encode(config)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise ValueError(f"it is not a serve configuration: {error}") from error
    for told in (config, *(config.get("Services") or {}).values()):
        _check_ports(told)
    return config, tuple(_left_out(raw, config))


def _decoded(data: bytes) -> Any:
    text = dirs.text_of(data)
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        if not data.strip():
            raise ValueError("it is empty") from error
        raise ValueError(f"it is not JSON: {error.msg} (at line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise ValueError("it is not JSON: too deeply nested") from error
    except ValueError as error:
        # Python refuses integers with more than 4,300 digits.
        raise ValueError("it is not JSON: a number in it has too many digits") from error
    return {} if raw is None else raw


def _check_ports(config: Json) -> None:
    targets = [target.rpartition(":") for target in config.get("Web") or {}]
    bad = [host + colon + port for host, colon, port in targets if not (host and _is_port(port))]
    bad += [port for port in config.get("TCP") or {} if not _is_port(port)]
    if bad:
        raise ValueError(f"it is not a serve configuration: {bad[0]!r} does not say which port")


def _is_port(text: str) -> bool:
    # In tailscaled's spelling, so that it is recognised later.
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(_HIGHEST_PORT))
    return is_number and 0 < int(text) <= _HIGHEST_PORT and text == str(int(text))


def _left_out(raw: Json, config: Json) -> Iterator[str]:
    ours_not = {"AllowFunnel": _FUNNEL, "Foreground": _SESSIONS}
    for name, said in ours_not.items():
        told = raw.get(name)
        if any(told.values()) if isinstance(told, dict) else told:
            yield said
    unknown = sorted(_unknown({name: told for name, told in raw.items() if name not in ours_not}, config))
    if unknown:
        yield f"TS_SERVE_CONFIG contains {', '.join(unknown)}, which the supervisor does not know and ignores"


def _unknown(raw: Any, config: Any, above: str = "") -> Iterator[str]:
    for name, told in raw.items() if isinstance(raw, dict) else ():
        if isinstance(config, dict) and name in config:
            yield from _unknown(told, config[name], f"{above}{name}.")
        elif told:
            yield above + name


def _state(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
