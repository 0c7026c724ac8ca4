"""Runs the supervisor with one or more calls refused at the exact place of the code that makes them.

    python -I refusing.py run …       (the arguments of `moltis-supervisor`)
    python -I refusing.py --copies …  (the helper that copies databases)

CHAOS_REFUSING is a JSON object: `names` are Python's functions that make system calls, `methods` those of sockets
and loops, `package` is the package's folder and `log` a file. Each place that makes such a call is recorded there once.
`refuse` has objects with `module`, `line`, `name` and `error`: the first such call fails with that error, which is
recorded too. The system call is then not made.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import functools
import importlib
import json
import os
import runpy
import shutil  # noqa: F401 - checks once, at import, which functions support folder descriptors
import socket
import subprocess
import sys
import tempfile  # noqa: F401 - as above
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_HELPER = "supervisor.backup.copies"
_VARIABLE = "CHAOS_REFUSING"


class Refuser:
    """Decides what to refuse, and records calls and refusals."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self._package = told["package"] + "/"
        self._left: dict[tuple[str, int, str], str] = {
            (one["module"], one["line"], one["name"]): one["error"] for one in told["refuse"]
        }
        self._seen: set[tuple[str, int, str]] = set()
        self._lock = threading.Lock()
        self._fd = os.open(told["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        self._write = os.write

    def ask(self, name: str) -> str:
        """Return the error with which the call two frames up is to fail; empty if it is to be made."""
        frame = sys._getframe(2)
        path = frame.f_code.co_filename
        if not self.is_ours(frame):
            return ""
        module = path.removeprefix(self._package).removesuffix(".py").replace("/", ".")
        place = (module, frame.f_lineno, name)
        with self._lock:
            error = self._left.pop(place, "")
            if error or place not in self._seen:
                self._seen.add(place)
                self._write(self._fd, (json.dumps([*place, error]) + "\n").encode())
        return error

    def is_ours(self, frame: FrameType) -> bool:
        """Return whether the package's code runs in this frame."""
        return frame.f_code.co_filename.startswith(self._package)

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Replace a function or a method by one that may refuse."""
        real = getattr(owner, attribute)

        @functools.wraps(real)
        def asking(*words: Any, **more: Any) -> Any:
            # An open descriptor is only wrapped.
            error = self.ask(name) if name != "open" or not isinstance(words[0], int) else ""
            if error:
                raise _refusal(error)
            return real(*words, **more)

        for known in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if real in known:
                known.add(asking)
        setattr(owner, attribute, asking)


def _refusal(error: str) -> Exception:
    if error == "no thread":
        return RuntimeError("can't start new thread")
    number = getattr(errno, error)
    return OSError(number, os.strerror(number))


def install(told: dict[str, Any]) -> None:
    """Replace Python's functions by refusing ones."""
    refuser = Refuser(told)
    # Before the wrapping, which examines its caller.
    _follow_helper(told)
    for name in told["names"]:
        module, _, attribute = name.rpartition(".")
        if name == "threading.Thread":
            _wrap_threads(refuser)
        elif name in {"socket.socket", "subprocess.Popen"}:
            refuser.wrap(getattr(importlib.import_module(module), attribute), "__init__", name)
        elif name == "open":
            _wrap_files(refuser)
            refuser.wrap(builtins, name, name)
        elif module == "file":
            continue
        elif module not in {"libc", "_libc"}:
            refuser.wrap(importlib.import_module(module), attribute, name)
    for name in told["methods"]:
        owner: Any = socket.socket if hasattr(socket.socket, name) else asyncio.SelectorEventLoop
        refuser.wrap(owner, name, name)


def _wrap_threads(refuser: Refuser) -> None:
    """Have a thread created at a place refuse its start, which may be elsewhere."""
    refused: set[int] = set()
    begin, start = threading.Thread.__init__, threading.Thread.start

    def asking(self: threading.Thread, *words: Any, **more: Any) -> None:
        if refuser.ask("threading.Thread"):
            refused.add(id(self))
        begin(self, *words, **more)

    def starting(self: threading.Thread) -> None:
        if id(self) in refused:
            refused.discard(id(self))
            raise _refusal("no thread")
        start(self)

    threading.Thread.__init__ = asking  # type: ignore[method-assign]
    threading.Thread.start = starting  # type: ignore[method-assign]


class _File:
    """A file whose methods may refuse."""

    def __init__(self, refuser: Refuser, file: Any) -> None:
        self._refuser = refuser
        self._file = file

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        """Return what the file has; a function asks first."""
        real = getattr(self._file, name)
        if name not in {"read", "readline", "write"}:
            return real

        def asking(*words: Any) -> Any:
            error = self._refuser.ask(f"file.{name}")
            if error:
                raise _refusal(error)
            return real(*words)

        return asking


def _wrap_files(refuser: Refuser) -> None:
    """Have files that the package opens, other than its standard streams, refuse too."""
    begin = builtins.open

    def opening(path: Any, *words: Any, **more: Any) -> Any:
        file = begin(path, *words, **more)
        # The caller is the function that asks for `open` itself.
        return file if path in {1, 2} or not refuser.is_ours(sys._getframe(2)) else _File(refuser, file)

    builtins.open = opening  # type: ignore[assignment]


def _follow_helper(told: dict[str, Any]) -> None:
    """Run the helper for databases, a separate program, in the same way."""
    begin: Callable[..., None] = subprocess.Popen.__init__

    def beginning(self: Any, words: list[str], *more: Any, **options: Any) -> None:
        if _HELPER in words:
            place = words.index(_HELPER)
            words = [*words[: place - 1], __file__, "--copies", *words[place + 1 :]]
            options["env"] = {**options["env"], _VARIABLE: json.dumps(told)}
        begin(self, words, *more, **options)

    subprocess.Popen.__init__ = beginning  # type: ignore[method-assign, assignment]


def main() -> None:
    """Run the requested program."""
    told = json.loads(os.environ.pop(_VARIABLE))
    sys.path.insert(0, os.path.dirname(told["package"]))
    if sys.argv[1] == "--copies":
        del sys.argv[1]
        install(told)
        runpy.run_module(_HELPER, run_name="__main__")
        return
    from supervisor.system import kernel

    kernel.set_undumpable()
    install(told)
    from supervisor.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
