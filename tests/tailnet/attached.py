"""A whole run in attach mode, next to the real tailscaled of a sidecar."""

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
    """One run, and direct access to the sidecar's tailscaled."""

    def leave(self, *, forget: bool = False) -> None:
        """Order a disconnect, check that it needs a confirmation, and confirm it."""
        wish: dict[str, Any] = {"forget": forget}
        status, answer = self.call("POST", "/api/tailscale/disconnect", wish)
        assert (status, answer["code"]) == (409, "CONFIRMATION_NEEDED")
        assert "containerboot" in answer["error"]
        assert self.call("POST", "/api/tailscale/disconnect", wish | {"confirm": True})[0] == 202

    def wait_view(self, deadline_s: float = 20.0, **fields: object) -> Any:
        """Wait until the API reports these values, and return its whole view."""
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
    """Return how many orders tailscaled has received from anyone: its log shows each one, including refused ones."""
    log = daemon.log.read_text()
    dropped = re.findall(r'\[RATELIMIT\] format\("localapi: .*\((\d+) dropped\)', log)
    return len(re.findall(r"localapi: \[(?:POST|PATCH|PUT|DELETE)\]", log)) + sum(map(int, dropped))


@contextlib.contextmanager
def sidecar(folder: Path, **env: str) -> Iterator[Peer]:
    """Run a sidecar's tailscaled, with its socket and its state in this folder."""
    folder.mkdir(exist_ok=True)
    with bare(folder=folder, **env) as daemon:
        yield daemon


@contextlib.contextmanager
def attached(folder: Path, *command: str, **env: str) -> Iterator[Attached]:
    """Run a supervisor next to the sidecar in that folder; its own state is in ``kept``, next to that folder."""
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
    """Run it as a user who may query the sidecar's tailscaled, but not command it. Any user can enter the folder."""
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
