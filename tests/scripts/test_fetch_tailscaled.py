"""How a machine without Go gets tailscaled: from the official archive, here on a local server."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import os
import platform
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.control import ROOT
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fetch = Callable[..., subprocess.CompletedProcess[str]]

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
VERSION = "9.9.9"
FILE = f"tailscale_{VERSION}_{ARCH}.tgz"
# The only programs on that machine.
TOOLS = ["bash", "dirname", "env", "flock", "gzip", "mkdir", "mktemp", "mv", "rm", "sha256sum", "sleep", "tar", "uname"]
Answer = tuple[int, dict[str, str], bytes]

pytestmark = pytest.mark.skipif(not ARCH, reason="there is no official archive for this processor")


def archive() -> bytes:
    """Return an archive with the layout of the official ones."""
    program = b"#!/bin/sh\necho from the archive\n"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        entry = tarfile.TarInfo(f"{FILE.removesuffix('.tgz')}/tailscaled")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return data.getvalue()


ARCHIVE = archive()
SUM = hashlib.sha256(ARCHIVE).hexdigest().encode()


@contextlib.contextmanager
def serving(answers: dict[str, Answer], certificate: Path | None) -> Iterator[str]:
    """Answer by path, over TLS if there is a certificate; yield the server's URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, text in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a key and its certificate for 127.0.0.1, in one file."""
    folder: Path = tmp_path_factory.mktemp("certificate")
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x -addext"
    names = ["subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run([*words.split(), *names], check=True, capture_output=True)
    both = folder / "both"
    both.write_bytes((folder / "key").read_bytes() + (folder / "certificate").read_bytes())
    return both


@pytest.fixture
def fetch(tmp_path: Path, certificate: Path) -> Fetch:
    """Return a function that runs the script on a machine without Go, with a pin of its own."""
    bin_dir, scripts = tmp_path / "bin", tmp_path / "scripts"
    bin_dir.mkdir()
    scripts.mkdir()
    for name in TOOLS:
        (bin_dir / name).symlink_to(shutil.which(name) or name)
    (bin_dir / "python3").symlink_to(os.path.realpath(sys.executable))
    for name in ("fetch-tailscaled", "download.py"):
        shutil.copy(ROOT / "scripts" / name, scripts)

    def run(url: str, pinned: str = "", trusted: Path = certificate) -> subprocess.CompletedProcess[str]:
        pin = f"TAILSCALE_VERSION={VERSION}\nTAILSCALE_ARCHIVES={url}\n"
        pin += "".join(f"TAILSCALE_SHA256_{arch}={pinned}\n" for arch in ("AMD64", "ARM64"))
        (scripts / "tailscaled.pin").write_text(pin)
        env = {"PATH": str(bin_dir), "XDG_CACHE_HOME": str(tmp_path / "cache"), "SSL_CERT_FILE": str(trusted)}
        return subprocess.run(
            [scripts / "fetch-tailscaled"], env=env, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def refused(done: subprocess.CompletedProcess[str], why: str) -> None:
    """Check that nothing was used, that the reason was reported, and that nothing is left behind."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert why in done.stderr
    left = Path(done.args[0]).parents[1].glob("cache/*/*/*")
    assert [path.name for path in left] == ["lock"]


@pytest.mark.parametrize(
    "text", [SUM, SUM + b"\n", SUM + b"  " + FILE.encode() + b"\n"], ids=["bare", "a line", "named"]
)
def test_without_a_pin_the_official_sum_is_used_and_said_so(fetch: Fetch, certificate: Path, text: bytes) -> None:
    """A valid archive is unpacked, stored, and used again without another request."""
    with serving({f"/{FILE}": (200, {}, ARCHIVE), f"/{FILE}.sha256": (200, {}, text)}, certificate) as url:
        done = fetch(url)
    assert done.returncode == 0, done.stderr
    assert "checked against the SHA-256 published by its own server, over TLS" in done.stderr
    program = done.stdout.strip()
    assert subprocess.run([program], capture_output=True, check=True).stdout == b"from the archive\n"
    again = fetch(url)
    assert (again.stdout.strip(), again.stderr) == (program, "")
    assert not list(Path(program).parent.glob("download.*"))


def test_a_pin_is_what_counts(fetch: Fetch, certificate: Path) -> None:
    """The checksum on the server is not requested, and a wrong archive is refused."""
    answers: dict[str, Answer] = {f"/{FILE}": (200, {}, ARCHIVE)}
    with serving(answers, certificate) as url:
        refused(fetch(url, pinned="0" * 64), "not the pinned one")
        done = fetch(url, pinned=SUM.decode())
    assert done.returncode == 0
    assert "its own server" not in done.stderr


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({f"/{FILE}.sha256": (200, {}, b"0" * 64)}, "its SHA-256 differs; it is not used"),
        ({f"/{FILE}.sha256": (404, {}, b"")}, "Not Found"),
        ({f"/{FILE}.sha256": (200, {}, b"")}, "does not contain a SHA-256"),
        ({f"/{FILE}.sha256": (200, {}, b"<html>no such file</html>")}, "does not contain a SHA-256"),
        ({f"/{FILE}.sha256": (200, {}, SUM[:40])}, "does not contain a SHA-256"),
        ({f"/{FILE}.sha256": (200, {"Content-Length": "65"}, SUM)}, "cut off"),
        ({f"/{FILE}": (200, {"Content-Length": str(len(ARCHIVE))}, ARCHIVE[:-9])}, "cut off"),
        ({f"/{FILE}": (404, {}, b"")}, "Not Found"),
    ],
    ids=["wrong", "missing", "empty", "a page", "half a sum", "sum cut off", "archive cut off", "no archive"],
)
def test_what_cannot_be_checked_is_not_used(
    fetch: Fetch, certificate: Path, answers: dict[str, Answer], why: str
) -> None:
    """A checksum may be wrong, missing or invalid, an archive truncated or missing."""
    good: dict[str, Answer] = {f"/{FILE}": (200, {}, ARCHIVE), f"/{FILE}.sha256": (200, {}, SUM)}
    with serving(good | answers, certificate) as url:
        refused(fetch(url), why)


def test_nothing_is_taken_but_over_tls(fetch: Fetch, certificate: Path, tmp_path: Path) -> None:
    """A plain server, one with an untrusted certificate, and a redirect away from TLS are refused."""
    good: dict[str, Answer] = {f"/{FILE}": (200, {}, ARCHIVE), f"/{FILE}.sha256": (200, {}, SUM)}
    (tmp_path / "none").write_text("")
    with serving(good, None) as plain, serving(good, certificate) as url:
        refused(fetch(plain), "it is not TLS")
        refused(fetch(url, trusted=tmp_path / "none"), "certificate verify failed")
        away: dict[str, Answer] = {f"/{FILE}.sha256": (302, {"Location": f"{plain}/{FILE}.sha256"}, b"")}
        with serving(good | away, certificate) as leading:
            refused(fetch(leading), "which is not TLS")


@pytest.mark.parametrize("tool", ["mktemp", "tar"])
def test_a_full_disk_leaves_no_half_a_program(fetch: Fetch, certificate: Path, tmp_path: Path, tool: str) -> None:
    """The script fails if a folder cannot be created, or if the archive was only partly unpacked."""
    program = tmp_path / "bin" / tool
    program.unlink()
    half = 'while [ "$1" != -C ]; do shift; done; printf half >"$2/tailscaled"' if tool == "tar" else ""
    program.write_text(f"#!/bin/sh\n{half}\nexit 1\n")
    program.chmod(0o755)
    with serving({f"/{FILE}": (200, {}, ARCHIVE)}, certificate) as url:
        refused(fetch(url, pinned=SUM.decode()), "")
    # As if the folder's name were empty.
    assert not Path(f"/{FILE}").exists()


def test_an_interrupted_build_goes_on_nowhere(tmp_path: Path) -> None:
    """Ctrl-C ends the builder too, and removes what it has created."""
    go = tmp_path / "go"
    go.write_text(
        f'#!/bin/sh\necho $$ >"{tmp_path}/pid.new"; mv "{tmp_path}/pid.new" "{tmp_path}/pid"\nexec sleep 300\n'
    )
    go.chmod(0o755)
    script = subprocess.Popen(
        [ROOT / "scripts/fetch-tailscaled", "0.0.1"],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "https_proxy": "http://127.0.0.1:9",
        },
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until((tmp_path / "pid").exists, 30)
        os.killpg(script.pid, signal.SIGINT)
        assert script.wait(30) == -signal.SIGINT
        builder = int((tmp_path / "pid").read_text())
        wait_until(lambda: not Path(f"/proc/{builder}").exists(), 30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGKILL)
    assert [path.name for path in tmp_path.glob("cache/*/*/*")] == ["lock"]
