"""The proxies that the environment names for requests to the outside."""

from __future__ import annotations


def proxy_for(url: str) -> str | None:
    """Return the proxy for a URL; None if there is none.

    aiohttp's ``trust_env`` would also read ``.netrc``, from the disk and for each request.
    """
    from urllib.request import getproxies, proxy_bypass

    scheme, _, rest = url.partition("://")
    proxy = None if proxy_bypass(rest.partition("/")[0]) else getproxies().get(scheme.lower())
    # As in Go, and so in tailscaled and restic, a proxy without a scheme is an HTTP proxy.
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
