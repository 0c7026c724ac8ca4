"""The audit of open ports in whole runs: those of the app, of its helpers and of tailscaled."""

from __future__ import annotations

import os
import socket
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.commands.run import Run
from supervisor.core.snapshot import Snapshot, TailnetView
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
from supervisor.runtime.engine import Engine
from supervisor.runtime.exposure import Exposure
from supervisor.runtime.main_loop import LazyServices
from supervisor.runtime.store import SnapshotStore
from supervisor.system.reaper import Reaper
from tests.config.machine import plan
from tests.process.running import running
from tests.support.control import controlling
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.tailnet.attached import attached, sidecar
from tests.tailnet.node import environment, node

if TYPE_CHECKING:
    from pathlib import Path

OPENED = "a port is open to every tailnet peer"
OPEN_PROXY = "127.0.0.1:18791"
# Listens on all given addresses, in one process.
LISTENS = (
    "import socket, sys, time\n"
    "kept = [socket.create_server((host, int(port))) for host, port in (word.split(':') for word in sys.argv[1:])]\n"
    "time.sleep(300)"
)
DEADLINE_S = 30


def listener(*addresses: str) -> tuple[str, ...]:
    """Return the command of an app that listens on these addresses."""
    return (sys.executable, "-c", LISTENS, *addresses)


def test_every_open_port_is_named_with_its_process(tmp_path: Path) -> None:
    """tailscaled's proxy is one of them; Moltis' forward proxy makes health warn; the target of serve is left out."""
    proxy, private = free_port(), free_port("127.0.0.2")
    app = listener(OPEN_PROXY, f"127.0.0.2:{private}")
    with node(tmp_path, *app, TS_SOCKS5_SERVER=f"127.0.0.1:{proxy}") as tailnet:
        told = tailnet.run.wait_for(OPENED, DEADLINE_S, listen=OPEN_PROXY, whose="moltis")
        assert told["pid"] == tailnet.run.wait_for("started", child="moltis")["pid"]
        assert "MOLTIS_TOOLS__EXEC__SANDBOX__NETWORK=bypass" in told["what_to_do"]
        tailnet.run.wait_for(OPENED, DEADLINE_S, listen=f"127.0.0.1:{proxy}", whose="tailscaled")
        wait_until(lambda: tailnet.health()["checks"].get("exposure"))
        assert tailnet.health()["checks"]["exposure"] == [{"status": "warn", "observedValue": "open proxy"}]
        own = int((tailnet.run.run_dir / "http").read_text().split()[1])
        named = {int(record["listen"].rpartition(":")[2]) for record in tailnet.run.all(OPENED)}
        assert not named & {own, private}


@pytest.mark.skipif(os.geteuid() != 0, reason="changing users takes root")
def test_a_root_that_may_not_look_into_others_files_still_tells_whose_it_is(tmp_path: Path) -> None:
    """In a container, root usually lacks CAP_SYS_PTRACE: the socket's user then identifies the process."""
    port = free_port()
    tmp_path.chmod(0o755)
    env = environment(TS_STATE_DIR=str(tmp_path / "state"), SUPERVISOR_APP_USER="nobody")
    without = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    with running(*listener(f"127.0.0.1:{port}"), env=env, prefix=without) as run:
        told = run.wait_for(OPENED, DEADLINE_S, listen=f"127.0.0.1:{port}")
        assert told["whose"] == "moltis"
        assert "pid" not in told
        assert run.stop() == 0


def test_beside_a_sidecar_that_shares_the_network(tmp_path: Path) -> None:
    """The sidecar's peers reach this loopback, so ports are reported as soon as it is in a tailnet."""
    port = free_port()
    folder, app = tmp_path / "sidecar", listener(f"127.0.0.1:{port}")
    with controlling() as control, sidecar(folder) as daemon, attached(folder, *app) as one:
        one.run.wait_for("started", child="moltis")
        assert one.view()["exposed"] == []
        daemon.log_in(control.url)
        one.run.wait_for(OPENED, DEADLINE_S, listen=f"127.0.0.1:{port}", whose="moltis")


def test_beside_a_sidecar_with_a_network_of_its_own() -> None:
    """Nothing is reported: peers reach the sidecar's loopback instead."""
    store = SnapshotStore(Snapshot(tailnet=TailnetView(peer_api_ports=(free_port(),))))
    log = LogPipeline(format="json", color=False, redactor=Redactor(), history_lines=1, names=[])
    with socket.create_server(("127.0.0.1", 0)):
        engine = Engine([], store, log, Reaper(), ())
        assert Exposure(engine, (), sidecar=True)._find({}, store.snapshot.tailnet.peer_api_ports) == ()
        assert Exposure(engine, ())._find({}, ()) != ()


@pytest.mark.parametrize(
    ("environ", "looks"),
    [
        ({}, True),
        ({"SUPERVISOR_TAILSCALE": "off"}, False),
        ({"SUPERVISOR_TAILSCALE": "attach", "TS_SOCKET": "/var/run/tailscale/tailscaled.sock"}, True),
        ({"TS_EXTRA_ARGS": "--shields-up"}, False),
    ],
)
def test_it_looks_where_peers_reach_this_loopback(environ: dict[str, str], *, looks: bool) -> None:
    """Without a tailnet, or with shields up, nobody gets in, and no audit runs."""
    resources: Any = SimpleNamespace(sockets=[], placeholders=[])
    run = Run(plan(environ), resources, ())
    services = run.services(LazyServices(run.store))
    assert ("exposure" in services) is looks
