"""Parsers for the texts of settings, and the sources of secrets."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from supervisor.core.process import GiveUp
from supervisor.errors import ConfigError, plain_host
from supervisor.namedtuples import NamedTuple
from supervisor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_S = 366 * 24 * 3600.0
MEMORY = "mem:"
FALSE = frozenset({"0", "f", "false", "no", "off"})
_TRUE = frozenset({"1", "t", "true", "yes", "on"})
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h)", re.ASCII)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_BYTES = frozenset(map(str, range(256)))
# What an exit node advertises.
EXIT_ROUTES = ("0.0.0.0/0", "::/0")
_VIA = "fd7a:115c:a1e0:b1a::/64"
_VIA_BITS = 96
_MOST_SITE = 0xFFFF
_LARGEST_SECRET_BYTES = 64 * 1024
_NOT_A_URL = "it is not a URL of http or https"


class InvalidValueError(ValueError):
    """A value cannot be used; the message is the reason."""


class SecretSource:
    """Where a secret comes from: ``path`` is a file that is read at each use, or None if the value itself is set."""

    __slots__ = ("_value", "name", "path")

    def __init__(self, name: str, value: Secret | None = None, path: str | None = None) -> None:
        self.name = name
        self.path = path
        self._value = value

    def __repr__(self) -> str:
        return f"SecretSource({self.name!r}, path={self.path!r})"

    def late(self) -> ConfigError:
        """Return the error for a file that was not read in time."""
        return ConfigError(f"cannot read {self.name} from {self.path}: it takes too long; check the disk that it is on")

    def read(self) -> Secret:
        """Return the current secret, stripped of white space.

        Raises ConfigError if its file is unreadable, too large or empty, or contains more than one line of text.
        """
        if self._value is not None:
            return self._value
        # Loaded for a file only.
        from supervisor.system import dirs

        what = f"{self.name} from {self.path}"
        try:
            text = line(dirs.read_text(self.path or "", _LARGEST_SECRET_BYTES).strip())
            if not text:
                raise InvalidValueError("it is empty")
        except OSError as error:
            why = f"{dirs.reason(error)}; check the path, and that the supervisor may read it"
            raise ConfigError(f"cannot read {what}: {why}") from error
        except ValueError as error:
            why = f"{error}; write only the secret into the file, on one line"
            raise ConfigError(f"cannot use {what}: {why}") from error
        return Secret(text)


class Parser(NamedTuple):
    """``parse`` raises InvalidValueError; ``form`` describes a valid text.

    The value of a ``private`` setting may contain a secret, so messages do not repeat it.
    """

    parse: Callable[[str], object]
    form: str
    private: bool = False


def or_never(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Return a parser that also accepts ``never``, as None."""
    return lambda text: None if text == "never" else parse(text)


def choice(*words: str, to: Callable[[str], object] = str) -> Parser:
    """Return a parser that accepts these words, each converted by ``to``."""

    def parse(text: str) -> object:
        if text not in words:
            raise InvalidValueError("there is no such choice")
        return to(text)

    return Parser(parse, "one of " + ", ".join(words))


def integer(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of integers in an inclusive range."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 12):
            raise InvalidValueError("it is not a whole number")
        if not least <= int(text) <= most:
            raise InvalidValueError(f"it is not between {least} and {most}")
        return int(text)

    return parse


def duration_s(text: str) -> float:
    """Return the seconds in a text like 500ms, 10s, 5m or 1m30s."""
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise InvalidValueError("it has no unit" if text.isdecimal() else "it is not a duration")
    total_s = sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))
    if total_s > LONGEST_S:
        raise InvalidValueError("it is longer than a year")
    return total_s


def give_up(text: str) -> GiveUp:
    """Return a failure count and the window it applies to."""
    failures, slash, window = text.partition("/")
    if not slash:
        raise InvalidValueError("it has no window")
    window_s = duration_s(window)
    if window_s <= 0:
        raise InvalidValueError("its window is empty")
    return GiveUp(integer(1, 10_000)(failures), window_s)


def boolean(text: str) -> bool:
    """Return a boolean, in any of the spellings Go accepts, or yes, no, on or off."""
    word = text.lower()
    if word not in _TRUE and word not in FALSE:
        raise InvalidValueError("it is neither true nor false")
    return word in _TRUE


def line(text: str) -> str:
    """Return one printable line of text."""
    if not text.isprintable():
        raise InvalidValueError("it contains control characters or invalid UTF-8")
    return text


def path(text: str) -> str:
    """Return an absolute path: children have other working directories."""
    if "\0" in text:
        raise InvalidValueError("it contains a NUL character")
    try:
        return os.path.abspath(text)
    except FileNotFoundError as error:
        raise InvalidValueError("it is relative to a working directory that no longer exists") from error


def state_dir(text: str) -> str:
    """Return an absolute path or ``mem:``."""
    return text if text == MEMORY else path(text)


def process_name(text: str) -> str:
    """Return the name of a process."""
    if not re.fullmatch(r"[a-z0-9-]{1,32}", text, re.ASCII):
        raise InvalidValueError("a name consists of 1 to 32 characters of a-z, 0-9 and -")
    return text


def words(text: str) -> tuple[str, ...]:
    """Split a text as a shell would."""
    if not text:
        return ()
    # Loaded when needed: few settings are split.
    from shlex import split

    if "\0" in text:
        raise InvalidValueError("it contains a NUL character")
    try:
        return tuple(split(text))
    except ValueError as error:
        raise InvalidValueError(f"a shell could not parse it ({str(error).lower()})") from error


def command(text: str) -> tuple[str, ...]:
    """Return a command line as words, at least one."""
    found = words(text)
    if not found or not found[0]:
        raise InvalidValueError("it names no program")
    return found


def items(text: str) -> tuple[str, ...]:
    """Return the distinct items of a comma-separated list."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def tags(text: str) -> tuple[str, ...]:
    """Return ACL tags. Tailscaled accepts anything, and the control server then refuses the login."""
    found = items(text)
    for tag in found:
        if not re.fullmatch(r"tag:[A-Za-z][A-Za-z0-9-]*", tag, re.ASCII):
            raise InvalidValueError(f"{tag!r} is not a tag")
    return found


def routes(text: str) -> tuple[str, ...]:
    """Return subnet routes in canonical form, each once. Tailscaled accepts anything; the checks are its program's."""
    found = items(text)
    if not found:
        return ()
    networks = tuple(map(_route, found))
    for one, other in (EXIT_ROUTES, EXIT_ROUTES[::-1]):
        if one in networks and other not in networks:
            raise InvalidValueError(f"{one} is advertised without {other}; an exit node advertises both")
    return tuple(dict.fromkeys(networks))


def _route(text: str) -> str:
    # Loaded when needed: few offer routes.
    from ipaddress import ip_address, ip_network

    if "/" not in text:
        raise InvalidValueError(f"{text!r} has no prefix length (a single address is /32 or /128)")
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidValueError(f"{text!r} is not an address range") from error
    if "%" in text:
        raise InvalidValueError(f"{text!r} has a zone, which no route has")
    if network.network_address != ip_address(text.partition("/")[0]):
        raise InvalidValueError(f"{text} has host bits set; the network is {network}")
    if network.is_loopback:
        raise InvalidValueError(f"{text} is every machine's loopback")
    if network.network_address in ip_network(_VIA):
        _check_via(text, network.prefixlen, int(network.network_address))
    return str(network)


def _check_via(route: str, prefix_length: int, address: int) -> None:
    """Check a 4via6 route: an IPv4 network in the last 32 bits, and before it the number of its site."""
    if prefix_length < _VIA_BITS:
        raise InvalidValueError(f"{route} is a 4via6 route, whose prefix length is at least {_VIA_BITS}")
    site = address >> 32 & 0xFFFFFFFF
    if site > _MOST_SITE:
        raise InvalidValueError(f"{route} is a 4via6 route of site {site}; the highest is {_MOST_SITE}")


def host_name(text: str) -> str:
    """Return a DNS host name. Tailscaled accepts anything."""
    if len(text) > 253 or not all(re.fullmatch(_LABEL, label, re.ASCII) for label in text.split(".")):
        raise InvalidValueError("it is not a DNS name")
    return text


def is_ip(text: str) -> bool:
    """Tell whether this is an IP address in its full form."""
    if ":" not in text:
        parts = text.split(".")
        return len(parts) == 4 and all(part in _BYTES for part in parts)
    # Loaded for IPv6 only.
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True


def ip(text: str) -> str:
    """Return an IP address in its plain form."""
    if not is_ip(text):
        raise InvalidValueError("it is not an IP address")
    return plain_host(text)


def host(text: str) -> str:
    """Return an IP address or a host name in its plain form."""
    return ip(text) if is_ip(text) or text.replace(".", "").isdecimal() else plain_host(host_name(text))


def address(text: str) -> tuple[str, int]:
    """Return host and port; the host is empty for every address."""
    name, colon, number = text.rpartition(":")
    if not colon:
        raise InvalidValueError("it has no port")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    elif ":" in name:
        raise InvalidValueError("an IPv6 address has to be in brackets")
    return host(name) if name else "", integer(1, 65535)(number)


def url(text: str) -> str:
    """Return a URL of http or https."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in {"http", "https"} or not text.isascii() or not text.isprintable():
        raise InvalidValueError(_NOT_A_URL)
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise InvalidValueError("it contains a user name or password, which would be shown")
    if " " in text:
        raise InvalidValueError("it contains a space")
    if authority.startswith("["):
        name, bracket, end = authority[1:].partition("]")
        if not bracket or (end and not end.startswith(":")):
            raise InvalidValueError(_NOT_A_URL)
        number = end[1:]
    else:
        name, _, number = authority.partition(":")
    host(name)
    if number:
        integer(1, 65535)(number)
    return text


def base_url(text: str) -> str:
    """Return a URL without a slash at its end."""
    return url(text).rstrip("/")


def is_on_loopback(text: str) -> bool:
    """Tell whether the host of a URL is this machine's loopback."""
    found = re.match(r"https?://(?:\[([^\]]*)\]|([^\[\]:/?#@]*))(?:[:/?#]|$)", text, re.IGNORECASE)
    name = plain_host(found[1] or found[2]) if found is not None else ""
    return name in {"localhost", "::1"} or (name.startswith("127.") and is_ip(name))


def stays_private(text: str) -> bool:
    """Tell whether what is sent to a URL is encrypted, or does not leave this machine."""
    return text.lower().startswith("https://") or is_on_loopback(text)


def alert_url(text: str) -> str:
    """Return a URL to which incidents may be sent."""
    if not stays_private(url(text)):
        raise InvalidValueError("it is not https, which only the loopback may do without")
    return text


def health_url(text: str) -> str:
    """Return a URL, a path on the app's own port, or nothing."""
    if text and not text.startswith("/"):
        return url(text)
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidValueError("it contains a space or another character that a path cannot contain")
    return text


def repository(text: str) -> str:
    """Return a bucket as restic writes it, or an absolute folder."""
    line(text)
    if not text.startswith("s3:"):
        if not text.startswith("/"):
            raise InvalidValueError("it is neither a bucket (s3:https://…) nor an absolute folder")
        return _folder(text)
    bucket_url = url(text.removeprefix("s3:"))
    # restic knows the scheme in lower case only.
    if not bucket_url.startswith("http") or not stays_private(bucket_url):
        raise InvalidValueError("it is not s3:https://, so data and keys would travel unencrypted")
    if "?" in bucket_url or "#" in bucket_url:
        raise InvalidValueError("it has more than host, bucket and path")
    bucket = (*bucket_url.split("/"), "")[3]
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket, re.ASCII):
        raise InvalidValueError("the host is not followed by a bucket (3 to 63 characters of a-z, 0-9, . and -)")
    return text.rstrip("/")


def _folder(text: str) -> str:
    if not text.startswith("/"):
        raise InvalidValueError(f"{text!r} is not absolute")
    folder = os.path.normpath(text).replace("//", "/")
    if folder == "/":
        raise InvalidValueError("it is the root folder")
    return folder


def folders(text: str) -> tuple[str, ...]:
    """Return distinct absolute folders, separated by colons, none inside another."""
    found = tuple(dict.fromkeys(_folder(part) for part in line(text).split(":") if part))
    if not found:
        raise InvalidValueError("it names none")
    for inner in found:
        for outer in found:
            if inner.startswith(f"{outer}/"):
                raise InvalidValueError(f"{inner} lies inside {outer}")
    return found


def backup_interval_s(text: str) -> float:
    """Return the seconds between backups."""
    seconds = duration_s(text)
    if seconds < 60:
        raise InvalidValueError("it is less than a minute")
    return seconds


def keep(text: str) -> dict[str, int]:
    """Return how many snapshots to keep for each period."""
    periods = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    counts: dict[str, int] = {}
    for part in text.split(","):
        name, sign, number = (piece.strip() for piece in part.partition("="))
        if name not in periods or not sign:
            expected = ", ".join(f"{period}=N" for period in periods)
            raise InvalidValueError(f"{part.strip()!r} is not one of {expected}")
        if name in counts:
            raise InvalidValueError(f"it contains {name} twice")
        counts[name] = integer(0, 100_000)(number)
    if counts.get("last", 0) < 1:
        raise InvalidValueError("last has to be 1 or more")
    return counts


def restore(text: str) -> str:
    """Return auto, never, or the id of a snapshot."""
    if text not in {"auto", "never"} and not re.fullmatch(r"[0-9a-f]{8,64}", text, re.ASCII):
        raise InvalidValueError("it is not an id as `backup list` shows it (8 to 64 of 0-9 and a-f)")
    return text


_A_URL = "a URL such as https://example.com"

TEXT = Parser(line, "one line of text")
SECRET = Parser(line, "the secret itself, `file:/path`, or the name with `_FILE` and a path", private=True)
DURATION = Parser(duration_s, "a number and a unit such as 500ms, 10s or 5m")
DURATION_OR_NEVER = Parser(or_never(duration_s), "a duration such as 500ms, 10s or 5m, or never")
BOOLEAN = Parser(boolean, "true or false")
PORT = Parser(integer(0, 65535), "a number from 0 (any free port) to 65535")
LINES = Parser(integer(0, 1_000_000), "a number from 0 to 1000000")
GIVE_UP = Parser(or_never(give_up), "a count and a window such as 10/5m, or never")
PATH = Parser(path, "a path")
STATE_DIR = Parser(state_dir, "a path, or mem: to keep nothing")
NAME = Parser(process_name, "a name such as my-app")
USER = Parser(line, "the name of a user in the image")
COMMAND = Parser(command, "a command line as for a shell, with closed quotes", private=True)
WORDS = Parser(words, "flags as for a shell, with closed quotes", private=True)
TAGS = Parser(tags, "tags such as tag:moltis,tag:server (a letter first, then letters, digits, -)")
ROUTES = Parser(routes, "routes such as 10.0.0.0/8,fd00::/64")
HOST_NAME = Parser(host_name, "a name of letters, digits and - such as moltis")
HOST = Parser(host, "an IP address such as 127.0.0.2")
IP = Parser(ip, "the IP address of the exit node")
ADDRESS = Parser(address, "an address and a port such as 127.0.0.2:1055 or [::1]:1055")
URL = Parser(url, _A_URL, private=True)
BASE_URL = Parser(base_url, _A_URL, private=True)
HEALTH_URL = Parser(health_url, "a path such as /health, a URL, or nothing", private=True)
REPOSITORY = Parser(repository, "s3:https://HOST/BUCKET/PATH, or an absolute folder")
FOLDERS = Parser(folders, "absolute paths with : between them, such as /data:/config")
BACKUP_INTERVAL = Parser(backup_interval_s, "a duration of 1m or more, such as 5m")
KEEP = Parser(keep, "counts such as last=10,hourly=24,daily=14")
RESTORE = Parser(restore, "auto, never, or a snapshot's id")
