"""The proxies that the environment names for requests to the outside."""

from __future__ import annotations


def proxy_for(url: str) -> str | None:
    """Return the proxy for a URL; None if there is none.

    aiohttp's ``trust_env`` would also read ``.netrc``, from the disk and for each request.
    """
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    host = parts.hostname or ""
    # NO_PROXY may name a host with its port, and an IPv6 address only without brackets.
    if _is_loopback(host) or proxy_bypass(parts.netloc) or proxy_bypass(host):
        return None
    proxy = getproxies().get(parts.scheme)
    # As in Go, and so in tailscaled and restic, a proxy without a scheme is an HTTP proxy.
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself, to which Go uses no proxy either."""
    from ipaddress import ip_address

    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
