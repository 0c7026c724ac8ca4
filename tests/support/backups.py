"""Real restic and a real S3 server, built once for this user and then reused."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.clock import clock_overlay
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = {
    "restic": ("0.18.1", "github.com/restic/restic/cmd/restic"),
    "versitygw": ("1.8.0", "github.com/versity/versitygw/cmd/versitygw"),
}
PASSWORD = "a password of the repository"
KEY_ID, KEY = "access-key-of-tests", "secret-key-of-tests"


# Each call of restic derives a key, which takes 0.4 s of processor time and 60 MB in the published build: half of the
# total of all tests. So the tests' restic derives keys as restic's own tests do (N=128), unless a test needs that cost.
_KEY_COST = ("internal/repository/key.go", "\nvar params *crypto.Params\n")
_CHEAP = "\nvar params = &crypto.Params{N: 128, R: 1, P: 1}\n"
# Set for benchmarks and slow tests: use the published build of restic.
AS_PUBLISHED = "RESTIC_AS_PUBLISHED"


@cache
def program(name: str, version: str = "", clock_shift: bool = False) -> str:  # noqa: FBT001, FBT002 - one of two builds
    """Return the path of restic or versitygw, by default of the version above; a build takes some minutes.

    With ``clock_shift`` its clock is off by the seconds in CLOCK_SHIFT_S. Without a version, and if AS_PUBLISHED is
    not in the environment, restic is the build with cheap keys.
    """
    usual, module = PROGRAMS[name]
    is_cheap = name == "restic" and not version and not os.environ.get(AS_PUBLISHED)
    version = version or usual
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moltis-supervisor"
    folder = caches / f"{name}-{version}{'-shifted' if clock_shift else ''}{'-cheap' if is_cheap else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            overlay = ("-overlay", str(clock_overlay(folder))) if clock_shift else ()
            if is_cheap:
                _build_cheap(f"{module.partition('/cmd/')[0]}@v{version}", folder)
            else:
                words = ["go", "install", *overlay, f"{module}@v{version}"]
                subprocess.run(words, env={**os.environ, "GOBIN": str(folder)}, check=True)
    return str(folder / name)


def _build_cheap(module: str, folder: Path) -> None:
    """Build restic with cheap keys from a copy of its source, as Go supports no overlay of its module cache."""
    said = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="restic-") as copy:
        shutil.copytree(json.loads(said)["Dir"], copy, dirs_exist_ok=True, copy_function=shutil.copyfile)
        source = Path(copy) / _KEY_COST[0]
        text = source.read_text()
        assert _KEY_COST[1] in text, f"{_KEY_COST[0]} of {module} has changed: find where the cost of keys is set"
        # The copied folders are read-only, like those of the cache.
        source.parent.chmod(0o755)
        source.write_text(text.replace(_KEY_COST[1], _CHEAP))
        subprocess.run(["go", "build", "-o", str(folder / "restic"), "./cmd/restic"], cwd=copy, check=True)
        for path, _, _ in os.walk(copy):
            Path(path).chmod(0o755)


def path_with_restic(version: str = "") -> str:
    """Return a PATH that finds restic first: a published version, or the tests' usual build."""
    return f"{Path(program('restic', version)).parent}:{os.environ['PATH']}"


def restic_environment(repository: str, password: str = PASSWORD) -> dict[str, str]:
    """Return the environment with which a restic beside the supervisor opens a repository."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": tempfile.gettempdir(),
        "RESTIC_PASSWORD": password,
        "RESTIC_REPOSITORY": repository,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": KEY,
    }


def restic(repository: str, *words: str, password: str = PASSWORD) -> Any:
    """Run restic beside the supervisor, and return its last line as JSON; None if it is not JSON."""
    env = restic_environment(repository, password)
    ended = subprocess.run(
        [program("restic"), "--no-cache", "--json", *words], env=env, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode() + ended.stdout.decode()
    # `unlock` prints plain text even with --json.
    with contextlib.suppress(ValueError, IndexError):
        return json.loads(ended.stdout.splitlines()[-1])
    return None


class Bucket:
    """A running S3 server with one bucket; ``repository`` is for the supervisor, ``options`` are the server's.

    Its clock is off by ``clock_shift_s``. It listens at one address.
    """

    def __init__(self, folder: Path, *options: str, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.options = options
        self.clock_shift_s = 0
        self.address = address
        self.port = _free_port(address)
        (folder / "bucket").mkdir(parents=True, exist_ok=True)
        scheme = "https" if "--cert" in options else "http"
        self.repository = f"s3:{scheme}://{address}:{self.port}/bucket/snapshots"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        gateway = program("versitygw", clock_shift=bool(self.clock_shift_s))
        process = subprocess.Popen(
            [gateway, "--port", f"{self.address}:{self.port}", *self.options, "posix", str(self.folder)],
            env={
                "PATH": os.environ["PATH"],
                "ROOT_ACCESS_KEY": KEY_ID,
                "ROOT_SECRET_KEY": KEY,
                "CLOCK_SHIFT_S": str(self.clock_shift_s),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, what="the S3 server")
        return process

    def _answers(self) -> bool:
        with socket.create_connection((self.address, self.port), timeout=1):
            return True

    def stop(self) -> None:
        """Stop the server; its content stays."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start the server again."""
        self.process = self._start()

    def add_user(self, key_id: str, key: str) -> None:
        """Create a user without rights in the bucket; requires a server with a folder for users (`--iam-dir`)."""
        words = ("--access", KEY_ID, "--secret", KEY, "--endpoint-url", f"http://{self.address}:{self.port}")
        user = ("create-user", "--access", key_id, "--secret", key, "--role", "user")
        subprocess.run([program("versitygw"), "admin", *words, *user], stdout=subprocess.DEVNULL, check=True)

    def set_policy(self, policy: dict[str, Any]) -> None:
        """Set the bucket's policy, as its owner."""
        now, body = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"), json.dumps(policy).encode()
        headers = {
            "host": f"{self.address}:{self.port}",
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": now,
        }
        lines = "".join(f"{name}:{text}\n" for name, text in headers.items())
        names, scope = ";".join(headers), f"{now[:8]}/us-east-1/s3/aws4_request"
        asked = f"PUT\n/bucket\npolicy=\n{lines}\n{names}\n{headers['x-amz-content-sha256']}"
        key = f"AWS4{KEY}".encode()
        for part in (
            *scope.split("/"),
            f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}",
        ):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        proof = f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
        connection = http.client.HTTPConnection(self.address, self.port)
        with contextlib.closing(connection):
            connection.request("PUT", "/bucket?policy=", body, {**headers, "Authorization": proof})
            assert connection.getresponse().status < 300


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def bucket(folder: Path, *options: str, address: str = "127.0.0.1") -> Iterator[Bucket]:
    """Run an S3 server for the duration of a block."""
    server = Bucket(folder, *options, address=address)
    try:
        yield server
    finally:
        server.stop()
