"""Has the kernel refuse the real supervisor one call, once, with each error that it can give: strace's injection.

    python -m tests.chaos.refusals [CALL …]

Which calls there are follows from the code: `sites` finds each place that asks the kernel for something, `KERNEL` says
which of the kernel's calls that is, and a name that is in neither table fails a test. For each of those calls a life
is traced first, and then played again with the call refused at one place in it, from the moment on that our own code
runs. It may go on as if nothing had been, or end with one clear message and a code of the contract; never by a
traceback, with a child left, or not at all.
"""

from __future__ import annotations

import ast
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.client.calling import call
from tests.conventions.tree import modules
from tests.process.running import Run
from tests.support.processes import alive
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTORS = ("EMFILE", "ENFILE")
_DISK = ("ENOSPC", "EIO", "EROFS")
# The kernel's calls, and what each may answer (the man pages, section 2).
ERRORS: dict[str, tuple[str, ...]] = {
    "openat": (*_DESCRIPTORS, *_DISK, "EACCES", "ENOMEM", "EINTR"),
    # EAGAIN is what every pipe says that has been read empty, and no file does.
    "read": ("EIO", "EINTR"),
    "write": ("ENOSPC", "EIO", "EAGAIN", "EINTR", "EPIPE", "ENOMEM"),
    "getdents64": ("EIO", "ENOMEM"),
    "newfstatat": ("EACCES", "EIO", "ENOMEM"),
    "readlink": ("EACCES", "EIO", "ENOMEM"),
    "mkdir": (*_DISK, "EACCES", "EPERM"),
    "renameat": _DISK,
    "rename": _DISK,
    "unlinkat": ("EIO", "EROFS", "EACCES"),
    "unlink": ("EIO", "EROFS", "EACCES"),
    "fsync": ("EIO", "ENOSPC"),
    "ftruncate": ("EIO", "EINTR"),
    "flock": ("ENOSYS", "ENOLCK", "EINTR"),
    "fchmod": ("EPERM", "EROFS"),
    "chmod": ("EPERM", "EROFS"),
    "fchown": ("EPERM", "EROFS"),
    "chown": ("EPERM", "EROFS"),
    "pipe2": _DESCRIPTORS,
    "vfork": ("EAGAIN", "ENOMEM"),
    "clone3": ("EAGAIN", "ENOMEM", "EPERM"),
    "kill": ("EPERM",),
    "wait4": ("EINTR",),
    "socket": (*_DESCRIPTORS, "ENOMEM", "EPERM"),
    "bind": ("EADDRINUSE", "EACCES", "ENOMEM"),
    "listen": ("EADDRINUSE",),
    "connect": ("EAGAIN", "ECONNREFUSED", "EINTR"),
    "accept4": (*_DESCRIPTORS, "ENOMEM", "EAGAIN", "EINTR", "ECONNABORTED", "EPERM"),
    "recvfrom": ("ECONNRESET", "EAGAIN", "EINTR"),
    "sendto": ("ECONNRESET", "EPIPE", "EAGAIN", "EINTR"),
    "setsockopt": ("ENOMEM", "ENOPROTOOPT"),
    "getsockopt": ("ENOMEM", "ENOPROTOOPT"),
    "epoll_create1": (*_DESCRIPTORS, "ENOMEM"),
    "epoll_ctl": ("ENOMEM", "ENOSPC"),
    "epoll_wait": ("EINTR",),
    "prctl": ("ENOSYS", "EPERM", "EINVAL"),
    "prlimit64": ("EPERM", "ENOSYS"),
    "fcntl": ("EINVAL", "EMFILE"),
    "dup2": ("EMFILE", "EINTR"),
}
# What a name of Python's asks the kernel for.
KERNEL: dict[str, tuple[str, ...]] = {
    "open": ("openat",),
    "os.open": ("openat",),
    "os.read": ("read",),
    "os.write": ("write",),
    "os.listdir": ("openat", "getdents64"),
    "os.walk": ("openat", "getdents64"),
    "os.fwalk": ("openat", "getdents64"),
    "shutil.rmtree": ("openat", "getdents64", "unlinkat"),
    "os.stat": ("newfstatat",),
    "os.lstat": ("newfstatat",),
    "os.fstat": ("newfstatat",),
    "os.access": ("newfstatat",),
    "os.statvfs": ("newfstatat",),
    "os.readlink": ("readlink",),
    "os.mkdir": ("mkdir",),
    "os.makedirs": ("mkdir",),
    "os.rename": ("rename", "renameat"),
    "os.replace": ("rename",),
    "os.unlink": ("unlink", "unlinkat"),
    "os.rmdir": ("unlinkat",),
    "os.fsync": ("fsync",),
    "os.ftruncate": ("ftruncate",),
    "fcntl.flock": ("flock",),
    "fcntl.fcntl": ("fcntl",),
    "os.set_blocking": ("fcntl",),
    "os.fchmod": ("fchmod",),
    "os.chmod": ("chmod",),
    "os.fchown": ("fchown",),
    "os.chown": ("chown",),
    "os.removexattr": ("fcntl",),
    "os.listxattr": ("fcntl",),
    "os.pipe": ("pipe2",),
    "os.dup2": ("dup2",),
    "os.kill": ("kill",),
    "os.killpg": ("kill",),
    "os.wait4": ("wait4",),
    "subprocess.Popen": ("pipe2", "vfork"),
    "threading.Thread": ("clone3",),
    "socket.socket": ("socket",),
    "socket.create_connection": ("socket", "connect"),
    "asyncio.run": ("epoll_create1", "epoll_ctl", "epoll_wait", "recvfrom"),
    "select.select": ("epoll_wait",),
    "signal.pidfd_send_signal": ("kill",),
    "resource.getrlimit": ("prlimit64",),
    "resource.setrlimit": ("prlimit64",),
    "libc.prctl": ("prctl",),
}
# Methods of sockets and of the loop, whatever the object is called.
METHODS = {"bind": "bind", "listen": "listen", "accept": "accept4", "connect_ex": "connect", "setsockopt": "setsockopt"}
METHODS |= {"getsockopt": "getsockopt", "add_reader": "epoll_ctl", "recv": "recvfrom", "send": "sendto"}
# Names that ask for nothing that could be refused, or whose refusal has no meaning.
HARMLESS = frozenset(
    f"{module}.{name}"
    for module, names in {
        "os": """close getpid geteuid getuid getgrouplist urandom fsencode fsdecode strerror sysconf isatty umask
              setpriority getcwd get_terminal_size _exit waitstatus_to_exitcode path environ devnull defpath
              stat_result statvfs_result major minor""",
        "socket": "inet_aton inet_pton inet_ntop getaddrinfo AddressFamily SocketType",
        "signal": "signal getsignal valid_signals set_wakeup_fd pthread_sigmask Signals default_int_handler",
        "subprocess": "SubprocessError TimeoutExpired",
    }.items()
    for name in names.split()
)
_MODULES = frozenset({"os", "socket", "fcntl", "select", "subprocess", "signal", "shutil"})
# What tells in a trace that from here on it is our own code that runs, and no longer Python's own beginning.
_OURS = "supervisor/commands/__pycache__/run."
_PLACES = 6
_CODES = frozenset({0, 70, 78, 126, 127})
_DEADLINE_S = 25.0
APP = ("sh", "-c", "echo ready; exec sleep 300")


class Site(NamedTuple):
    """A place in the package that asks the kernel for something."""

    module: str
    line: int
    name: str


def sites() -> Iterator[Site]:
    """Yield every such place."""
    for module in modules("supervisor"):
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Attribute | ast.Name):
                continue
            name = ast.unparse(node)
            if name in KERNEL or (isinstance(node, ast.Attribute) and ast.unparse(node.value) in _MODULES):
                if not name.rpartition(".")[2].isupper():
                    yield Site(module.name, node.lineno, name)
            elif isinstance(node, ast.Attribute) and node.attr in METHODS:
                yield Site(module.name, node.lineno, node.attr)


def calls_of(name: str) -> tuple[str, ...]:
    """Return the kernel's calls that a name stands for. Raises KeyError for one that is in no table."""
    if name in HARMLESS:
        return ()
    return (METHODS[name],) if name in METHODS else KERNEL[name]


def _tracing(call_name: str, trace: str, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the words that go before a command; what it starts itself is let go at its exec."""
    return ("strace", "-D", "-f", "-qq", "-b", "execve", "-o", trace, "-e", f"trace={call_name}", *more)


def places(call_name: str) -> list[int]:
    """Return by their numbers the places in a life at which our own code makes this call, in its first thread."""
    with tempfile.TemporaryDirectory(prefix="refused-") as folder:
        trace = f"{folder}/trace"
        _live(_tracing(f"openat,{call_name}", trace))
        lines = Path(trace).read_text().splitlines()
    first = lines[0].split()[0]
    own = [line.partition(" ")[2].strip() for line in lines if line.startswith(f"{first} ")]
    begin = next(number for number, line in enumerate(own) if _OURS in line)
    before = sum(line.startswith(f"{call_name}(") for line in own[:begin])
    total = sum(line.startswith(f"{call_name}(") for line in own)
    return list(range(before + 1, total + 1))


class Outcome(NamedTuple):
    """How a life went."""

    code: int | None
    stderr: str
    left: list[int]
    said: list[str]


def _live(prefix: tuple[str, ...]) -> Outcome:
    """Start, look at the API, restart the app, and stop, as far as it comes."""
    run = Run(*APP, prefix=prefix)
    try:
        with contextlib.suppress(AssertionError):
            run.wait_for("ready", 8.0)
            wait_until(lambda: _is_over(run) or call(run.run_dir, "status").code == 0, 5.0)
            if not _is_over(run):
                call(run.run_dir, "restart", "moltis")
                run.wait_count(2, "ready", 5.0)
        with contextlib.suppress(Exception):
            if not _is_over(run):
                run.popen.terminate()
            run.popen.wait(_DEADLINE_S)
        # What was killed at the end takes a moment to go.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not _left(run), 2.0)
        left = _left(run)
        said = [f"{record.get('message')} {record.get('why', '')}" for record in run.records]
        return Outcome(run.popen.poll(), "" if run.popen.poll() is None else run.stderr, left, said)
    finally:
        run.close()


def _is_over(run: Run) -> bool:
    return run.popen.poll() is not None


def _left(run: Run) -> list[int]:
    home = f"HOME={run.folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            pid = int(path.parent.name)
            if home in words and any(word.startswith(b"SUPERVISED_PROCESS=") for word in words) and alive(pid):
                found.append(pid)
    return found


def wrong(outcome: Outcome) -> str:
    """Return what may not be of how a life went."""
    if outcome.code is None:
        return "it did not end"
    # Python's own word for a wake that the kernel refused.
    stderr = outcome.stderr.partition("Exception ignored when trying to write to the signal wakeup fd")[0]
    if "Traceback" in stderr:
        return f"a traceback: {outcome.stderr.strip().splitlines()[-1]}"
    if outcome.code not in _CODES:
        return f"exit code {outcome.code}: {outcome.stderr[-200:]}"
    if outcome.left:
        return f"{outcome.left} left"
    if (
        outcome.code
        and not outcome.stderr
        and not any("stopped" in line or "stopping" in line for line in outcome.said)
    ):
        return f"exit code {outcome.code} without a word"
    inner = [line for line in outcome.said if line.startswith("internal error")]
    # Where it went on, a client or a part of it was told of, and was tried again.
    return inner[0][:200] if inner and outcome.code else ""


def refuse(call_name: str, error: str, place: int) -> Outcome:
    """Play a life in which the kernel refuses this call at one place."""
    with tempfile.TemporaryDirectory(prefix="refused-") as folder:
        inject = ("-e", f"inject={call_name}:error={error}:when={place}")
        return _live(_tracing(call_name, f"{folder}/trace", inject))


def main() -> int:
    """Try all calls, or those named; return how often something was wrong."""
    wanted = sys.argv[1:] or sorted({each for site in sites() for each in calls_of(site.name)})
    tried = bad = 0
    for call_name in wanted:
        begun_s = time.monotonic()
        own = places(call_name)
        chosen = sorted(random.Random(call_name).sample(own, min(_PLACES, len(own))))
        for error in ERRORS[call_name]:
            for place in chosen:
                tried += 1
                what = wrong(refuse(call_name, error, place))
                if what:
                    bad += 1
                    print(f"  {call_name} {error} at {place} of {own[-1]}: {what}", flush=True)
        took_s = time.monotonic() - begun_s
        errors = " ".join(ERRORS[call_name])
        print(f"{call_name:15} {len(chosen):3} of {len(own):4} places  {errors}  {took_s:.0f} s", flush=True)
    print(f"{tried} refusals, {bad} of them not as they should be")
    return bad


if __name__ == "__main__":
    sys.exit(main())
