"""Containers for tests, with the docker command."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor.tailnet.versions import TESTED
from tests.support.control import ROOT
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# The image's processor, if it is not this machine's: its programs run under qemu, and many times slower.
ARCH = os.environ.get("TEST_ENGINE_ARCH", "")
SLOWNESS = 6 if ARCH else 1
# Sufficient for a 2-core machine under load.
PATIENCE_S = 60.0 * SLOWNESS
_numbers = itertools.count(1)


class Network(NamedTuple):
    """The name of a network of containers, and this machine's address in it."""

    name: str
    gateway: str


class Ended(NamedTuple):
    """The result of a command."""

    status: int
    stdout: str
    stderr: str


def docker(
    *words: str,
    timeout_s: float = 120.0 * SLOWNESS,
    may_fail: bool = False,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run docker with these arguments; fail if it does, unless ``may_fail``."""
    done = subprocess.run(
        ["docker", *words], input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False, env=env
    )
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert may_fail or ended.status == 0, f"docker {' '.join(words)}: {ended.stderr.strip()}"
    return ended


def has_runtime(name: str) -> bool:
    """Return whether the engine has a runtime; the one that scripts/test-engine starts has runsc."""
    return name in json.loads(docker("info", "--format", "{{json .Runtimes}}").stdout)


def unique(name: str) -> str:
    """Return a unique name for a container, network or image."""
    return f"moltis-test-{os.getpid()}-{next(_numbers)}-{name}"


@contextlib.contextmanager
def built_image() -> Iterator[str]:
    """Provide the single image, built from this checkout with buildx for ARCH, for the duration of a block."""
    name = f"moltis-embedded:{unique('image')}"
    words = ["--load", "--quiet", "--file", str(ROOT / "Dockerfile.embedded"), "--tag", name]
    if ARCH:
        words += ["--platform", f"linux/{ARCH}"]
        for base, tag in (("moltis", ARCH), ("tailscale", f"v{TESTED}-{ARCH}")):
            words += ["--build-arg", f"{base.upper()}_IMAGE=test-engine/{base}"]
            words += ["--build-arg", f"{base.upper()}_TAG={tag}"]
    docker("buildx", "build", *words, str(ROOT), timeout_s=600 * SLOWNESS)
    yield name
    docker("image", "rm", "--force", name)


@contextlib.contextmanager
def internal_network() -> Iterator[Network]:
    """Provide a network that reaches only this machine; containers of other networks reach its gateway too."""
    name = unique("net")
    docker("network", "create", "--internal", name)
    config = json.loads(docker("network", "inspect", name).stdout)[0]["IPAM"]["Config"]
    yield Network(name, str(config[0]["Gateway"]))
    docker("network", "rm", name)


class Container:
    """A container, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def inspect(self) -> Any:
        """Return the output of `docker inspect`."""
        return json.loads(docker("inspect", self.name).stdout)[0]

    def state(self) -> Any:
        """Return its state: Status, ExitCode, OOMKilled, Health and more."""
        return self.inspect()["State"]

    @property
    def ip(self) -> str:
        """Its address in its first network."""
        return str(next(iter(self.inspect()["NetworkSettings"]["Networks"].values()))["IPAddress"])

    def health(self) -> str:
        """Return its health as Docker reports it."""
        return str(self.state()["Health"]["Status"])

    def logs(self) -> str:
        """Return all its output of both streams."""
        ended = docker("logs", self.name)
        return ended.stdout + ended.stderr

    def execute(self, *words: str, user: str = "", stdin: str = "", may_fail: bool = False) -> Ended:
        """Run a command inside."""
        options = ["--interactive"] if stdin else []
        options += ["--user", user] if user else []
        return docker("exec", *options, self.name, *words, stdin=stdin, may_fail=may_fail)

    def start_inside(self, *words: str, user: str = "moltis") -> None:
        """Start a program inside, and do not wait for it."""
        docker("exec", "--detach", "--user", user, self.name, *words)

    def signal(self, name: str) -> None:
        """Send a signal to its process 1."""
        docker("kill", "--signal", name, self.name)

    def stop(self, patience_s: int = 10 * SLOWNESS) -> float:
        """Stop it by `docker stop`, and return the duration in seconds."""
        begin_s = time.monotonic()
        docker("stop", "--time", str(patience_s), self.name)
        return time.monotonic() - begin_s

    def wait_end(self, deadline_s: float = PATIENCE_S) -> int:
        """Wait until it has ended, and return its exit code."""
        wait_until(lambda: self.state()["Status"] == "exited", deadline_s, f"the end of {self.name}")
        return int(self.state()["ExitCode"])

    def wait_health(self, word: str, deadline_s: float = PATIENCE_S) -> None:
        """Wait until Docker reports this health."""
        self._wait(lambda: self.health() == word, deadline_s, f"{self.name} to be {word}")

    def wait_log(self, text: str, deadline_s: float = PATIENCE_S) -> str:
        """Wait until it has printed a text, and return all its output."""
        self._wait(lambda: text in self.logs(), deadline_s, f"{text!r} in the log")
        return self.logs()

    def get(self, path: str, port: int = 8080, token: str = "") -> tuple[int, str]:
        """Fetch a page from its published port on this machine; with a token, authenticated."""
        connection = http.client.HTTPConnection(self.ip, port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def settled(self, path: str = "/readyz", port: int = 8080, deadline_s: float = PATIENCE_S) -> None:
        """Wait until a page answers 200."""
        self._wait(lambda: self.get(path, port)[0] == 200, deadline_s, f"{path} of {self.name}")

    def status(self) -> Any:
        """Return the output of `status --json`. Raises ConnectionError if the supervisor does not answer yet."""
        ended = self.execute("moltis-supervisor", "status", "--json", may_fail=True)
        if ended.status != 0:
            raise ConnectionError(ended.stderr)
        return json.loads(ended.stdout)

    def address(self) -> str:
        """Wait until it is in the tailnet, and return its address there."""
        return str(wait_until(lambda: self.status()["tailscale"]["tailscale_ip"], PATIENCE_S, f"{self.name}'s address"))

    def _wait(self, condition: Callable[[], bool], deadline_s: float, what: str) -> None:
        """Wait for a condition; fail with the container's output at the deadline, or if the container has ended."""

        def holds_or_over() -> bool:
            with contextlib.suppress(OSError, LookupError):
                if condition():
                    return True
            return bool(self.state()["Status"] == "exited")

        try:
            wait_until(holds_or_over, deadline_s, what)
            assert condition(), f"{self.name} has ended before {what}"
        except (AssertionError, OSError) as error:
            raise AssertionError(f"{error}\n{self.logs()[-4000:]}") from None

    def processes(self) -> dict[str, Any]:
        """Return the supervised processes by name, from `status`."""
        return {process["name"]: process for process in self.status()["processes"]}


@contextlib.contextmanager
def container(
    image: str, *command: str, options: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> Iterator[Container]:
    """Run a container in the background for the duration of a block."""
    name = unique("run")
    words = [word for key, value in (env or {}).items() for word in ("--env", f"{key}={value}")]
    docker("run", "--detach", "--name", name, *options, *words, image, *command)
    try:
        yield Container(name)
    finally:
        docker("rm", "--force", "--volumes", name)
