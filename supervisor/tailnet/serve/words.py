"""Says for people what stands in the way of what is to be published, and what to do about it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.tailnet.serve.changes import Clash, Kind, Path, endpoint, handling, host_port, is_port

if TYPE_CHECKING:
    from supervisor.tailnet.wire import Json


def clash(found: Clash, config: Json) -> str:
    """Return what a clash means for the owner."""
    where, what, remedy = place(found.path), thing(found.value), f"`{off_command(found, config)}`"
    if found.kind is Kind.BESIDE:
        return f"{where} is not ours and leads to {what}, not to what we publish beside it; remove it with {remedy}"
    if found.kind is Kind.SESSION:
        return f"cannot publish on {where}: a `tailscale serve` that runs in a terminal has that port; end it"
    if found.kind is Kind.OPEN_TO_FUNNEL:
        return f"the whole internet reaches {where}: Funnel was switched on, not by us; switch it off with {remedy}"
    if found.kind is Kind.CLOSED_TO_FUNNEL:
        return (
            f"cannot publish on {where}: Funnel is on there, not by us, and the whole internet would reach it; "
            f"switch it off with {remedy}"
        )
    return f"cannot publish on {where}: something that is not ours is there, {what}; remove it with {remedy}"


def place(path: Path) -> str:
    """Return what people call the place of an entry."""
    target, (service, port) = host_port(path), endpoint(path)
    if target:
        return target if path[-1] == "/" else f"{target}{path[-1]}"
    if not port:
        return service
    return f"port {port} of {service}" if service else f"port {port}"


def thing(value: Any) -> str:
    """Return what an entry leads to."""
    told = value if isinstance(value, dict) else {}
    if told.get("TCPForward"):
        return f"a TCP forward to {told['TCPForward']}"
    for name, kind in (("Proxy", ""), ("Path", "the files in "), ("Redirect", "a redirect to ")):
        if told.get(name):
            return f"{kind}{told[name]}"
    if told.get("HTTP") or told.get("HTTPS"):
        return f"a web server ({handling(told).upper()})"
    return "a text" if told.get("Text") else "something else"


def off_command(found: Clash, config: Json) -> str:
    """Return the command that removes what is in the way."""
    service, port = endpoint(found.path)
    if not port:
        return f"tailscale serve --service={service} --tun off"
    if found.kind is Kind.CLOSED_TO_FUNNEL and host_port(found.path) not in (config.get("Web") or {}):
        # It switches nothing off where nothing is served.
        return "tailscale funnel reset"
    words = ["tailscale", "funnel" if found.kind in {Kind.OPEN_TO_FUNNEL, Kind.CLOSED_TO_FUNNEL} else "serve"]
    if service:
        words.append(f"--service={service}")
    handler = found.value if is_port(found.path) else _port_handler(config, service, port)
    words.append(f"--{handling(handler or {'HTTPS': True})}={port}")
    if host_port(found.path) and found.path[-1] != "/":
        words.append(f"--set-path={found.path[-1]}")
    return " ".join([*words, "off"])


def takes_root(entries: dict[Path, Any]) -> bool:
    """Tell whether any entry leads to files or to a unix socket."""
    targets = [(value.get("Path"), value.get("Proxy"), value.get("TCPForward")) for value in _handlers(entries)]
    return any(path or "unix:" in {str(proxy)[:5], str(tcp)[:5]} for path, proxy, tcp in targets)


def _handlers(entries: dict[Path, Any]) -> list[dict[str, Any]]:
    return [value for value in entries.values() if isinstance(value, dict)]


def _port_handler(config: Json, service: str, port: str) -> Any:
    above = (config.get("Services") or {}).get(service) if service else config
    return ((above or {}).get("TCP") or {}).get(port)
