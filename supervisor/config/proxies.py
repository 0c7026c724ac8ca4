"""The proxies that the environment names for requests to the outside."""

from __future__ import annotations

from supervisor.config.parsers import is_on_loopback


def bad_proxy(url: str) -> tuple[str, str]:
    """Return what is wrong with the proxy for a URL whose address cannot be parsed, and what to do."""
    name = f"{url.partition('://')[0].upper()}_PROXY"
    return f"{name} is not a valid address", f"set {name} to one such as http://proxy.example:3128"


def proxy_for(url: str) -> str | None:
    """Return the proxy for a URL; None if there is none.

    aiohttp's ``trust_env`` would also read ``.netrc``, from the disk and for each request.
    """
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    # Go uses none for this machine itself. NO_PROXY may name a host with its port, and an IPv6 address only without
    # brackets.
    if is_on_loopback(url) or proxy_bypass(parts.netloc) or proxy_bypass(parts.hostname or ""):
        return None
    proxy = getproxies().get(parts.scheme)
    # As in Go, and so in tailscaled and restic, a proxy without a scheme is an HTTP proxy.
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
