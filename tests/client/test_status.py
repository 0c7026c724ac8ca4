"""`status`: the output for people, the output for programs, and exit codes."""

from __future__ import annotations

import json

from tests.client.answering import CONNECTED, NEEDS_LOGIN, RUNNING, TAILSCALED, answering
from tests.client.calling import call, on_terminal

BACKOFF = {
    "name": "worker",
    "state": "backoff",
    "restarts": 4,
    "next_try_in_s": 12.3,
    "exits": [{"reason": "exit code 1"}, {"reason": "killed by SIGKILL, likely out of memory"}],
}
FAILING = {
    "status": "fail",
    "checks": {
        "moltis": [{"status": "fail", "observedValue": "not ready", "output": "its probe got no answer"}],
        "tailscaled": [{"status": "pass", "observedValue": "running"}],
    },
}


def test_everything_is_shown() -> None:
    """The output has processes with pid, uptime, restarts and memory; the tailnet; and health."""
    with answering() as supervisor:
        supervisor.given["GET /api/processes"] = (200, {"processes": [TAILSCALED, RUNNING, BACKOFF]})
        called = call(supervisor.folder, "status")
    assert (called.code, called.err) == (0, "")
    lines = [line.split() for line in called.out.splitlines()]
    assert ["health", "pass"] in lines
    assert ["moltis", "running", "41", "1", "min", "15", "s", "2", "-"] in lines
    assert ["tailscaled", "running", "40", "-", "0", "31.5", "MiB"] in lines
    assert "next try in 12 s; killed by SIGKILL, likely out of memory" in called.out
    assert ["name", "moltis.tail0.ts.net"] in lines
    assert ["address", "100.64.0.7"] in lines
    assert "\x1b" not in called.out


def test_trouble_is_shown_with_what_to_do() -> None:
    """The output has the reason, the duration, the last error, warnings and open ports."""
    with answering() as supervisor:
        tailnet = {
            **NEEDS_LOGIN,
            "why": "the device is in no tailnet",
            "what_to_do": "open the login URL",
            "last_error": "invalid key: unable to validate API key",
            "warnings": ["the state folder is no mount of its own"],
            "exposed": [
                {"host": "127.0.0.1", "port": 18791, "process": "moltis", "pid": 41},
                {"host": "::", "port": 53, "process": None, "pid": None},
            ],
        }
        supervisor.given["GET /api/tailscale/status"] = (200, tailnet)
        said = call(supervisor.folder, "status").out
    assert "needs login, for " in said
    for text in (
        "the device is in no tailnet",
        "open the login URL",
        "invalid key: unable to validate API key",
        "the state folder is no mount of its own",
        "every peer of the tailnet reaches these",
        "127.0.0.1:18791 of moltis (pid 41)",
        "[::]:53\n",
    ):
        assert text in said


def test_failing_health_is_an_exit_code() -> None:
    """It is 1, although the status of GET /health is 503, and the reasons are shown; for warn it is 0."""
    with answering() as supervisor:
        supervisor.given["GET /health"] = (503, FAILING)
        failing = call(supervisor.folder, "status")
        supervisor.given["GET /health"] = (200, {**FAILING, "status": "warn"})
        warning = call(supervisor.folder, "status")
    assert (failing.code, warning.code) == (1, 0)
    assert "moltis: its probe got no answer" in failing.out
    assert "tailscaled: running" not in failing.out


def test_programs_get_what_the_api_said() -> None:
    """The output is one object with the three responses, unchanged."""
    with answering() as supervisor:
        supervisor.given["GET /health"] = (503, FAILING)
        called = call(supervisor.folder, "status", "--json")
    assert called.code == 1
    assert json.loads(called.out) == {"health": FAILING, "processes": [TAILSCALED, RUNNING], "tailscale": CONNECTED}


def test_a_terminal_gets_colours_and_no_line_too_long() -> None:
    """Lines are no wider than the terminal, and there are no colours with NO_COLOR."""
    with answering() as supervisor:
        why = "it has failed 3 times in 5 minutes; " * 5
        supervisor.given["GET /api/processes"] = (200, {"processes": [{**BACKOFF, "exits": [{"reason": why}]}]})
        supervisor.given["GET /api/tailscale/status"] = (200, {**NEEDS_LOGIN, "why": why})
        colored = on_terminal(supervisor.folder, "status", columns=72)
        plain = on_terminal(supervisor.folder, "status", columns=72, NO_COLOR="1")
    assert "\x1b[" in colored.out
    assert "\x1b" not in plain.out
    assert max(map(len, plain.out.splitlines())) <= 72
    assert "…" in plain.out


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    """Control characters in a name are made visible."""
    with answering() as supervisor:
        supervisor.given["GET /api/tailscale/status"] = (200, {**CONNECTED, "hostname": "evil\x1b]0;x\x07"})
        assert "evil\\x1b]0;x\\x07" in call(supervisor.folder, "status").out
