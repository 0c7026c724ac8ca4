"""The rule of cloud-init that closes the metadata service, in a machine's stead: a network namespace of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import textwrap
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.control import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = "169.254.169.254"


def rule() -> str:
    """Return the command of the unit that closes it."""
    files = yaml.safe_load((ROOT / "deploy/droplet/cloud-init.yaml").read_text())["write_files"]
    (unit,) = [file["content"] for file in files if file["path"].endswith("close-metadata.service")]
    found = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert found is not None
    return found[1]


def reached(folder: Path, *commands: str) -> str:
    """Return who reaches the service, on a machine with a container's network behind it and the service before it."""
    script = f"""
        set -eu
        machine=$$
        ip link set lo up
        sysctl -qw net.ipv4.ip_forward=1
        for side in container service; do
          unshare --net sleep 60 & echo $! >$side
          for _ in $(seq 100); do
            [ "$(readlink /proc/$(cat $side)/ns/net)" != "$(readlink /proc/$machine/ns/net)" ] && break; sleep 0.05
          done
          ip link add to-$side type veth peer name eth0 netns $(cat $side)
          ip link set to-$side up
        done
        ip addr add 172.31.0.1/24 dev to-container
        ip addr add 169.254.0.1/16 dev to-service
        within() {{ nsenter --net --target $(cat $1) "${{@:2}}"; }}
        within container ip addr add 172.31.0.2/24 dev eth0; within container ip link set eth0 up
        within container ip route add default via 172.31.0.1
        within service ip addr add {ADDRESS}/16 dev eth0; within service ip link set eth0 up
        within service ip route add default via 169.254.0.1
        mkdir site
        within service python3 -m http.server --bind {ADDRESS} --directory site 80 >/dev/null 2>&1 & echo $! >web
        {"; ".join(commands)}
        ask='import socket; socket.create_connection(("{ADDRESS}", 80), 3)'
        for _ in $(seq 100); do python3 -c "$ask" 2>/dev/null && break; sleep 0.1; done
        python3 -c "$ask" 2>/dev/null && echo machine
        within container python3 -c "$ask" 2>/dev/null && echo container
        kill $(cat container service web)
    """
    folder.mkdir()
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("iptables"), reason="takes root, ip and iptables"
)
def test_containers_do_not_reach_it_and_the_machine_does(tmp_path: Path) -> None:
    """What is handed on from a container is dropped; the machine's own questions are answered."""
    assert shlex.split(rule())[0] == "/usr/sbin/iptables"
    assert reached(tmp_path / "open") == "machine\ncontainer\n"
    assert reached(tmp_path / "closed", rule()) == "machine\n"
