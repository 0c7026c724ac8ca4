"""The stand-in behaves like Moltis towards a supervisor."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.ports import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

STAND_IN = Path(__file__).parents[2] / "examples/app/moltis_stand_in.py"


def ask(port: int, path: str, method: str = "GET", body: object = None) -> tuple[int, dict[str, object]]:
    """Send a request; return the status and the JSON of the response."""
    connection = http.client.HTTPConnection("127.0.0.2", port, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@contextlib.contextmanager
def standing_in(*flags: str, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run it for the length of a block."""
    port = free_port("127.0.0.2")
    process = subprocess.Popen(
        [sys.executable, str(STAND_IN), "--bind", "127.0.0.2", "--port", str(port), "--no-tls", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **env},
    )
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


def healthy(port: int) -> bool:
    """Return whether it is healthy."""
    return ask(port, "/health")[0] == 200


def test_its_first_line_says_what_it_is_and_the_banner_comes_before_the_port() -> None:
    """The log shows at once that this is not Moltis."""
    with standing_in(STAND_IN_START_S="60") as (process, port):
        assert process.stdout is not None
        assert b"stand-in for Moltis" in process.stdout.readline()
        lines = [process.stdout.readline() for _ in range(6)]
        assert any(b"setup code: " in line for line in lines)
        assert all(b"\x1b[32m INFO\x1b[0m" in line for line in lines)
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.2", port)) != 0


def test_json_lines() -> None:
    """With --json-logs each line is an object as written by tracing-subscriber."""
    with standing_in("--json-logs") as (process, _port):
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert set(line) == {"timestamp", "level", "fields", "target"}
        assert "stand-in" in line["fields"]["message"]


def test_term_ends_it_with_0_and_a_second_one_changes_nothing() -> None:
    """The stop takes a while, and its exit code is 0."""
    with standing_in(STAND_IN_STOP_S="0.3") as (process, port):
        wait_until(lambda: healthy(port), what="health")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_request_makes_it_execute_itself_anew() -> None:
    """The pid stays the same, and it answers again."""
    with standing_in() as (process, port):
        wait_until(lambda: healthy(port), what="health")
        assert process.stdout is not None
        assert ask(port, "/api/restart", "POST", {})[0] == 200
        lines = 0
        while lines < 2:
            lines += b"stand-in for Moltis" in process.stdout.readline()
        wait_until(lambda: healthy(port), what="health")
        assert process.poll() is None


def test_exit_codes() -> None:
    """They are 2 for an unknown flag, 1 for an invalid or used address, and SIGABRT for a panic."""
    run = [sys.executable, str(STAND_IN)]
    assert subprocess.run([*run, "--no-such-flag"], capture_output=True, check=False).returncode == 2
    bad = subprocess.run([*run, "--bind", "localhost"], capture_output=True, check=False)
    assert (bad.returncode, b"Caused by:" in bad.stderr) == (1, True)
    with socket.create_server(("127.0.0.2", 0)) as taken:
        words = [*run, "--bind", "127.0.0.2", "--port", str(taken.getsockname()[1])]
        assert subprocess.run(words, capture_output=True, check=False).returncode == 1
    with standing_in() as (process, port):
        wait_until(lambda: healthy(port), what="health")
        ask(port, "/stand-in/crash", "POST", {})
        assert process.wait(30) == -signal.SIGABRT


def test_helpers_lead_a_session_of_their_own() -> None:
    """Killing the app's process group does not kill them."""
    with standing_in() as (process, port):
        wait_until(lambda: healthy(port), what="health")
        helper = int(str(ask(port, "/stand-in/helper", "POST", {})[1]["pid"]))
        assert os.getsid(helper) == helper != os.getsid(process.pid)
        os.kill(helper, signal.SIGKILL)


def test_rows_are_kept_over_a_restart(tmp_path: Path) -> None:
    """An acknowledged row is in the database, in WAL mode."""
    for number in ("1", "2"):
        with standing_in("--data-dir", str(tmp_path)) as (process, port):
            wait_until(lambda: healthy(port), what="health")
            assert ask(port, "/stand-in/keep", "POST", {"text": number})[0] == 201
            status, kept = ask(port, "/stand-in/kept")
            assert status == 200
            process.kill()
    assert kept["messages"] == ["1", "2"]
    assert (tmp_path / "moltis.db-wal").exists()
