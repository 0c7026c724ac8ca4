"""A disk that does not answer, as one in a network that is away: everything that touches it waits."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICE = "/dev/fuse"
# linux/fuse.h, linux/mount.h
_INIT = 26
_MNT_FORCE, _MNT_DETACH = 1, 2
_REQUEST = struct.Struct("=IIQ")
_ANSWER = struct.Struct("=IiQ")


def may_hang() -> bool:
    """Return whether such a disk can be had here: it takes root, and FUSE."""
    return os.geteuid() == 0 and os.access(DEVICE, os.R_OK | os.W_OK)


@contextlib.contextmanager
def hanging(folder: str) -> Iterator[None]:
    """Mount it over a folder for the length of a block; whoever waits for it gets an error at the end."""
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        if libc.mount(b"hanging", os.fsencode(folder), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), f"cannot mount FUSE over {folder}")
        threading.Thread(target=_say_hello, args=(fd,), daemon=True).start()
        try:
            yield
        finally:
            libc.umount2(os.fsencode(folder), _MNT_FORCE | _MNT_DETACH)
    finally:
        os.close(fd)


def _say_hello(fd: int) -> None:
    """Answer the first request, in which the kernel asks for the protocol's version.

    No other is taken: a process that waits for one that was taken could not be killed.
    """
    with contextlib.suppress(OSError):
        _, opcode, number = _REQUEST.unpack_from(os.read(fd, 1 << 17))
        assert opcode == _INIT
        answer = struct.pack("=IIII48x", 7, 31, 0, 0)
        os.write(fd, _ANSWER.pack(_ANSWER.size + len(answer), 0, number) + answer)
