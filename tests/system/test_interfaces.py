"""Which interfaces count as a network, in a network namespace of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from supervisor.system import interfaces
from tests.doctor.asking import NEEDS_ROOT

UP = "ip link set lo up; ip link add d0 type bridge; ip link set d0 up; "
ASK = "from supervisor.system.interfaces import has_network; print(has_network())"


def has_network(commands: str) -> bool:
    """Return the answer in a fresh namespace, after these commands."""
    script = f'set -e; {commands}\nexec "$0" -c "$1"'
    command = ["unshare", "--net", "sh", "-c", script, sys.executable, ASK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if "Unknown device type" in done.stderr:
        pytest.skip("this kernel has no bridges")
    assert done.stdout in {"True\n", "False\n"}, done.stderr
    return done.stdout == "True\n"


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ("", False),
        ("ip link set lo up", False),
        (UP, False),
        (UP + "ip address add 169.254.1.1/16 dev d0", False),
        (UP + "ip address add fd7a:115c:a1e0::5/48 dev d0", False),
        (UP + "ip address add 192.0.2.1/24 dev d0; ip link set d0 down", False),
        (
            UP + "ip link set d0 down; ip link set d0 name tailscale0 up; ip address add 100.64.0.1/32 dev tailscale0",
            False,
        ),
        (UP + "ip address add 192.0.2.1/24 dev d0", True),
        (UP + "ip address add 192.0.2.1/24 dev d0 label d0:1", True),
        (UP + "ip address add fd00::1/64 dev d0", True),
        (UP + "ip address add 2001:db8::1/64 dev d0", True),
        (UP + "ip address add 192.0.2.1/24 dev lo", True),
        (
            UP
            + "for i in $(seq 200); do ip address add 169.254.1.$i/16 dev d0; done; ip address add 192.0.2.1/24 dev d0",
            True,
        ),
    ],
)
def test_what_counts(commands: str, expected: bool) -> None:  # noqa: FBT001
    """An address on an interface that is up does, unless it is of the loopback, link-local or a tailnet's."""
    assert has_network(commands) is expected


def test_a_kernel_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no reason to speak of a missing network."""

    def refuse(*_: object) -> bytes:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr("supervisor.system.interfaces.fcntl.ioctl", refuse)
    assert interfaces.has_network()
