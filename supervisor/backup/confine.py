"""Lets a program read below some folders only, by Landlock (Linux 5.13 and newer), then becomes that program.

    python -I -m supervisor.backup.confine FD… PATH… -- PROGRAM WORD…

restic reads the app's folders as root: the app could replace a folder by a link between two checks, and make it read
whatever root may. FD are open folders, PATH files and folders that need not exist. Where the kernel
has no Landlock, as in gVisor, the program runs unconfined; on any other failure it does not run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from contextlib import suppress

# linux/landlock.h; the numbers of these system calls are the same on all processors.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
# linux/prctl.h
_SET_NO_NEW_PRIVS = 38
# From a kernel without it, one that was started without it, and a filter of system calls that does not know it.
_ABSENT = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_libc = ctypes.CDLL(None, use_errno=True)


def main(words: list[str]) -> None:
    """Confine this process and execute the program. Raises OSError if it cannot be executed."""
    at = words.index("--")
    allowed, command = words[:at], words[at + 1 :]
    ruleset_fd = _call(_CREATE_RULESET, struct.pack("=Q", _READ_FILE | _READ_FOLDER), 8, 0)
    if ruleset_fd < 0 and ctypes.get_errno() not in _ABSENT:
        raise _failure()
    if ruleset_fd >= 0:
        for each in allowed:
            with suppress(OSError):
                _allow(ruleset_fd, int(each) if each.isdecimal() else os.open(each, os.O_PATH | os.O_CLOEXEC))
        # Landlock requires this of an unprivileged process.
        _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _call(_RESTRICT_SELF, ruleset_fd, 0) < 0:
            raise _failure()
        os.close(ruleset_fd)
    os.execve(command[0], command, os.environ)  # noqa: S606 - this process becomes the program


def _allow(ruleset_fd: int, fd: int) -> None:
    is_folder = os.path.isdir(f"/proc/self/fd/{fd}")
    access = _READ_FILE | _READ_FOLDER if is_folder else _READ_FILE
    # Without the rule restic cannot read it, and says so.
    _call(_ADD_RULE, ruleset_fd, _PATH_BENEATH, struct.pack("=Qi", access, fd), 0)


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"cannot confine it to the folders that it backs up: {os.strerror(number)}")


def _call(number: int, *words: int | bytes) -> int:
    return int(_libc.syscall(number, *words))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"cannot run {sys.argv[sys.argv.index('--') + 1]}: {error.strerror}")
