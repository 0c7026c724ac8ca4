"""Runs a command with some system calls failing, as in small sandboxes and on unusual file systems.

    python refusing.py CALL=ERRNO[@VALUE] … -- COMMAND …

``VALUE`` restricts it to calls whose deciding argument has that value. A seccomp filter does this (seccomp(2), struct
sock_filter).
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
_NUMBER, _FIRST_ARGUMENT, _ARGUMENT_BYTES = 0, 16, 8
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
# The call's number by machine, and the index of the deciding argument.
_MACHINE = ["x86_64", "aarch64"].index(platform.machine())
_CALLS = {
    "fchown": ((93, 55), 0),
    "flock": ((73, 32), 0),
    "fsync": ((74, 82), 0),
    "kill": ((62, 129), 1),
    "pidfd_open": ((434, 434), 0),
    "prctl": ((157, 167), 0),
}

Line = tuple[int, int, int, int]


def refusing(*rules: str) -> tuple[str, ...]:
    """Return the command prefix that makes these calls fail."""
    return (sys.executable, "-m", __name__, *rules, "--")


def _rule(word: str) -> list[Line]:
    call, _, refusal = word.partition("=")
    name, at, value = refusal.partition("@")
    numbers, deciding = _CALLS[call]
    answer: list[Line] = [(_RETURN, 0, 0, _ERRNO | int(getattr(errno, name)))]
    if at:
        argument = _FIRST_ARGUMENT + deciding * _ARGUMENT_BYTES
        answer = [(_LOAD, 0, 0, argument), (_JUMP_EQUAL, 0, 1, int(value)), *answer]
    return [(_LOAD, 0, 0, _NUMBER), (_JUMP_EQUAL, 0, len(answer), numbers[_MACHINE]), *answer]


def main() -> None:
    """Install the filter, then execute the command."""
    end = sys.argv.index("--")
    lines = [line for word in sys.argv[1:end] for line in _rule(word)] + [(_RETURN, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot set a seccomp filter")
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])  # noqa: S606


if __name__ == "__main__":
    main()
