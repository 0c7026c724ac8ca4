"""The changes that add our entries to a serve configuration without touching others. Pure.

A configuration (ipn.ServeConfig) is treated as single entries, each with its path in the JSON: ("TCP", "80"), ("Web",
"name:80", "Handlers", "/"), and the same below ("Services", "svc:name").
"""

from __future__ import annotations

import copy
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.tailnet.wire import Json

Path = tuple[str, ...]
Entries = dict[Path, Any]
# What we have written, by path; two values for a path while a write is under way.
Record = dict[Path, tuple[Any, ...]]
WEB = frozenset({"http", "https"})


class Endpoint(NamedTuple):
    """A port of the device, or of a service if one is named."""

    service: str
    port: str


class ConflictKind(Enum):
    """The ways in which a foreign entry conflicts with ours."""

    TAKEN = "taken"
    SESSION = "session"
    BESIDE = "beside"
    CLOSED_TO_FUNNEL = "closed to funnel"
    OPEN_TO_FUNNEL = "open to funnel"


class Conflict(NamedTuple):
    """A foreign entry at or near the path of a wish; ``value`` is its value."""

    kind: ConflictKind
    path: Path
    value: Any = None


class Wish(NamedTuple):
    """The entries to publish. Those at the paths in ``kept`` stay if they exist, and are not added otherwise."""

    entries: Entries
    kept: frozenset[Path] = frozenset()


class Step(NamedTuple):
    """The next step.

    ``config`` is to be written (None: nothing to do), ``written`` are the entries in it that become ours. ``ours`` are
    our entries in force now, ``conflicts`` those in the way.
    """

    config: Json | None
    written: Entries
    ours: Entries
    conflicts: tuple[Conflict, ...]


def entries(config: Json) -> Entries:
    """Return the entries of a configuration, without those of foreground sessions."""
    found = dict(_below(config, ()))
    for name, service in table(config, "Services").items():
        found |= dict(_below(service, ("Services", name)))
    return found


def endpoint(path: Path) -> Endpoint:
    """Return the port of an entry; empty for the network interface of a service."""
    service = path[1] if path[0] == "Services" else ""
    here = path[2:] if service else path
    return Endpoint(service, here[1].rpartition(":")[2] if len(here) > 1 else "")


def host_port(path: Path) -> str:
    """Return ``name:port`` of a web handler's path; empty for other paths."""
    return path[-3] if "Handlers" in path[-2:-1] else ""


def handling(handler: Any) -> str:
    """Return the kind of a port in the terms of `tailscale serve`; tailscaled refuses to change it directly."""
    told = handler if isinstance(handler, dict) else {}
    if told.get("HTTP"):
        return "http"
    if told.get("HTTPS"):
        return "https"
    return "tls-terminated-tcp" if told.get("TerminateTLS") else "tcp"


def is_port(path: Path) -> bool:
    """Return whether an entry is the handler of a port."""
    return path[-2:-1] == ("TCP",)


def funnels(config: Any) -> frozenset[str]:
    """Return each ``name:port`` that is open to the internet through Funnel."""
    found = {target for target, is_open in table(config, "AllowFunnel").items() if is_open}
    for session in table(config, "Foreground").values():
        found |= funnels(session)
    return frozenset(found)


def step(current: Json, wish: Wish, record: Record) -> Step:
    """Return the next step from a configuration towards the wish; repeat it until there is none.

    Only recorded entries are changed or removed. A port that changes its kind is closed first, because tailscaled
    refuses to change it directly.
    """
    here = entries(current)
    ours = {path: value for path, value in here.items() if value in record.get(path, ())}
    conflicts = tuple(_conflicts(current, here, ours, wish.entries))
    allowed = _allowed(here, wish, conflicts)
    put = {path: value for path, value in allowed.items() if path not in here or here[path] != value}
    gone = [path for path in ours if path not in allowed and not _is_used_by_others(path, here, ours)]
    for path in [path for path in put if is_port(path) and path in here]:
        if handling(here[path]) != handling(put[path]):
            del put[path]
            gone.append(path)
    if not put and not gone:
        return Step(None, {}, ours, conflicts)
    config = copy.deepcopy(current)
    for path in gone:
        _drop(config, path)
    for path, value in put.items():
        _put(config, path, value)
    return Step(config, put, ours, conflicts)


def in_force(current: Json, wish: Wish, record: Record) -> Entries:
    """Return the entries in force that publish something for us: those of the wish, and those we wrote before."""
    return {
        path: value
        for path, value in entries(current).items()
        if (path in wish.entries and wish.entries[path] == value) or value in record.get(path, ())
        # A web port without pages publishes nothing.
        if not (is_port(path) and handling(value) in WEB)
    }


def urls(current: Json, found: Entries) -> tuple[str, ...]:
    """Return the URLs of these entries, HTTPS first."""
    here = entries(current)
    told = set()
    for target in {host_port(path) for path in found if path[0] == "Web"}:
        name, _, port = target.rpartition(":")
        scheme = handling(here.get(("TCP", port)) or {})
        if scheme in WEB:
            shown = "" if port == {"http": "80", "https": "443"}[scheme] else f":{port}"
            told.add(f"{scheme}://{name}{shown}/")
    return tuple(sorted(told, key=lambda url: (not url.startswith("https:"), url)))


def https_url(current: Json, found: Entries, port: int) -> str:
    """Return the HTTPS URL of the entry that leads to this local port; empty if there is none."""
    pages = {
        path: value
        for path, value in found.items()
        if path[0] == "Web" and path[-1] == "/" and _proxy(value).rstrip("/").rpartition(":")[2] == str(port)
    }
    return next((url.rstrip("/") for url in urls(current, pages) if url.startswith("https:")), "")


def _proxy(handler: Any) -> str:
    return str(handler.get("Proxy")) if isinstance(handler, dict) else ""


def _allowed(here: Entries, wish: Wish, conflicts: tuple[Conflict, ...]) -> Entries:
    """Return the part of the wish that is possible. A web port without any possible page is not opened."""
    blocks = {ConflictKind.TAKEN, ConflictKind.SESSION, ConflictKind.CLOSED_TO_FUNNEL}
    blocked = {conflict.path for conflict in conflicts if conflict.kind in blocks}
    closed = {endpoint(path) for path in blocked if is_port(path)}
    had = {
        path: value
        for path, value in wish.entries.items()
        if path not in blocked
        and endpoint(path) not in closed
        and (path not in wish.kept or (path in here and here[path] == value))
    }
    used = {endpoint(path) for path in had if host_port(path)}
    return {
        path: value
        for path, value in had.items()
        if not is_port(path) or handling(value) not in WEB or endpoint(path) in used
    }


def _conflicts(current: Json, here: Entries, ours: Entries, wish: Entries) -> Iterator[Conflict]:
    sessions = _session_ports(current)
    foreign = {path: value for path, value in here.items() if path not in ours}
    for path, value in wish.items():
        if path in here and here[path] == value:
            continue
        port = endpoint(path)
        if path in foreign:
            yield Conflict(ConflictKind.TAKEN, path, foreign[path])
        elif is_port(path) and not port.service and port.port in sessions:
            yield Conflict(ConflictKind.SESSION, path)
        elif is_port(path) and path in ours and handling(ours[path]) != handling(value):
            # Closing our port for a moment would close theirs.
            pages = [each for each in foreign if host_port(each) and endpoint(each) == port]
            if pages:
                yield Conflict(ConflictKind.TAKEN, path, foreign[pages[0]])
    servers = {path[:-1] for path in wish if host_port(path)}
    for path, value in foreign.items():
        if path[:-1] in servers and path not in wish:
            yield Conflict(ConflictKind.BESIDE, path, value)
    yield from _open_doors(current, here, wish)


def _open_doors(current: Json, here: Entries, wish: Entries) -> Iterator[Conflict]:
    """Yield conflicts with Funnel. Entries in force stay; nothing is published on an open port."""
    opened = funnels(current)
    ports = {target.rpartition(":")[2] for target in opened}
    for path, value in wish.items():
        if path[0] == "Services":
            continue
        if host_port(path):
            is_open = host_port(path) in opened
        else:
            is_open = is_port(path) and handling(value) not in WEB and path[-1] in ports
        if is_open:
            there = path in here and here[path] == value
            yield Conflict(ConflictKind.OPEN_TO_FUNNEL if there else ConflictKind.CLOSED_TO_FUNNEL, path)


def _is_used_by_others(path: Path, here: Entries, ours: Entries) -> bool:
    """Return whether foreign pages need a port of ours."""
    if not is_port(path):
        return False
    return any(host_port(other) and endpoint(other) == endpoint(path) for other in here if other not in ours)


def _session_ports(config: Json) -> frozenset[str]:
    sessions = table(config, "Foreground").values()
    return frozenset(port for session in sessions for port in table(session, "TCP"))


def _below(config: Any, root: Path) -> Iterator[tuple[Path, Any]]:
    for port, handler in table(config, "TCP").items():
        yield (*root, "TCP", port), handler
    for target, server in table(config, "Web").items():
        for mount, handler in table(server, "Handlers").items():
            yield (*root, "Web", target, "Handlers", mount), handler
    if root and isinstance(config, dict) and config.get("Tun"):
        yield (*root, "Tun"), True


def table(config: Any, name: str) -> Json:
    """Return an object in a configuration; empty if its value, from another program or version, has another type."""
    found = config.get(name) if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}


def _put(config: Json, path: Path, value: Any) -> None:
    *above, last = path
    for name in above:
        if not isinstance(config.get(name), dict):
            config[name] = {}
        config = config[name]
    config[last] = copy.deepcopy(value)


def _drop(config: Json, path: Path) -> None:
    """Remove an entry, and parents that become empty."""
    name, *rest = path
    if rest:
        _drop(config[name], tuple(rest))
        if config[name]:
            return
    del config[name]
