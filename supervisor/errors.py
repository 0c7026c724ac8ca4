"""Errors, each with the exit code of the command that it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.characters import printable
from supervisor.secret import REDACTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EX_USAGE = 64
EX_SOFTWARE = 70
EX_IOERR = 74
EX_CONFIG = 78
_KEY = "tskey-"
_KEY_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_QUOTED_CHARACTERS = 80
# What an IPv4 address begins with in IPv6's form (RFC 4291, 2.5.5.2).
_MAPPED = b"\0" * 10 + b"\xff\xff"


class SupervisorError(Exception):
    """A failure reported to a person: what failed, why, and what to do next.

    ``body`` is the same for programs, as the supervisor's API returned it.
    """

    exit_code = EX_SOFTWARE
    body: Mapping[str, Any] | None = None


class UsageError(SupervisorError):
    """The command line is invalid."""

    exit_code = EX_USAGE


class OutputError(SupervisorError):
    """Standard output cannot be written to."""

    exit_code = EX_IOERR


class ConfigError(SupervisorError):
    """The configuration or the environment has to be changed before the program can start.

    ``problems`` has all of them, so that they can be fixed at once.
    """

    exit_code = EX_CONFIG

    def __init__(self, problems: list[str] | tuple[str, ...] | str) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


def remedy_for_resources(error: OSError) -> str:
    """Return what to do about a disk, a limit or memory that is used up; empty for all other errors."""
    import errno

    return {
        errno.ENOSPC: "the disk is full: free some of it, or mount a larger volume",
        errno.EDQUOT: "the quota is used up: free some of it, or raise it",
        errno.EMFILE: "raise the limit of open files (ulimit -n, docker run --ulimit nofile=…)",
        errno.ENFILE: "the machine has too many open files: end some of its programs, or raise fs.file-max",
        errno.ENOMEM: "give the container more memory",
        errno.ENOBUFS: "give the container more memory",
    }.get(error.errno or 0, "")


def connection_error(error: OSError) -> str:
    """Return why a connection failed, in the system's words: asyncio's own text contains the address."""
    import os
    import ssl

    # The numbers of TLS are not the system's.
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection: {(error.reason or str(error)).lower().replace('_', ' ')}"
    # Failed look-ups have negative numbers of their own.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error)).lower()


def host_port(host: str, port: int) -> str:
    """Return an address as text: an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_host(host: str) -> str:
    """Return the one spelling of an address or a name by which it is compared: IPv4's if it is one in IPv6's form."""
    if ":" not in host:
        return host.lower().rstrip(".")
    # Loaded for IPv6 only.
    import socket

    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        return host.lower()
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed)


class Diagnostics:
    """Problems of the configuration, collected so that all of them are reported at once.

    Problems prevent the start; warnings and notices go to the log and to ``check``. Keys are redacted and control
    characters escaped in each text, whatever a setting contains.
    """

    __slots__ = ("notices", "problems", "warnings")

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.notices: list[str] = []

    def problem(self, what: str, why: str, remedy: str) -> None:
        """Add a problem: "cannot what: why; remedy"."""
        self.problems.append(_safe(f"cannot {what}: {why}; {remedy}"))

    def add(self, error: ConfigError) -> None:
        """Add the problems of an error."""
        self.problems += map(_safe, error.problems)

    def warn(self, *texts: str) -> None:
        """Add warnings."""
        self.warnings += map(_safe, texts)

    def note(self, *texts: str) -> None:
        """Add notices."""
        self.notices += map(_safe, texts)

    def raise_problems(self) -> None:
        """Raise ConfigError with every problem, if there is one."""
        if self.problems:
            raise ConfigError(tuple(dict.fromkeys(self.problems)))


def _safe(text: str) -> str:
    head, *keys = text.split(_KEY)
    return printable("".join([head, *(REDACTED + key.lstrip(_KEY_CHARACTERS) for key in keys)]))


def quoted(text: str) -> str:
    """Return a value for a message: in quotes, shortened, and redacted where it contains a key."""
    if _KEY in text:
        return REDACTED
    return repr(text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" with the known name closest to this one; empty if none is close."""
    # Imported for a misspelt name only: it would add milliseconds to the start.
    from difflib import get_close_matches

    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]}?)" if found else ""
