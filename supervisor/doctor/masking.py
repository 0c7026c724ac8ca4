"""Masks identifying data in a report: secrets, addresses, accounts, and the tailnet's name."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from supervisor.logs.received import each_text, received

if TYPE_CHECKING:
    from supervisor.core.snapshot import TailnetView
    from supervisor.logs.redact import Redactor

_ADDRESS = re.compile(
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"
    r"|(?<![\w.:])(?:[0-9a-fA-F]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{0,4})(?![\w:])"
)
# A long word is looked at from its beginning alone: from each of its letters, it would hold everything up for seconds.
_ACCOUNT = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?<![\w-])[\w-]+@(?:github|passkey)\b")
_TAILNET = re.compile(r"(?<![a-z0-9-])[a-z0-9-]+\.ts\.net\b")


def names_of(view: TailnetView) -> tuple[str, ...]:
    """Return the names that identify the tailnet: its domain, which all of its devices have, its name, its owner."""
    return (view.hostname.partition(".")[2], view.tailnet, view.login_name)


class ReportMask:
    """Masks one report: an address gets the same number everywhere in it. Loopback and wildcard addresses stay."""

    def __init__(self, redactor: Redactor, names: tuple[str, ...] = ()) -> None:
        self._redactor = redactor
        # As whole words: a tailnet may be called `lan`.
        words = "|".join(re.escape(name) for name in names if name)
        self._names = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE) if words else None
        self._addresses: dict[str, str] = {}

    def text(self, text: str) -> str:
        """Return a text with them masked."""
        data = received(text, self._redactor.mask_text).encode()
        text = self._redactor.mask_setup_code(data).decode()
        # Accounts first: without its domain, one would not be recognized.
        text = _ACCOUNT.sub("[account]", text)
        if self._names is not None:
            text = self._names.sub("[tailnet]", text)
        text = _TAILNET.sub("[tailnet]", text)
        return _ADDRESS.sub(self._address, text)

    def every(self, value: Any) -> Any:
        """Return a struct, a list or a dictionary with each of its texts masked."""
        return each_text(value, self.text)

    def _address(self, found: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        if address.is_loopback or address.is_unspecified:
            return found[0]
        kind = "tailnet address" if _is_of_tailnets(address) else "address"
        return self._addresses.setdefault(str(address), f"[{kind} {len(self._addresses) + 1}]")


def _is_of_tailnets(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an address is in Tailscale's ranges."""
    ranges = ("100.64.0.0/10", "fd7a:115c:a1e0::/48")
    return any(address in ipaddress.ip_network(each) for each in ranges)
