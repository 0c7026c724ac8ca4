"""The listening TCP sockets of this network namespace, and the processes that hold them, from /proc."""

from __future__ import annotations

import re
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from supervisor.system.procfs import every_pid, folder_of, open_files, read, target_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
# proc(5): number, local address, remote address, state (0A is listening), queues, timer, retransmits, uid, timeout,
# inode.
_LISTENING = re.compile(rb"^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ 0A \S+ \S+ \S+ +(\d+) +\d+ (\d+)", re.MULTILINE)
_WORD_BYTES = 4
_IPV4_BYTES = 4
_MAPPED = b"\0" * 10 + b"\xff\xff"
_REACHED_V4 = frozenset({socket.inet_aton("127.0.0.1"), socket.inet_aton("0.0.0.0")})  # noqa: S104 - looked for
_REACHED_V6 = b"\0" * 16


class ListeningSocket(NamedTuple):
    """A listening port; ``inode`` identifies the socket, ``uid`` is its owner."""

    host: str
    port: int
    uid: int
    inode: int
    by_loopback: bool


class Holder(NamedTuple):
    """A process that holds a socket, and its path in /proc."""

    pid: int
    path: str


def listening() -> tuple[ListeningSocket, ...]:
    """Return all listeners of this network namespace; empty if the kernel does not report them."""
    return tuple(found for path in _TABLES for found in parse(read(path)))


def parse(table: bytes) -> Iterable[ListeningSocket]:
    """Yield the listeners of one table. ``by_loopback`` is whether connections to 127.0.0.1 reach them."""
    for address, port, uid, inode in _LISTENING.findall(table):
        raw = _address(address)
        mapped = raw.startswith(_MAPPED)
        family = socket.AF_INET if len(raw) == _IPV4_BYTES else socket.AF_INET6
        reached = raw[-_IPV4_BYTES:] in _REACHED_V4 if mapped or family == socket.AF_INET else raw == _REACHED_V6
        yield ListeningSocket(socket.inet_ntop(family, raw), int(port, 16), int(uid), int(inode), reached)


def own_inodes() -> frozenset[int]:
    """Return the sockets of this process."""
    return frozenset(inode for _, target in open_files("/proc/self") if (inode := _inode_of(target)))


def holders(inodes: Collection[int], known: Mapping[int, Holder | None]) -> dict[int, Holder | None]:
    """Return the holder of each of these sockets; None if this process may not see it.

    ``known`` is the previous result: existing holders, and sockets without one, are not searched for again.
    """
    found = {inode: known[inode] for inode in inodes if inode in known and _holds(known[inode], inode)}
    missing = set(inodes) - set(found)
    if missing:
        found |= dict.fromkeys(missing) | _search(missing)
    return found


def _search(missing: set[int]) -> dict[int, Holder | None]:
    """Search all processes until each socket was found; the oldest holder counts."""
    found: dict[int, Holder | None] = {}
    for pid in every_pid():
        for path, target in open_files(folder_of(pid)):
            inode = _inode_of(target)
            if inode in missing and inode not in found:
                found[inode] = Holder(pid, path)
        if len(found) == len(missing):
            break
    return found


def _holds(holder: Holder | None, inode: int) -> bool:
    return holder is None or _inode_of(target_of(holder.path)) == inode


def _inode_of(target: str) -> int:
    """Return the inode of the socket that a descriptor refers to; 0 for other descriptors."""
    return int(target[8:-1]) if target.startswith("socket:[") else 0


def _address(text: bytes) -> bytes:
    """Return an address in network order; the kernel prints 32-bit words in host order."""
    raw = bytes.fromhex(text.decode())
    if sys.byteorder == "big":
        return raw
    return b"".join(raw[at : at + _WORD_BYTES][::-1] for at in range(0, len(raw), _WORD_BYTES))
