"""The places of the package that make system calls, which calls these are, and the errors with which each may fail.

`sites` finds the places in the code, also those that read or write a file that `open` has returned. A name that is not
in KERNEL or METHODS and not harmless fails a test; so does an import by which a call could have another name
(`hidden_imports`), or of a module that is in no list.
"""

from __future__ import annotations

import ast
import asyncio
import socket
from typing import TYPE_CHECKING, NamedTuple

from tests.conventions.tree import imports, modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conventions.tree import Module

_DESCRIPTORS = ("EMFILE", "ENFILE")
_DISK = ("ENOSPC", "EIO", "EROFS")
# The system calls and their possible errors (man pages, section 2).
ERRORS: dict[str, tuple[str, ...]] = {
    "openat": (*_DESCRIPTORS, *_DISK, "EACCES", "ENOMEM", "EINTR"),
    # EAGAIN is the result of every empty pipe, and of no file.
    "read": ("EIO", "EINTR"),
    "readv": ("EIO", "EINTR"),
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
    "utimensat": ("EPERM", "EROFS"),
    "pipe2": _DESCRIPTORS,
    "vfork": ("EAGAIN", "ENOMEM"),
    "clone3": ("EAGAIN", "ENOMEM", "EPERM"),
    "kill": ("EPERM",),
    "wait4": ("EINTR",),
    "waitid": ("EINTR", "ENOSYS"),
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
    "poll": ("ENOMEM",),
    "prctl": ("ENOSYS", "EPERM", "EINVAL"),
    "prlimit64": ("EPERM", "ENOSYS"),
    "fcntl": ("EINVAL", "EMFILE"),
    "ioctl": ("ENOTTY", "EPERM"),
    "dup2": ("EMFILE", "EINTR"),
    "landlock_create_ruleset": ("ENOSYS", "EMFILE", "ENOMEM"),
    "landlock_add_rule": ("ENOMEM",),
    "landlock_restrict_self": ("EPERM", "ENOMEM"),
}
# The system calls that Python's functions make.
KERNEL: dict[str, tuple[str, ...]] = {
    "open": ("openat",),
    "os.open": ("openat",),
    "os.read": ("read",),
    "os.readv": ("readv",),
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
    "fcntl.ioctl": ("ioctl",),
    "os.set_blocking": ("fcntl",),
    "os.fchmod": ("fchmod",),
    "os.chmod": ("chmod",),
    "os.fchown": ("fchown",),
    "os.chown": ("chown",),
    "os.utime": ("utimensat",),
    "os.removexattr": ("fcntl",),
    "os.listxattr": ("fcntl",),
    "os.pipe": ("pipe2",),
    "os.dup": ("fcntl",),
    "os.dup2": ("dup2",),
    "os.kill": ("kill",),
    "os.killpg": ("kill",),
    "os.wait4": ("wait4",),
    "os.waitid": ("waitid",),
    "subprocess.Popen": ("pipe2", "vfork"),
    "threading.Thread": ("clone3",),
    "socket.socket": ("socket",),
    "socket.create_connection": ("socket", "connect"),
    "asyncio.run": ("epoll_create1", "epoll_ctl", "epoll_wait", "recvfrom"),
    "select.select": ("epoll_wait",),
    "select.poll": ("poll",),
    "signal.pidfd_send_signal": ("kill",),
    "resource.getrlimit": ("prlimit64",),
    "resource.setrlimit": ("prlimit64",),
    "libc.prctl": ("prctl",),
    "_libc.prctl": ("prctl",),
    "_libc.syscall": ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"),
    "selectors.DefaultSelector": ("epoll_create1",),
    "asyncio.Runner": ("socket", "epoll_ctl"),
    "asyncio.open_connection": ("socket", "connect"),
    "asyncio.open_unix_connection": ("socket", "connect"),
    "sqlite3.connect": ("openat",),
    # Of files that `open` has returned.
    "file.read": ("read",),
    "file.readline": ("read",),
    "file.write": ("write",),
    "json.load": ("read",),
    "json.dump": ("write",),
}
# At these places the call never fails with that error: a pipe has no EIO (pipe(7)).
UNREAL = {
    ("supervisor.system.signals", "os.read"): "EIO",
    ("supervisor.backup.programs", "os.read"): "EIO",
    ("supervisor.logs.pipe", "os.readv"): "EIO",
}
# Methods of sockets and of the loop, whatever the object's name.
METHODS = {"bind": "bind", "listen": "listen", "accept": "accept4", "connect_ex": "connect", "setsockopt": "setsockopt"}
METHODS |= {"getsockopt": "getsockopt", "add_reader": "epoll_ctl", "recv": "recvfrom", "send": "sendto"}
METHODS |= {"connect": "connect", "dup": "fcntl", "sendall": "sendto", "sendto": "sendto"}
METHODS |= {"connect_accepted_socket": "epoll_ctl"}
# Other methods of sockets, which cannot fail in a relevant way; shutdown and getsockname only have errors of a broken
# connection.
_HARMLESS_METHODS = {"close", "detach", "fileno", "getpeername", "getsockname", "getblocking", "get_inheritable"}
_HARMLESS_METHODS |= {"gettimeout", "set_inheritable", "setblocking", "settimeout", "shutdown"}
_HARMLESS_METHODS |= {"family", "proto", "timeout", "type"}
_ASKING_METHODS = (
    frozenset(
        {name for name in dir(socket.socket) if not name.startswith("_")}
        | {
            name
            for name in dir(asyncio.SelectorEventLoop)
            if name.startswith(("add_reader", "add_writer", "sock_", "connect_"))
        }
        | {
            "create_connection",
            "create_server",
            "create_unix_connection",
            "create_unix_server",
            "create_datagram_endpoint",
        }
    )
    - _HARMLESS_METHODS
)
# Names that make no call that could fail, or whose failure has no effect. A refused execve has a test of its
# own (tests/backup/test_placing.py).
HARMLESS = frozenset(
    f"{module}.{name}"
    for module, names in {
        "libc": "setfsgid setfsuid",
        "ctypes": "CDLL byref c_char_p c_int c_size_t c_uint c_ulong get_errno",
        "asyncio": """AbstractEventLoop BaseTransport CancelledError Event Future IncompleteReadError LimitOverrunError
                   Lock Protocol SelectorEventLoop Semaphore StreamReader StreamWriter Task TaskGroup Timeout
                   TimerHandle Transport current_task gather get_running_loop shield sleep timeout timeout_at wait
                   wrap_future""",
        "threading": "Condition Event ExceptHookArgs Lock current_thread excepthook get_ident main_thread",
        "sqlite3": "Connection Error",
        "selectors": "BaseSelector",
        "json": "JSONDecodeError dumps loads",
        # Their sockets are refused by strace, as they are opened in the libraries.
        "urllib.request": "BaseHandler HTTPRedirectHandler ProxyHandler Request build_opener",
        "http.client": "HTTPConnection HTTPException HTTPResponse HTTPSConnection IncompleteRead",
        "anyio": """CancelScope Event Lock Semaphore abc create_task_group fail_after move_on_after sleep
                 sleep_forever""",
        "file": "fileno seek",
        "os": """close getpid geteuid getegid getuid getgrouplist urandom fsencode fsdecode strerror sysconf isatty
              umask setpriority getcwd get_terminal_size _exit waitstatus_to_exitcode path environ devnull defpath
              stat_result statvfs_result major minor makedev execve
              getpriority""",
        "socket": "inet_aton inet_pton inet_ntop getaddrinfo AddressFamily SocketType",
        "signal": "signal getsignal valid_signals set_wakeup_fd pthread_sigmask Signals default_int_handler",
        "subprocess": "SubprocessError TimeoutExpired",
    }.items()
    for name in names.split()
)
# Our own objects with a method of such a name that are not sockets.
_NO_SOCKETS = frozenset(
    {"self._sender", "sender", "self._watcher", "context.channels.backups", "context.channels.tailnet"}
)
_MODULES = frozenset(
    {
        *("os", "socket", "fcntl", "select", "selectors", "subprocess", "signal", "shutil", "resource", "threading"),
        *("asyncio", "anyio", "sqlite3", "ctypes", "libc", "_libc", "json", "urllib.request", "http.client"),
    }
)
# These alone are imported from such modules by name: they make no calls.
_BY_NAME = frozenset({"json.loads", "anyio.abc.TaskGroup", "urllib.request.getproxies", "urllib.request.proxy_bypass"})
# Modules of the standard library that make no calls that matter here: those of time and randomness cannot fail,
# `pwd` and `ssl` read the system's files at a start, and `getpass` asks an operator.
_QUIET = frozenset(
    name
    for names in (
        "__future__ _collections array base64 binascii bisect collections collections.abc concurrent.futures",
        "contextlib contextvars copy datetime difflib email.utils enum errno functools gc getpass gzip hashlib",
        "heapq hmac http importlib importlib.util io ipaddress itertools logging math platform pwd queue re shlex",
        "ssl stat struct sys time tomllib traceback types typing urllib.error urllib.parse zlib",
    )
    for name in names.split()
)
# Their calls are refused by strace.
_LIBRARIES = frozenset({"aiohttp", "msgspec", "opentelemetry", "prometheus_client", "segno", "structlog", "tenacity"})


class Site(NamedTuple):
    """A place in the package that uses such a function; ``calls`` is whether it calls it, or passes it on."""

    module: str
    line: int
    name: str
    calls: bool = True


def hidden_imports() -> Iterator[str]:
    """Yield the imports by which a place could make a call that `sites` does not see."""
    for module in modules("supervisor"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname or not (alias.name in _MODULES | _QUIET or _root(alias.name) in _LIBRARIES):
                        yield f"{module.name}:{node.lineno} import {alias.name}"
            elif isinstance(node, ast.ImportFrom) and node.module and _root(node.module) != "supervisor":
                for alias in node.names:
                    is_quiet = node.module in _QUIET or _root(node.module) in _LIBRARIES
                    if not is_quiet and f"{node.module}.{alias.name}" not in _BY_NAME:
                        yield f"{module.name}:{node.lineno} from {node.module} import {alias.name}"


def _root(name: str) -> str:
    return name.partition(".")[0]


def sites() -> Iterator[Site]:
    """Yield every place that calls one of these functions, and every other that names one."""
    for module in modules("supervisor"):
        yield from _of_files(module)
        callers = _MODULES & {*imports(module), "libc", "_libc"}
        called = {id(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call) and not _is_open(node)}
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Attribute | ast.Name):
                continue
            name = ast.unparse(node)
            calls = id(node) in called
            if name in KERNEL or (isinstance(node, ast.Attribute) and ast.unparse(node.value) in callers):
                if not name.rpartition(".")[2].isupper():
                    yield Site(module.name, node.lineno, name, calls)
            elif isinstance(node, ast.Attribute) and node.attr in _ASKING_METHODS and calls:
                if ast.unparse(node.value) in _NO_SOCKETS:
                    continue
                yield Site(module.name, node.lineno, node.attr, calls)


def _of_files(module: Module) -> Iterator[Site]:
    """Yield the places that use a file in the block that `open` has opened it for."""
    for block in ast.walk(module.tree):
        if not isinstance(block, ast.With):
            continue
        names = {
            ast.unparse(item.optional_vars)
            for item in block.items
            if item.optional_vars is not None
            and isinstance(item.context_expr, ast.Call)
            and ast.unparse(item.context_expr.func) == "open"
        }
        for node in ast.walk(block):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in names:
                yield Site(module.name, node.lineno, f"file.{node.attr}")


def _is_open(call: ast.Call) -> bool:
    """Return whether the argument is a descriptor, which is open already."""
    if ast.unparse(call.func) != "open":
        return False
    return isinstance(call.args[0], ast.Constant) or ast.unparse(call.args[0]).endswith("fd")


def calls_of(name: str) -> tuple[str, ...]:
    """Return the system calls of a name. Raises KeyError for one that is in no table."""
    if name in HARMLESS:
        return ()
    return (METHODS[name],) if name in METHODS else KERNEL[name]
