"""Runs `moltis-supervisor` up to its first child, and writes down which modules have been loaded by then.

    python -I first_spawn.py REPORT COMMAND …

Only os and sys are used here, so that the report has only what the supervisor loads. The interpreter's own modules
are left out: some installations load more of them than others.
"""

from __future__ import annotations

import _posixsubprocess
import os
import sys

_BEFORE = frozenset(sys.modules)
_REPORT = sys.argv[1]


def _write_down(*_call: object) -> None:
    text = "\n".join(sorted(set(sys.modules) - _BEFORE))
    fd = os.open(_REPORT, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, text.encode())
    os._exit(0)


def _listen(event: str, _arguments: tuple[object, ...]) -> None:
    if event in {"os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "subprocess.Popen"}:
        _write_down()


sys.addaudithook(_listen)
# The only way to create a child without an audit event.
vars(_posixsubprocess)["fork_exec"] = _write_down

from supervisor.cli import main  # noqa: E402 - what it loads is the question

sys.exit(main(sys.argv[2:]))
