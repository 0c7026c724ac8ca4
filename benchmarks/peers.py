"""The supervisors that are measured: ours, and peers from public packages. One adapter each."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moltis-supervisor"
DEBIAN = ("s6", "runit", "tini", "dumb-init")


def python() -> str:
    """Return the interpreter with the build to be measured.

    As in the image: installed from the lock, without the test tools, which some libraries use if present.
    """
    return os.environ.get("BENCH_PYTHON") or str(CACHE / "bench-ours/bin/python")


class Job(NamedTuple):
    """A supervisor's task: children by name, whether they are restarted, and the time limit of a stop."""

    children: dict[str, list[str]]
    restart: bool = False
    stop_timeout_s: int = 8
    http_port: int = 0
    json_logs: bool = False


class Peer:
    """One supervisor. ``start`` writes its configuration into a folder and returns its command line."""

    name = ""
    # Whether it runs more than one child, and whether it restarts them.
    many = True
    restarts = True
    http = False
    # Whether it merges its children's output itself; otherwise they share one descriptor.
    merges = True

    def available(self) -> bool:
        """Return whether it is installed."""
        raise NotImplementedError

    def start(self, job: Job, folder: Path) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def environment(self, _job: Job, _folder: Path) -> dict[str, str]:
        """Return the environment in addition to PATH and HOME."""
        return {}


class Ours(Peer):
    """Our supervisor."""

    name = "ours"
    http = True

    def available(self) -> bool:
        """Return True: it is always installed."""
        return True

    def start(self, job: Job, folder: Path) -> list[str]:
        """Return the command line: the first child is the app, the others come from TOML."""
        (_, app), *others = job.children.items()
        table = 'restart = "always"' if job.restart else 'restart = "never"'
        (folder / "ours.toml").write_text(
            "".join(
                f"[process.{name}]\ncommand = [{', '.join(map(quoted, words))}]\n{table}\n" for name, words in others
            )
        )
        restart = "always" if job.restart else "never"
        run = [python(), "-I", "-m", "supervisor", "run", "--config", str(folder / "ours.toml")]
        return [*run, "--restart", restart, "--", *app]

    def environment(self, job: Job, folder: Path) -> dict[str, str]:
        """Return the settings."""
        return {
            "PORT": str(job.http_port),
            "SUPERVISOR_TAILSCALE": "off",
            "SUPERVISOR_RUN_DIR": str(folder / "run"),
            "SUPERVISOR_APP_NAME": next(iter(job.children)),
            "SUPERVISOR_APP_HEALTH_URL": "",
            "SUPERVISOR_BACKOFF_INITIAL": "0ms",
            "SUPERVISOR_BACKOFF_MAX": "0ms",
            "SUPERVISOR_GIVE_UP": "never",
            "SUPERVISOR_STOP_TIMEOUT": f"{job.stop_timeout_s}s",
            "SUPERVISOR_LOG_FORMAT": "json" if job.json_logs else "pretty",
        }


class One(Peer):
    """A program that is only process 1 for one child."""

    many = False
    restarts = False
    merges = False

    def __init__(self, name: str) -> None:
        self.name = name

    def available(self) -> bool:
        """Return whether it is installed."""
        return shutil.which(self.name) is not None

    def start(self, job: Job, folder: Path) -> list[str]:  # noqa: ARG002 - it needs no configuration
        """Return the command line."""
        return [self.name, "--", *next(iter(job.children.values()))]


class Folders(Peer):
    """s6 and runit: a folder of service folders, each with a script."""

    merges = False

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self._program = program

    def available(self) -> bool:
        """Return whether it is installed."""
        return shutil.which(self._program) is not None

    def start(self, job: Job, folder: Path) -> list[str]:
        """Return the command line."""
        for name, words in job.children.items():
            service = folder / "services" / name
            service.mkdir(parents=True)
            script(service / "run", f"exec {shlex.join(words)}")
            if not job.restart:
                # runit ignores this file and restarts the process; for s6, 125 means `do not restart`.
                script(service / "finish", "exit 125")
        return [self._program, str(folder / "services")]


class Pip(Peer):
    """A peer in Python, in the environment created for these."""

    program = ""

    def available(self) -> bool:
        """Return whether it is installed."""
        return (CACHE / "bench-peers/bin" / self.program).exists()

    def words(self) -> list[str]:
        """Return the command prefix of its program."""
        return [str(CACHE / "bench-peers/bin" / self.program)]


class Supervisord(Pip):
    """PyPI's Supervisor."""

    name = "supervisord"
    program = "supervisord"
    http = True

    def start(self, job: Job, folder: Path) -> list[str]:
        """Return the command line."""
        lines = ["[supervisord]", "nodaemon=true", "user=root", "logfile=/dev/null", "logfile_maxbytes=0"]
        lines += [f"pidfile={folder}/pid", "minfds=1024"]
        if job.http_port:
            lines += ["[inet_http_server]", f"port=127.0.0.1:{job.http_port}"]
            lines += ["[rpcinterface:supervisor]"]
            lines += ["supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface"]
        for name, words in job.children.items():
            lines += [f"[program:{name}]", f"command={shlex.join(words)}", "redirect_stderr=true", "startsecs=0"]
            lines += ["stdout_logfile=/dev/stdout", "stdout_logfile_maxbytes=0", "startretries=1000000"]
            lines += [f"autorestart={'true' if job.restart else 'false'}", f"stopwaitsecs={job.stop_timeout_s}"]
        (folder / "supervisord.conf").write_text("\n".join(lines) + "\n")
        return [*self.words(), "-c", str(folder / "supervisord.conf")]


class Circus(Pip):
    """circusd."""

    name = "circus"
    program = "circusd"

    def start(self, job: Job, folder: Path) -> list[str]:
        """Return the command line."""
        lines = ["[circus]", "check_delay = 0.05", f"endpoint = ipc://{folder}/endpoint"]
        lines += [f"pubsub_endpoint = ipc://{folder}/pubsub", "loglevel = ERROR"]
        for name, words in job.children.items():
            lines += [f"[watcher:{name}]", f"cmd = {shlex.join(words)}", "warmup_delay = 0", "max_retry = -1"]
            lines += ["stdout_stream.class = StdoutStream", "stderr_stream.class = StdoutStream"]
            lines += [f"graceful_timeout = {job.stop_timeout_s}", f"respawn = {job.restart}", "copy_env = True"]
        (folder / "circus.ini").write_text("\n".join(lines) + "\n")
        return [*self.words(), str(folder / "circus.ini")]


class Honcho(Pip):
    """honcho: the end of one child ends all, and nothing is restarted."""

    name = "honcho"
    program = "honcho"
    restarts = False

    def start(self, job: Job, folder: Path) -> list[str]:
        """Return the command line."""
        lines = [f"{name}: {shlex.join(words)}" for name, words in job.children.items()]
        (folder / "Procfile").write_text("\n".join(lines) + "\n")
        return [*self.words(), "start", "-f", str(folder / "Procfile")]


PEERS: tuple[Peer, ...] = (
    Ours(),
    One("tini"),
    One("dumb-init"),
    Folders("s6", "s6-svscan"),
    Folders("runit", "runsvdir"),
    Supervisord(),
    Circus(),
    Honcho(),
)


def install() -> None:
    """Install missing peers: Debian packages as root, Python packages into an environment of their own."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        missing = [peer.name for peer in PEERS if peer.name in DEBIAN and not peer.available()]
        if missing:
            for words in (["update"], ["install", "-y", "--no-install-recommends", "curl", *missing]):
                subprocess.run(["apt-get", "-qq", *words], check=False, stdout=subprocess.DEVNULL)
    install_python(CACHE / "bench-peers", "bench")
    install_build(CACHE / "bench-ours", ROOT)


def install_build(folder: Path, source: Path) -> None:
    """Install the project from this source into an environment of its own."""
    install_python(folder, "run", "build", source=source)
    words = ["install", "-q", "--no-deps", "--no-build-isolation", "--force-reinstall", str(source)]
    subprocess.run([str(folder / "bin/pip"), *words], check=True)


def install_python(folder: Path, *locks: str, source: Path = ROOT) -> None:
    """Create an environment from locks, once for each state of these."""
    paths = [source / f"requirements/{lock}.txt" for lock in locks]
    state = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == state:
        return
    venv.create(folder, with_pip=True, clear=True)
    options = [word for path in paths for word in ("-r", str(path))]
    subprocess.run([str(folder / "bin/pip"), "install", "-q", "--require-hashes", *options], check=True)
    stamp.write_text(state)


def script(path: Path, line: str) -> None:
    """Write a shell script of one line."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def quoted(word: str) -> str:
    """Return a word as TOML text."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
