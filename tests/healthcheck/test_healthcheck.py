"""The container's health check: one line and exit code 0 or 1, whatever answers."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.process.running import running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[2] / "healthcheck"
# Three seconds, and what a crowded machine adds.
GIVES_UP_S = 15


def check(run_dir: Path | str, cwd: Path | None = None) -> tuple[int, str]:
    """Run the health check; return its exit code and output."""
    env = {"SUPERVISOR_RUN_DIR": str(run_dir)}
    done = subprocess.run([str(SCRIPT)], env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=20)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1, done.stdout
    return done.returncode, done.stdout


@contextlib.contextmanager
def saying(answer: bytes | None, run_dir: Path) -> Iterator[None]:
    """Answer one connection with these bytes; with None, accept it and send nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (run_dir / "http").write_text(f"127.0.0.1 {listener.getsockname()[1]}\n")
        over = threading.Event()

        def serve() -> None:
            client, _ = listener.accept()
            # A client may close the connection early, and ENOTCONN is not a ConnectionError.
            with client, contextlib.suppress(OSError):
                client.settimeout(30)
                if answer is None:
                    over.wait(30)
                else:
                    client.recv(4096)
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(4096):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def body(status: int, text: bytes) -> bytes:
    """Return a response in the supervisor's form."""
    return b"HTTP/1.1 %d X\r\nContent-Type: application/health+json\r\n\r\n%s\n" % (status, text)


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (body(200, b'{"status":"pass","checks":{}}'), 0, "pass"),
        (body(200, b'{"status":"warn","checks":{}}'), 0, "warn"),
        (body(503, b'{"status":"fail","checks":{"moltis":[]}}'), 1, "moltis"),
        (body(200, b'{"status":"fail","checks":{}}'), 1, "fail"),
        (body(200, b"hello"), 1, "unknown"),
        (b"SSH-2.0-OpenSSH\r\n", 1, "does not speak HTTP"),
        (b"", 1, "unhealthy"),
        (b"\0\xff\n" * 1000, 1, "unhealthy"),
        (b"HTTP/1.1 500 \x1b[2J\r\n\r\n\x1b]0;x\x07\x9b", 1, "unhealthy: unknown, 500 ?[2J: ?]0;x??"),
    ],
)
def test_answers(tmp_path: Path, answer: bytes, code: int, words: str) -> None:
    """Pass and warn are 0; everything else is 1 with the reason."""
    with saying(answer, tmp_path):
        found, said = check(tmp_path)
    assert found == code
    assert words in said
    assert said.strip().isprintable()


def test_the_folder_is_the_supervisors(tmp_path: Path) -> None:
    """The path may be padded as in an env file, or relative: to the current folder, or to / as for entrypoint.sh."""
    (tmp_path / "at run").mkdir()
    answer = body(200, b'{"status":"pass","checks":{}}')
    for named, cwd in ((f" \t{tmp_path}/at run ", None), ("at run", tmp_path), (f"{tmp_path}/at run"[1:], tmp_path)):
        with saying(answer, tmp_path / "at run"):
            assert check(named, cwd) == (0, "pass\n")


def test_a_connection_that_breaks_is_told(tmp_path: Path) -> None:
    """No signal ends the script before it has reported the reason."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (tmp_path / "http").write_text(f"127.0.0.1 {listener.getsockname()[1]}\n")

        def break_off() -> None:
            client, _ = listener.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

        thread = threading.Thread(target=break_off)
        thread.start()
        code, said = check(tmp_path)
        thread.join()
    assert code == 1
    assert "closed the connection without an answer" in said


def test_silence_is_given_up_after_three_seconds(tmp_path: Path) -> None:
    """Docker's own limit is longer, and gives no reason."""
    begin_s = time.monotonic()
    with saying(None, tmp_path):
        code, said = check(tmp_path)
        assert time.monotonic() - begin_s < GIVES_UP_S
    assert code == 1
    assert "no answer within 3 s" in said


def test_one_that_takes_no_connection_is_given_up_after_three_seconds(tmp_path: Path) -> None:
    """A supervisor that has hung for long has a full queue, so that connecting would take minutes."""
    with socket.socket() as listener, contextlib.ExitStack() as clients:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        (tmp_path / "http").write_text(f"127.0.0.1 {listener.getsockname()[1]}\n")
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        begin_s = time.monotonic()
        code, said = check(tmp_path)
        assert 2 < time.monotonic() - begin_s < GIVES_UP_S
    assert code == 1
    assert "no answer within 3 s" in said


@pytest.mark.parametrize("content", [None, "", "127.0.0.1 1\n", "garbage\n", "$(touch x) 80\n", "127.0.0.1 99999999\n"])
def test_no_supervisor(tmp_path: Path, content: str | None) -> None:
    """The file may be missing, empty, outdated or invalid."""
    if content is not None:
        (tmp_path / "http").write_text(content)
    assert check(tmp_path)[0] == 1
    assert not (tmp_path / "x").exists()


def test_the_real_supervisor() -> None:
    """The check passes while the supervisor runs, and fails afterwards."""
    with running("sh", "-c", "exec sleep 300") as run:
        wait_until(lambda: check(run.run_dir) == (0, "pass\n"), what="health")
        assert run.stop() == 0
        assert check(run.run_dir)[0] == 1


def test_a_supervisor_whose_app_is_down() -> None:
    """The check says which part fails."""
    env = {"SUPERVISOR_APP_HEALTH_URL": "/", "SUPERVISOR_APP_PORT": "0"}
    with running("sh", "-c", "exec sleep 300", env=env) as run:
        wait_until(lambda: "starting" in check(run.run_dir)[1], what="an answer")
        code, said = check(run.run_dir)
        assert code == 1
        assert '"moltis":[{"status":"fail"' in said


@pytest.mark.parametrize(
    "name", ["BASH_ENV", "ENV", "BASH_FUNC_read%%", "BASH_FUNC_printf%%", "SHELLOPTS", "BASHOPTS", "POSIXLY_CORRECT"]
)
def test_what_bash_finds_in_the_environment_is_not_run(tmp_path: Path, name: str) -> None:
    """Images set BASH_ENV for the app's scripts, whose file may be the app's: the check may run as root."""
    (tmp_path / "its").write_text("touch $RAN; exit 0\n")
    text = {"SHELLOPTS": "noexec", "BASHOPTS": "extdebug", "POSIXLY_CORRECT": "1"}.get(name, str(tmp_path / "its"))
    if name.startswith("BASH_FUNC"):
        text = "() { touch $RAN; exit 0; }"
    env = {"SUPERVISOR_RUN_DIR": str(tmp_path), "RAN": str(tmp_path / "ran"), "PATH": os.environ["PATH"], name: text}
    done = subprocess.run([str(SCRIPT)], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "no supervisor" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_it_starts_no_other_program(tmp_path: Path) -> None:
    """The check costs one bash: an empty PATH makes no difference."""
    bash = next(path for path in ("/bin/bash", "/usr/bin/bash") if os.path.exists(path))
    done = subprocess.run(
        [bash, str(SCRIPT)],
        env={"SUPERVISOR_RUN_DIR": str(tmp_path), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert sys.executable not in done.stdout
