"""Runs in a container as the app's user: tries every way out, and prints those that are open as one line of JSON.

Its first argument is a file to wait for, or empty; its second the highest port to try.
It imports only modules that Debian's Python has.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The beginning of conftest.py's key, split so that this file does not match itself.
SECRET = b"tskey-auth-kThe" + b"TestsOwnKey"
MOST_BYTES = 1 << 20
JSON = {"Content-Type": "application/json"}
PTRACE_ATTACH = 16
PTRACE_DETACH = 17
ROOT_READS = ("/opt/moltis-supervisor", "/usr/bin", "/usr/lib/python3", "/usr/local/bin", "/etc", "/lib", "/bin")
RUN = "/run/moltis-supervisor" if os.path.isdir("/run/moltis-supervisor") else f"/tmp/moltis-supervisor-{os.getuid()}"
# The files of a process in /proc that any user may read.
PUBLIC = frozenset(
    [
        *("arch_status", "autogroup", "cgroup", "cmdline", "comm", "coredump_filter", "cpu_resctrl_groups", "cpuset"),
        *("children", "ksm_stat", "latency", "limits", "loginuid", "mountinfo", "mounts", "numa_maps", "schedstat"),
        *("oom_adj", "oom_score", "oom_score_adj", "projid_map", "gid_map", "sched", "sessionid", "setgroups"),
        *("stat", "statm", "status", "timens_offsets", "uid_map", "wchan", "ksm_merging_pages", "seccomp_cache"),
    ]
)
SOCKETS = (f"{RUN}/control.sock", f"{RUN}/tailscale/tailscaled.sock")
HIGHEST_PORT = int((*sys.argv, "", "65535")[2 if len(sys.argv) > 2 else -1])
libc = ctypes.CDLL(None, use_errno=True)


def read(path: str) -> bytes | None:
    """Return the beginning of a file; None if it cannot be read."""
    try:
        # Do not block on a pipe or a device.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(fd, MOST_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return None


def others() -> Iterator[tuple[str, str]]:
    """Yield the pid and the program of each process of the supervisor and of tailscaled."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        words = (read(f"/proc/{pid}/cmdline") or b"").split(b"\0")
        if b"supervisor" in words:
            yield pid, "supervisor"
        elif words[0].endswith(b"tailscaled"):
            yield pid, "tailscaled"


def processes() -> Iterator[str]:
    """Try to read the other processes, and to attach to them."""
    for pid, name in others():
        yield from (f"{way} of {name}" for way in entries(f"/proc/{pid}"))
        if peeked(int(pid)):
            yield f"memory of {name}"
        with contextlib.suppress(OSError):
            os.kill(int(pid), 0)
            yield f"signals to {name}"
        if libc.ptrace(PTRACE_ATTACH, int(pid), None, None) == 0:
            os.waitpid(int(pid), 0)
            libc.ptrace(PTRACE_DETACH, int(pid), None, None)
            yield f"ptrace of {name}"


def entries(process: str) -> Iterator[str]:
    """Yield what can be read in the folders of a process and its threads, except what is public."""
    for folder in (process, *(f"{process}/task/{task}" for task in names(f"{process}/task"))):
        for file in names(folder):
            if file not in PUBLIC and read(f"{folder}/{file}"):
                yield file
        for number in names(f"{folder}/fd") or map(str, range(64)):
            if read(f"{folder}/fd/{number}") is not None:
                yield f"what descriptor {number} leads to"
    for link in ("exe", "cwd", "root", "fd/1", "ns/mnt"):
        with contextlib.suppress(OSError):
            yield f"{link} {os.readlink(f'{process}/{link}')}"
    for folder in ("fd", "fdinfo", "map_files"):
        if names(f"{process}/{folder}"):
            yield f"the list {folder}"


def names(folder: str) -> list[str]:
    """Return the names in a folder; nothing if it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def peeked(pid: int) -> bool:
    """Return whether another process's memory may be read; EFAULT means that only the address was wrong."""
    byte = ctypes.create_string_buffer(1)
    vectors = [(ctypes.c_size_t * 2)(address, 1) for address in (ctypes.addressof(byte), 4096)]
    ctypes.set_errno(0)
    copied = libc.process_vm_readv(pid, vectors[0], 1, vectors[1], 1, 0)
    return bool(copied == 1 or ctypes.get_errno() == errno.EFAULT)


def told() -> Iterator[str]:
    """Look for the key in what any process may read: its environment, and all arguments and environments."""
    for name in os.environ:
        if name.startswith(("TS_", "SUPERVISOR_")):
            yield f"{name} in the own environment"
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        for file in ("cmdline", "environ", "comm", "status"):
            if SECRET in (read(f"/proc/{pid}/{file}") or b""):
                yield f"the key in /proc/{pid}/{file}"


def files() -> Iterator[str]:
    """Look for the key in every file, and for writable files among those that root uses."""
    for folder, folders, names in os.walk("/"):
        if folder == "/":
            folders[:] = [name for name in folders if name not in {"proc", "sys", "dev"}]
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path) and SECRET in (read(path) or b""):
                yield f"the key in {path}"
        if folder.startswith(ROOT_READS):
            yield from (f"may change {path}" for path in changeable(folder, names))
    for folder in ("/var/lib/tailscale", RUN, f"{RUN}/tailscale"):
        with contextlib.suppress(OSError):
            yield f"the list of {folder}: {sorted(os.listdir(folder))}"


def changeable(folder: str, names: list[str]) -> Iterator[str]:
    """Yield the folder and its files that may be written."""
    for path in (folder, *(os.path.join(folder, name) for name in names)):
        if not os.path.islink(path) and os.access(path, os.W_OK):
            yield path


def sockets() -> Iterator[str]:
    """Send orders to the sockets of the supervisor and of tailscaled."""
    orders = (("POST", "/api/tailscale/disconnect"), ("GET", "/localapi/v0/prefs"), ("PATCH", "/localapi/v0/prefs"))
    for path in SOCKETS:
        for method, where in orders:
            connection = http.client.HTTPConnection("local-tailscaled.sock", timeout=5)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.connect(path)
                connection.request(method, where, "{}", JSON)
                if connection.getresponse().status < 400:
                    yield f"{method} {where} on {os.path.basename(path)}"


def loopback() -> Iterator[str]:
    """Try orders of an owner or tailnet administrator on all reachable ports, and at Tailscale's own address."""
    mine = socket.gethostbyname(socket.gethostname())
    for host in (mine, "127.0.0.1", "127.0.0.2", "::1", "100.100.100.100"):
        ports = (80, 443, 8080) if host == "100.100.100.100" else range(1, HIGHEST_PORT + 1)
        for port in filter(lambda port, host=host: listens(host, port), ports):
            yield from (f"{order} on {host}:{port}" for order in open_orders(host, port))


def listens(host: str, port: int) -> bool:
    """Return whether the port accepts connections."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def open_orders(host: str, port: int) -> Iterator[str]:
    """Yield the orders that are carried out without a secret."""
    orders = (
        ("GET", "/localapi/v0/status"),
        ("GET", "/localapi/v0/prefs"),
        ("PATCH", "/localapi/v0/prefs"),
        ("POST", "/api/tailscale/disconnect"),
        ("POST", "/api/processes/moltis/stop"),
        ("GET", "/api/logs"),
        ("GET", "/api/data"),
        ("GET", "/debug/pprof/"),
    )
    for method, path in orders:
        for name in ("local-tailscaled.sock", f"localhost:{port}"):
            connection = http.client.HTTPConnection(host, port, timeout=3)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.request(
                    method, path, "{}", JSON | {"Host": name, "Tailscale-User-Login": "owner@example.com"}
                )
                if connection.getresponse().status < 400:
                    yield f"{method} {path} as {name}"


def root() -> Iterator[str]:
    """Try to become root."""
    for words in (["sudo", "-n", "id", "-u"], ["su", "-c", "id -u", "root"]):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
            if done.stdout.strip() == b"0":
                yield " ".join(words)
    with contextlib.suppress(OSError):
        os.setuid(0)
        yield "setuid"


def main() -> None:
    """Wait for the file, try all ways, print the result."""
    while sys.argv[1:] and sys.argv[1] and not os.path.exists(sys.argv[1]):
        time.sleep(0.1)
    tries: list[Callable[[], Iterator[str]]] = [processes, told, files, sockets, loopback, root]
    found = {way.__name__: sorted(set(way())) for way in tries}
    print("ESCAPE " + json.dumps({"uid": os.getuid(), "found": {name: ways for name, ways in found.items() if ways}}))
    sys.stdout.flush()


main()
