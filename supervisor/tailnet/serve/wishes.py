"""What is to be published, made from the settings, the device's name and its certificate. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from supervisor.tailnet.serve.changes import Entries, Path, Wish, endpoint, entries, handling, is_port

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.tailnet.serve.certificates import Certificate
    from supervisor.tailnet.wire import Json

PORTS = {"http": "80", "https": "443"}
_NO_CERTIFICATES = "the tailnet issues no certificates; switch HTTPS on, on the DNS page of the admin console"


class Wanted(NamedTuple):
    """A wish, and what is to be said about it.

    ``wish`` is None where it is not known, and all stays as it is. ``certificate`` is the name that HTTPS needs one
    for, empty without HTTPS. ``whys`` are what is not as it should be, ``notes`` are worth telling and no more.
    """

    wish: Wish | None
    certificate: str = ""
    whys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def nothing() -> Wanted:
    """Return the wish that nothing of ours be published."""
    return Wanted(Wish({}))


def unknown(whys: tuple[str, ...]) -> Wanted:
    """Return that it is not known what is to be published, so that all stays as it is."""
    return Wanted(None, whys=whys)


def nameless() -> Wanted:
    """Return the same for a device that has no name to publish under."""
    return unknown(("nothing is published: the device has no name in the tailnet yet",))


def certificate_name(mode: str, name: str, domains: tuple[str, ...], *, lasting: bool) -> str:
    """Return the name that a certificate is wanted for; empty where none is."""
    if name not in domains or mode not in {"https", "auto"}:
        return ""
    return name if mode == "https" or lasting else ""


def of_app(
    mode: str, target: str, name: str, domains: tuple[str, ...], certificate: Certificate | None, *, lasting: bool
) -> Wanted:
    """Return the wish that the tailnet be led to the app at ``target``.

    ``certificate`` is how it stands with the one for this name, None where none is wanted.
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
    # One that a former run put in force stays until it is known that its certificate is gone.
    return Wanted(Wish(wished | secure, frozenset(secure)), name, waits, notes)


def with_panel(wanted: Wanted, name: str, target: str) -> Wanted:
    """Return the same wish, and the panel at ``target`` published by HTTP on that URL's port."""
    if wanted.wish is None:
        return wanted
    panel = _web("http", name, target.rstrip("/"), str(urlsplit(target).port))
    return wanted._replace(wish=wanted.wish._replace(entries=wanted.wish.entries | panel))


def of_file(config: Json, domains: tuple[str, ...], whys: tuple[str, ...]) -> Wanted:
    """Return the wish of TS_SERVE_CONFIG; what takes a certificate is left out where the tailnet issues none."""
    wished = entries(config)
    if domains:
        return Wanted(Wish(wished), whys=whys)
    secure = {endpoint(path) for path, value in wished.items() if is_port(path) and _is_secure(value)}
    if not secure:
        return Wanted(Wish(wished), whys=whys)
    ports = ", ".join(sorted(f"{port} of {service}" if service else port for service, port in secure))
    kept = {path: value for path, value in wished.items() if endpoint(path) not in secure}
    said = f"TS_SERVE_CONFIG asks for HTTPS on port {ports}, which is left out: {_NO_CERTIFICATES}"
    return Wanted(Wish(kept), whys=(*whys, said))


def services(paths: Iterable[Path]) -> frozenset[str]:
    """Return the names of the services that entries are about."""
    return frozenset(path[1] for path in paths if path[0] == "Services")


def _notes(mode: str, domains: tuple[str, ...], *, lasting: bool) -> tuple[str, ...]:
    if lasting or not domains or mode == "http":
        return ()
    limit = "and a name gets five in a week"
    if mode == "auto":
        why = "TS_STATE_DIR is no volume of its own, so that each new container would take a certificate"
        return (f"the app is not published by HTTPS: {why}, {limit}; mount a volume there",)
    return (
        f"TS_STATE_DIR is no volume of its own: each new container takes a certificate, {limit}; mount a volume there",
    )


def _web(scheme: str, name: str, target: str, number: str = "") -> Entries:
    number = number or PORTS[scheme]
    port: Path = ("TCP", number)
    page: Path = ("Web", f"{name}:{number}", "Handlers", "/")
    return {port: {scheme.upper(): True}, page: {"Proxy": target}}


def _is_secure(handler: object) -> bool:
    return handling(handler) in {"https", "tls-terminated-tcp"}
