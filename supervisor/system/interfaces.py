"""The network interfaces of this machine, by the kernel's own calls (netdevice(7))."""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from typing import TYPE_CHECKING

from supervisor.system.procfs import read

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIOCGIFCONF = 0x8912
_SIOCGIFFLAGS = 0x8913
_UP = 1
_NAME_BYTES = 16
# struct ifreq: the name and a union; an IPv4 address stands behind its family and port.
_REQUEST_BYTES = _NAME_BYTES + (24 if struct.calcsize("P") == 8 else 16)  # noqa: PLR2004 - of a pointer
_ADDRESS = slice(_NAME_BYTES + 4, _NAME_BYTES + 8)
_MOST_BYTES = 1 << 20


def has_network() -> bool:
    """Return whether tailscaled finds a network: an address on an interface that is up; True if the kernel won't say.

    Loopback and link-local addresses do not count (netmon.State.AnyInterfaceUp of tailscaled 1.102), nor does a
    tailnet's interface. No route is needed.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            found = (*_v4_addresses(asker), *_v6_addresses())
            usable = (name for name, address in found if _is_usable(address) and not name.startswith(b"tailscale"))
            return any(_is_up(asker, name) for name in usable)
    except OSError:
        return True


def _v4_addresses(asker: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    size = 64 * _REQUEST_BYTES
    while True:
        buffer = array.array("B", bytes(size))
        conf = fcntl.ioctl(asker, _SIOCGIFCONF, struct.pack("iP", size, buffer.buffer_info()[0]))
        filled = struct.unpack("iP", conf)[0]
        # It is cut off without a word if it does not fit.
        if filled < size or size >= _MOST_BYTES:
            break
        size *= 4
    for at in range(0, filled, _REQUEST_BYTES):
        request = buffer[at : at + _REQUEST_BYTES].tobytes()
        yield request[:_NAME_BYTES].partition(b"\0")[0], request[_ADDRESS]


def _v6_addresses() -> Iterator[tuple[bytes, bytes]]:
    # proc(5): address, index, prefix length, scope, flags, name.
    for line in read("/proc/net/if_inet6").splitlines():
        address, *_, name = line.split()
        yield name, bytes.fromhex(address.decode())


def _is_usable(address: bytes) -> bool:
    if len(address) == 4:  # noqa: PLR2004 - of IPv4
        return address[0] != 127 and address[:2] != b"\xa9\xfe"  # noqa: PLR2004 - 127.0.0.0/8, 169.254.0.0/16
    is_of_tailnet = address.startswith(b"\xfd\x7a\x11\x5c\xa1\xe0")
    # 2000::/3 and fc00::/7.
    return address[0] >> 5 == 1 or (address[0] >> 1 == 0x7E and not is_of_tailnet)  # noqa: PLR2004


def _is_up(asker: socket.socket, name: bytes) -> bool:
    request = struct.pack(f"{_REQUEST_BYTES}s", name)
    try:
        flags = fcntl.ioctl(asker, _SIOCGIFFLAGS, request)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        # It has just been removed.
        return False
    return bool(struct.unpack_from("h", flags, _NAME_BYTES)[0] & _UP)
