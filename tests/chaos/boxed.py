"""Worlds in the image: a supervisor as process 1 of a container, started as platforms do."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos import world as worlds
from tests.chaos.client import APP
from tests.chaos.groups import Group
from tests.chaos.kinds import IMAGES
from tests.chaos.prober import MOST_S, Prober
from tests.chaos.sight import Inside, Sight
from tests.chaos.surroundings import image, network
from tests.chaos.world import CHILD, SECOND, World
from tests.support.docker import Container, docker, has_runtime, unique
from tests.support.processes import alive
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.chaos.surroundings import Surroundings

_INSIDE = "/chaos"
_RUN_DIR = "/run/moltis-supervisor"
_ROOT_NEEDS = ("SETUID", "SETGID", "KILL", "CHOWN", "DAC_OVERRIDE", "FOWNER")
_NARROW = ("--cap-drop", "ALL", *(word for name in _ROOT_NEEDS for word in ("--cap-add", name)))
# App Platform's smallest size; the limit of processes is one that a child can reach.
_LIMITS = ("--memory", "512m", "--memory-swap", "512m", "--pids-limit", "256")
_SMALL = "size=1m"
_USER = 1000


class Form(NamedTuple):
    """How a container is started; ``on_disk`` is whether its run folder and state are on the world's small disk."""

    options: tuple[str, ...]
    run_dir: str = _RUN_DIR
    user: int = 0
    on_disk: bool = False
    # A sandbox has its own kernel, whose processes are not visible from outside.
    sandbox: bool = False
    most_s: float = MOST_S
    settings: Mapping[str, str] = MappingProxyType({})


FORMS = {
    "image-limits": Form((*_LIMITS, *_NARROW), on_disk=True),
    "image-read-only": Form(
        (
            *("--read-only", "--tmpfs", f"/run:{_SMALL}", "--tmpfs", "/tmp:size=64m"),
            *("--tmpfs", "/var/lib/tailscale", "--tmpfs", f"/home/moltis:uid={_USER},mode=0700"),
        )
    ),
    "image-user": Form(
        ("--user", str(_USER), "--cap-drop", "ALL"),
        run_dir=f"/tmp/moltis-supervisor-{_USER}",
        user=_USER,
        on_disk=True,
        settings={"SUPERVISOR_LOG_OVERFLOW": "drop"},
    ),
    "image-gvisor": Form(
        ("--runtime", "runsc", "--memory", "512m", *_NARROW, "--tmpfs", f"/run:{_SMALL}", "--tmpfs", "/tmp:size=64m"),
        sandbox=True,
        most_s=2 * MOST_S,
    ),
}


class BoxedWorld(World):
    """One container, which may be killed and started again with what it left."""

    over_port = True
    # The engine's time to remove a container; one that was not in time exits with 137.
    overrun_s = 30.0

    def __init__(self, flavour: str, before: Surroundings | None = None) -> None:
        self.form = FORMS[flavour]
        super().__init__(flavour, before)
        self.place.chmod(0o777)
        (self.place / "counts").chmod(0o777)
        if not self.form.on_disk:
            self.run_dir = self.folder / "in-memory"
        self.box = Container(unique("chaos"))
        self._stops: list[subprocess.Popen[bytes]] = []
        self._id = docker(*self._create(), APP, env=os.environ | self._environment()).stdout.strip()

    def _mount(self) -> None:
        """Create a small disk if the container is to have one; others get a small file system from the engine."""
        if self.form.on_disk:
            super()._mount()

    def _write_settings(self) -> None:
        self._write_port()
        self._write_processes("python3", "-I", "-S", "/usr/local/lib/chaos/child.py", _INSIDE)

    def _create(self) -> list[str]:
        """Return the command that creates the container; it takes values of settings from the environment."""
        folder, form = self.folder, self.form
        binds = [
            (self.place, _INSIDE, "rw"),
            (folder / "supervisor.toml", "/etc/chaos.toml", "ro"),
            (self._readable(CHILD), "/usr/local/lib/chaos/child.py", "ro"),
            (self._readable(str(Path(__file__).with_name("sight.py"))), "/usr/local/lib/chaos/sight.py", "ro"),
        ]
        if form.on_disk:
            binds += [(self._owned("run"), form.run_dir, "rw"), (self._owned("state"), "/var/lib/tailscale", "rw")]
        if worlds.package:
            binds.append((Path(worlds.package) / "supervisor", _packages() + "/supervisor", "ro"))
        volumes = [word for outside, inside, mode in binds for word in ("--volume", f"{outside}:{inside}:{mode}")]
        names = [word for name in self._environment() for word in ("--env", name)]
        command = ("python3", "-I", "-S", "/usr/local/lib/chaos/child.py", _INSIDE)
        health = ("--health-interval", "2s", "--health-start-period", "0s")
        where = ("--name", self.box.name, "--network", network().name)
        return ["create", *where, *health, *form.options, *volumes, *names, image(), *command]

    def _owned(self, name: str) -> Path:
        path = self.disk / name
        path.mkdir(mode=0o700)
        os.chown(path, self.form.user, self.form.user)
        return path

    def _watched(self) -> dict[str, str]:
        """Return nothing: the image starts the supervisor."""
        return {}

    def _readable(self, path: str) -> Path:
        """Return a copy that everyone may read, whatever the checkout's modes are."""
        copy = self.folder / Path(path).name
        shutil.copyfile(path, copy)
        copy.chmod(0o644)
        return copy

    def _environment(self) -> dict[str, str]:
        settings = super()._environment() | {"SUPERVISOR_CONFIG": "/etc/chaos.toml", "PORT": "8080"}
        settings |= {"TS_STATE_DIR": "/var/lib/tailscale", "SUPERVISOR_RUN_DIR": self.form.run_dir}
        settings |= self.form.settings
        return {name: text for name, text in settings.items() if name not in {"PATH", "HOME"}}

    def _command(self) -> list[str]:
        return ["docker", "start", "--attach", self.box.name]

    def _client_environment(self) -> dict[str, str]:
        return {**os.environ}

    def _find(self) -> int:
        pid = wait_until(lambda: int(self.box.state()["Pid"]), what="process 1")
        self.host = self.box.ip
        if not self.form.sandbox:
            return pid
        words = ["docker", "exec", "--privileged", "--user", "root", "--interactive", self.box.name]
        words += ["python3", "-I", "-S", "/usr/local/lib/chaos/sight.py"]
        self.sight = Inside(words)
        return 1

    def _ask_for_health(self, port: int) -> Prober:
        return Prober((self.host, port), int(self.box.state()["Pid"]), self.form.most_s)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return 8080

    @property
    def has_small_disk(self) -> bool:
        """Whether the run folder is on a file system of its own."""
        return self.mounted or not self.form.on_disk

    @property
    def filler(self) -> str:
        """The path, in the sight's view, of the file that fills the run folder's disk."""
        if self.form.on_disk:
            return super().filler
        return "/run/filler" if self.form.sandbox else f"/proc/{self.pid}/root/run/filler"

    def remount(self, how: str) -> None:
        """Remount the file system of the run folder read-only ("ro"), or writable again ("rw")."""
        if self.form.on_disk:
            super().remount(how)
            return
        words = ["nsenter", "--target", str(self.pid), "--mount", "mount", "-o", f"remount,{how}", "/run"]
        subprocess.run(words, capture_output=True, check=False)

    def tell(self, name: str, order: str) -> bool:
        """Send a child an order, if it listens."""
        where = _INSIDE if self.form.sandbox else self.place
        with contextlib.suppress(OSError):
            return self.sight.tell(f"{where}/{name}.sock", order)
        return False

    def outer(self, pid: int) -> int | None:
        """Return the pid, in the sight's view, of a child that the supervisor knows as ``pid``."""
        return pid if self.form.sandbox else super().outer(pid)

    def group(self, controller: str) -> Group | None:
        """Return the container's control group of this controller; None if there is none."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
                _, names, path = line.split(":", 2)
                folder = Path("/sys/fs/cgroup") / names / path.lstrip("/")
                if controller in names.split(",") or not names:
                    with contextlib.suppress(StopIteration):
                        return Group(folder, controller)
        return None

    def _leave_groups(self) -> None:
        """Do nothing: the engine removes them."""

    def ask_to_stop(self) -> None:
        """Have the engine stop it; if it does not end in time it is killed, which shows in its exit code."""
        patience_s = int(self.around.stop_timeout_s + World.overrun_s)
        words = ["docker", "stop", "--time", str(patience_s), self.box.name]
        self._stops.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def second(self) -> tuple[int, str]:
        """Start a second supervisor inside, and return its exit code and output."""
        words = ["exec", "--env", "PORT=0", "--env", "SUPERVISOR_TAILSCALE=off", self.box.name]
        done = docker(*words, "moltis-supervisor", "run", *SECOND, may_fail=True)
        return done.status, done.stderr + done.stdout

    def unwell(self) -> list[str]:
        """Return a problem if the engine does not report it as healthy."""
        health = self.box.state()["Health"]
        word = health["Status"]
        return [] if word == "healthy" else [f"the engine calls it {word}: {health['Log'][-1:]}"]

    def _kill(self) -> None:
        docker("kill", self.box.name, may_fail=True)

    def survivors(self) -> list[int]:
        """Return the processes that outlive their killed container."""
        return self.marked()

    def marked(self) -> list[int]:
        """Return every live process of this container; for a sandbox, the processes that the engine runs for it."""
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [pid for pid in pids if self._is_marked(pid) and alive(pid)]

    def _is_marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            if self.form.sandbox:
                words = Sight().words(pid)
                return words.startswith("runsc-") and self._id in words
            # The number of a namespace is soon reused after its end.
            return self._id in Path(f"/proc/{pid}/cgroup").read_text()
        return False

    def clear(self) -> None:
        """Wait until nothing is left of a killed container: the kernel ends everything."""
        wait_until(lambda: not self.marked(), what="the end of what was left")

    def close(self) -> None:
        """End everything that is left, and remove the container and the folder."""
        docker("rm", "--force", "--volumes", self.box.name, may_fail=True)
        if isinstance(self.sight, Inside):
            self.sight.close()
        for stop in self._stops:
            stop.wait(30)
        super().close()


@cache
def _packages() -> str:
    """Return the folder of the image that the package is in."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    python = "/opt/moltis-supervisor/bin/python"
    return docker("run", "--rm", "--entrypoint", python, image(), "-c", code).stdout.strip()


def playable(flavours: Sequence[str]) -> list[str]:
    """Return those that this engine can play, as not every engine has a sandbox."""
    return [flavour for flavour in flavours if not FORMS[flavour].sandbox or has_runtime("runsc")]


def world_of(flavour: str, before: Surroundings | None = None) -> World:
    """Return a new world of this flavour."""
    return BoxedWorld(flavour, before) if flavour in IMAGES else World(flavour, before)
