"""A whole run beside a real tailscaled that is not its own: a sidecar's."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

from tests.process.running import Run, running
from tests.support.peer import Peer, bare
from tests.support.waiting import wait_until
from tests.tailnet.node import APP, Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


class Attached(Node):
    """One run, and a direct line to the sidecar."""

    def leave(self, *, forget: bool = False) -> None:
        """Want it disconnected, after reading what that brings."""
        wish: dict[str, Any] = {"forget": forget}
        status, answer = self.call("POST", "/api/tailscale/disconnect", wish)
        assert (status, answer["code"]) == (409, "CONFIRMATION_NEEDED")
        assert "containerboot" in answer["error"]
        assert self.call("POST", "/api/tailscale/disconnect", wish | {"confirm": True})[0] == 202

    def wait_view(self, deadline_s: float = 20.0, **fields: object) -> Any:
        """Wait until the API says so, and return all that it says."""
        view: Any = None

        def found() -> bool:
            nonlocal view
            view = self.view()
            return all(view[name] == value for name, value in fields.items())

        try:
            wait_until(found, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"waited in vain for {fields}; at last it was {view}") from error
        return view


def orders(daemon: Peer) -> int:
    """Return how often tailscaled was ordered to do something, by anybody: its log tells of each, refused ones too."""
    log = daemon.log.read_text()
    dropped = re.findall(r'\[RATELIMIT\] format\("localapi: .*\((\d+) dropped\)', log)
    return len(re.findall(r"localapi: \[(?:POST|PATCH|PUT|DELETE)\]", log)) + sum(map(int, dropped))


@contextlib.contextmanager
def sidecar(folder: Path, **env: str) -> Iterator[Peer]:
    """Run a sidecar's tailscaled, its socket and its state in a folder of its own."""
    folder.mkdir(exist_ok=True)
    with bare(folder=folder, **env) as daemon:
        yield daemon


@contextlib.contextmanager
def attached(folder: Path, *command: str, **env: str) -> Iterator[Attached]:
    """Run a supervisor beside the sidecar of that folder; what it keeps is in the folder beside."""
    settings = {
        "SUPERVISOR_TAILSCALE": "attach",
        "TS_SOCKET": str(folder / "tailscaled.sock"),
        "TS_STATE_DIR": str(folder.parent / "kept"),
        **env,
    }
    with running(*(command or APP), env=settings) as run:
        run.wait_for("starting")
        yield Attached(run)


@contextlib.contextmanager
def attached_as_nobody(folder: Path, **env: str) -> Iterator[Attached]:
    """Run it as a user who may read what the sidecar's root says, and command nothing; all may enter the folder."""
    own = folder.parent / "nobody"
    own.mkdir(exist_ok=True)
    os.chown(own, 65534, 65534)
    settings = {
        "SUPERVISOR_TAILSCALE": "attach",
        "TS_SOCKET": str(folder / "tailscaled.sock"),
        "TS_STATE_DIR": str(own / "kept"),
        "SUPERVISOR_RUN_DIR": str(own / "run"),
        **env,
    }
    run = Run(*APP, env=settings, prefix=NOBODY)
    run.run_dir = own / "run"
    try:
        run.wait_for("starting")
        yield Attached(run)
    finally:
        run.close()
