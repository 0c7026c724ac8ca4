"""What a setting's text may be, and what it then means to the program."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from supervisor.core.process import GiveUp
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_S = 366 * 24 * 3600.0
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h)", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_TAG = re.compile(r"tag:[A-Za-z][A-Za-z0-9-]*", re.ASCII)
_BYTES = frozenset(map(str, range(256)))
_NAME = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_TRUE = frozenset({"1", "t", "true", "yes", "on"})
_FALSE = frozenset({"0", "f", "false", "no", "off"})
MEMORY = "mem:"


class UnfitError(ValueError):
    """A text is not of the kind it should be; the message is the reason."""


class Kind(NamedTuple):
    """A kind of value. ``parse`` raises UnfitError with the reason; ``form`` says what to write instead."""

    name: str
    parse: Callable[[str], object]
    form: str


def duration_s(text: str) -> float:
    """Return the seconds in a text like 500ms, 10s, 5m or 1m30s."""
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise UnfitError("it has no unit" if text.isdecimal() else "it is not a duration")
    total_s = sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))
    if total_s > LONGEST_S:
        raise UnfitError("it is longer than a year")
    return total_s


def duration_or_never_s(text: str) -> float | None:
    """Return the seconds, or None for ``never``."""
    return None if text == "never" else duration_s(text)


def boolean(text: str) -> bool:
    """Return what a switch says."""
    word = text.lower()
    if word not in _TRUE and word not in _FALSE:
        raise UnfitError("it is neither true nor false")
    return word in _TRUE


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers between two bounds, both allowed."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 12):
            raise UnfitError("it is not a whole number")
        number = int(text)
        if not least <= number <= most:
            raise UnfitError(f"it is not between {least} and {most}")
        return number

    return parse


port = whole(0, 65535)


def choice(*words: str) -> Kind:
    """Return the kind whose values are these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise UnfitError("there is no such choice")
        return text

    return Kind("choice", parse, "one of " + ", ".join(words))


def give_up(text: str) -> GiveUp | None:
    """Return how many failures in how long are too many; None for ``never``."""
    if text == "never":
        return None
    failures, slash, window = text.partition("/")
    if not slash:
        raise UnfitError("it has no window")
    window_s = duration_s(window)
    if window_s <= 0:
        raise UnfitError("its window is empty")
    return GiveUp(whole(1, 10_000)(failures), window_s)


def plain(text: str) -> str:
    """Return a text as it is, as long as it is one printable line."""
    if not text.isprintable():
        raise UnfitError("it has control characters or bytes that are not UTF-8")
    return text


def path(text: str) -> str:
    """Return an absolute path: children have working directories of their own."""
    if "\0" in text:
        raise UnfitError("it has a NUL character")
    return os.path.abspath(text)


def state_folder(text: str) -> str:
    """Return an absolute path, or ``mem:`` where nothing is to be kept."""
    return text if text == MEMORY else path(text)


def process_name(text: str) -> str:
    """Return a process's name."""
    if not _NAME.fullmatch(text):
        raise UnfitError("only a-z, 0-9 and - may be in it, 32 of them at most")
    return text


def words(text: str) -> tuple[str, ...]:
    """Return the words a shell would see."""
    # Loaded for the few settings that are split: the others need not wait for it.
    from shlex import split

    if "\0" in text:
        raise UnfitError("it has a NUL character")
    try:
        return tuple(split(text))
    except ValueError as error:
        raise UnfitError(f"a shell could not read it ({str(error).lower()})") from error


def command(text: str) -> tuple[str, ...]:
    """Return the words of a command line, at least one."""
    found = words(text)
    if not found or not found[0]:
        raise UnfitError("it names no program")
    return found


def items(text: str) -> tuple[str, ...]:
    """Return the parts of a comma list, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def tags(text: str) -> tuple[str, ...]:
    """Return tailnet tags: tailscaled would take anything and be refused by the control server."""
    found = items(text)
    for tag in found:
        if not _TAG.fullmatch(tag):
            raise UnfitError(f"{tag!r} is not a tag")
    return found


def routes(text: str) -> tuple[str, ...]:
    """Return subnet routes in their usual writing: tailscaled would take anything."""
    # Loaded where routes are set: few do.
    from ipaddress import ip_address, ip_network

    found = items(text)
    for route in found:
        if "/" not in route:
            raise UnfitError(f"{route!r} has no prefix length (a single address is /32 or /128)")
        try:
            network = ip_network(route, strict=False)
        except ValueError as error:
            raise UnfitError(f"{route!r} is not an address range") from error
        if network.network_address != ip_address(route.partition("/")[0]):
            raise UnfitError(f"{route} has bits set behind its prefix, {network} is meant")
        if network.is_loopback:
            raise UnfitError(f"{route} is the loopback of each machine")
    return tuple(str(ip_network(route)) for route in found)


def host_name(text: str) -> str:
    """Return a DNS host name: tailscaled would take anything."""
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise UnfitError("it is not a DNS name")
    return text


def is_ip(text: str) -> bool:
    """Tell whether this is an IP address, written out."""
    if ":" not in text:
        parts = text.split(".")
        return len(parts) == 4 and all(part in _BYTES for part in parts)
    # Loaded for IPv6 alone.
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True


def host(text: str) -> str:
    """Return an IP address or a host name."""
    if not is_ip(text):
        host_name(text)
        if text.replace(".", "").isdecimal():
            raise UnfitError("it is not an IP address")
    return text


def address(text: str) -> tuple[str, int]:
    """Return host and port; the host is empty where every address is meant."""
    name, colon, number = text.rpartition(":")
    if not colon:
        raise UnfitError("it has no port")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    elif ":" in name:
        raise UnfitError("an IPv6 address stands in brackets")
    if name:
        host(name)
    return name, whole(1, 65535)(number)


def url(text: str) -> str:
    """Return a URL of http or https."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in {"http", "https"} or not text.isascii() or not text.isprintable():
        raise UnfitError("it is not a URL of http or https")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise UnfitError("it has a user name or password in it, which would be shown")
    if " " in text:
        raise UnfitError("it has a space in it")
    name, number = _split_authority(authority)
    host(name)
    if number:
        whole(1, 65535)(number)
    return text


def _split_authority(authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        name, _, rest = authority[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise UnfitError("it is not a URL of http or https")
        return name, rest[1:]
    name, _, number = authority.partition(":")
    return name, number


def health_url(text: str) -> str:
    """Return a URL, a path on the app's own port, or nothing."""
    if not text:
        return text
    if text.startswith("/"):
        if not text.isascii() or not text.isprintable() or " " in text:
            raise UnfitError("a space or another character that a path cannot hold is in it")
        return text
    return url(text)


TEXT = Kind("text", plain, "one line of text")
SECRET = Kind("secret", plain, "the secret itself, `file:/path`, or the name with `_FILE` and a path")
DURATION = Kind("duration", duration_s, "a number and a unit such as 500ms, 10s or 5m")
DURATION_OR_NEVER = Kind("duration or never", duration_or_never_s, "a duration such as 500ms, 10s or 5m, or never")
BOOLEAN = Kind("switch", boolean, "true or false")
PORT = Kind("port", port, "a number from 0 (any free port) to 65535")
LINES = Kind("number", whole(0, 1_000_000), "a number from 0 to 1000000")
GIVE_UP = Kind("count/duration or never", give_up, "a count and a window such as 10/5m, or never")
PATH = Kind("path", path, "a path")
STATE_FOLDER = Kind("path or mem:", state_folder, "a path, or mem: to keep nothing")
NAME = Kind("process name", process_name, "a name such as my-app")
USER = Kind("user", plain, "the name of a user in the image")
COMMAND = Kind("command line", command, "a command line as for a shell, with closed quotes")
WORDS = Kind("flags", words, "flags as for a shell, with closed quotes")
TAGS = Kind("comma list of tags", tags, "tags such as tag:moltis,tag:server (a letter first, then letters, digits, -)")
ROUTES = Kind("comma list of routes", routes, "routes such as 10.0.0.0/8,fd00::/64")
HOST_NAME = Kind("host name", host_name, "a name of letters, digits and - such as moltis")
HOST = Kind("address", host, "an IP address such as 127.0.0.2")
ADDRESS = Kind("address and port", address, "an address and a port such as 127.0.0.2:1055 or [::1]:1055")
URL = Kind("URL", url, "a URL such as https://example.com")
HEALTH_URL = Kind("URL or path", health_url, "a path such as /health, a URL, or nothing")
