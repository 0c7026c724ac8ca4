"""Runs a command in a world whose kernel refuses PR_SET_CHILD_SUBREAPER and pidfd_open, as small sandboxes do.

A seccomp filter answers EINVAL to the one and ENOSYS to the other (seccomp(2), struct sock_filter).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _FIRST_ARGUMENT = 0, 16
_PRCTL = {"x86_64": 157, "aarch64": 167}[platform.machine()]
_PIDFD_OPEN = 434
_PR_SET_CHILD_SUBREAPER, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 36, 22, 38

PROGRAM = (
    (_LOAD, 0, 0, _NUMBER),
    (_JUMP_EQUAL, 4, 0, _PIDFD_OPEN),
    (_JUMP_EQUAL, 0, 2, _PRCTL),
    (_LOAD, 0, 0, _FIRST_ARGUMENT),
    (_JUMP_EQUAL, 2, 0, _PR_SET_CHILD_SUBREAPER),
    (_RETURN, 0, 0, _ALLOW),
    (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    (_RETURN, 0, 0, _ERRNO | errno.EINVAL),
)


def main() -> None:
    """Put the filter in place, then become the command."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in PROGRAM))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(PROGRAM), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot set a seccomp filter")
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606


if __name__ == "__main__":
    main()
