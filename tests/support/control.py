"""The test control server and the real tailscaled, built or downloaded once for this user and then reused."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.processes import freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests/control"
# Keeps tailscaled from requesting ports from the gateway, logins from Tailscale, and certificates from an authority.
LOOPBACK_ONLY = {
    "TS_DISABLE_PORTMAPPER": "1",
    "TS_PANIC_IF_HIT_MAIN_CONTROL": "1",
    "TS_DEBUG_ACME_DIRECTORY_URL": "http://127.0.0.1:1/directory",
}
# It does not list open ports every second either: on a busy machine that costs more than everything else.
IN_TESTS = {**LOOPBACK_ONLY, "TS_PORTLIST": "false"}


@cache
def tailscaled() -> str:
    """Return the path of tailscaled, obtained as by `make run`."""
    return subprocess.run(
        [str(ROOT / "scripts/fetch-tailscaled")], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


@cache
def control_server() -> str:
    """Return the path of the control server; the first build takes minutes."""
    names = sorted([*SOURCES.glob("*.go"), *SOURCES.glob("go.*")])
    sources = b"".join(path.read_bytes() for path in names)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moltis-supervisor"
    folder = caches / f"test-control-{hashlib.sha256(sources).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "control"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            subprocess.run(
                ["go", "build", "-ldflags", "-s -w", "-o", str(program) + ".new", "."], cwd=SOURCES, check=True
            )
            Path(str(program) + ".new").rename(program)
    return str(program)


class Control:
    """A running control server; ``url`` is for tailscaled."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        self.process = process
        self.pid = process.pid
        self.frozen = False
        self.url: str = told["control"]
        self._admin: str = told["admin"]

    def order(self, name: str, /, **arguments: str | int) -> Any:
        """Send the server an order and return its answer (see tests/control/admin.go)."""
        query = urllib.parse.urlencode(
            {key: int(value) if value is True else value for key, value in arguments.items()}
        )
        try:
            with urllib.request.urlopen(f"{self._admin}/{name}?{query}", timeout=10) as answer:  # noqa: S310 - loopback
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"cannot {name}: {error.read().decode().strip()}") from error

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the devices by name, without the domain."""
        return {node["name"].split(".")[0]: node for node in self.order("nodes")}

    def attempts(self) -> list[dict[str, Any]]:
        """Return every login and its answer so far."""
        return list(self.order("attempts"))

    def freeze(self) -> None:
        """Freeze the server: connections stay open, and nothing answers."""
        self.frozen = True
        freeze(self.pid)

    def thaw(self) -> None:
        """Resume the frozen server."""
        thaw(self.pid)
        self.frozen = False


@contextlib.contextmanager
def controlling(*flags: str) -> Iterator[Control]:
    """Run a control server for the duration of a block."""
    process = subprocess.Popen([control_server(), *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Control(process)
    finally:
        process.kill()
        process.communicate()
