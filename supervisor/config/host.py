"""What the plan has to ask the machine: who we are, who exists, which port is free."""

from __future__ import annotations

import os
import pwd

from supervisor.core.process import User

CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
NEEDED_BY_ROOT = {"KILL": CAP_KILL, "SETGID": CAP_SETGID, "SETUID": CAP_SETUID}

# Not 127.0.0.1, which networking in user space leads every tailnet peer to.
APP_LOOPBACK = "127.0.0.2"
IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class Host:
    """The machine as this process sees it; tests give one of their own."""

    def __init__(self) -> None:
        self.uid = os.geteuid()
        self.cwd = _working_directory()

    @property
    def home(self) -> str:
        """Return this process's own home folder."""
        try:
            return pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            return "/"

    def find_user(self, name: str) -> User | None:
        """Return the user of that name, or number."""
        try:
            entry = pwd.getpwuid(int(name)) if name.isascii() and name.isdecimal() else pwd.getpwnam(name)
        except (KeyError, OverflowError, ValueError):
            return None
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)

    def groups_of(self, user: User) -> frozenset[int]:
        """Return the ids of every group a user is in."""
        return frozenset(os.getgrouplist(user.name, user.gid))

    def missing_capabilities(self) -> tuple[str, ...]:
        """Return the capabilities that changing users and stopping them takes, and that this process lacks."""
        mask = _effective_capabilities()
        return tuple(name for name, bit in NEEDED_BY_ROOT.items() if not mask >> bit & 1)

    def folder_exists(self, path: str) -> bool:
        """Tell whether a folder is there."""
        return os.path.isdir(path)

    def outlives_container(self, path: str) -> bool:
        """Tell whether a folder is a mount of its own, and not one in memory."""
        return os.path.ismount(path) and _mounted(path) not in IN_MEMORY

    def free_port(self, address: str) -> int:
        """Return a port of an address that no one listens on just now; 0 where none can be had."""
        return free_port(address)

    def private_address(self) -> str:
        """Return the address of the loopback that no tailnet peer reaches."""
        return "::1" if not self.free_port(APP_LOOPBACK) and self.free_port("::1") else APP_LOOPBACK

    def wildcard(self) -> str:
        """Return what stands for every address to a program that takes one: IPv6's where nothing else leads out."""
        return "::" if not _has_route("192.0.2.1") and _has_route("2001:db8::1") else "0.0.0.0"


def free_port(address: str) -> int:
    """Return a port of an address that no one listens on just now; 0 where none can be had."""
    import socket

    try:
        with socket.socket(family_of(address), socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
            return int(probe.getsockname()[1])
    except OSError:
        return 0


def family_of(address: str) -> int:
    """Return the socket family of an IP address."""
    import socket

    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _has_route(address: str) -> bool:
    """Tell whether a packet to an address would leave; none does."""
    import socket

    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"


def _mounted(path: str) -> str:
    """Return the type of the file system that is mounted on a folder; empty where the kernel does not tell."""
    real = os.fsencode(os.path.realpath(path))
    try:
        with open("/proc/self/mountinfo", "rb", buffering=0) as file:
            lines = [line.split(b" ") for line in file.read().splitlines()]
        # proc(5): the mount point is the fifth word, the type the first after a lone dash; the last mount counts.
        found = [words[words.index(b"-") + 1] for words in lines if words[4] == real]
    except (OSError, ValueError, IndexError):
        return ""
    return found[-1].decode(errors="replace") if found else ""


def _effective_capabilities() -> int:
    """Return the mask of the capabilities in force; all of them where the kernel does not tell."""
    try:
        with open("/proc/self/status", "rb", buffering=0) as file:
            status = file.read()
        return int(status.partition(b"\nCapEff:")[2].split(maxsplit=1)[0], 16)
    except (OSError, ValueError, IndexError):
        return -1
