"""The image itself: built by both builders, its size, its contents, and the owners of its files."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from tests.support.control import ROOT
from tests.support.docker import docker, unique

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

MOST_ADDED_BYTES = 40_000_000
DOCKERFILE = ("--file", str(ROOT / "Dockerfile.embedded"))
ON_DEBIAN = ("--build-arg", "MOLTIS_IMAGE=debian", "--build-arg", "MOLTIS_TAG=trixie-slim")
VENV = "/opt/moltis-supervisor"
# Prints which of the loaded modules have no byte code.
TELL = """
import os, sys
def tell():
    for name, module in list(sys.modules.items()):
        cached = getattr(module, "__cached__", None)
        if cached and module.__spec__.origin != "frozen" and not os.path.exists(cached):
            print("uncompiled", name, flush=True)
    print("looked", flush=True)
"""
# Loads all modules of the supervisor.
UNCOMPILED = f"""{TELL}
import pkgutil
from importlib import import_module
import supervisor
for found in pkgutil.walk_packages(supervisor.__path__, "supervisor."):
    if found.name != "supervisor.telemetry.otlp":
        import_module(found.name)
tell()
"""
# Runs the supervisor, requests what it loads late, and prints at its end which loaded modules have no byte code.
RUN_UNCOMPILED = f"""{TELL}
import runpy, signal, threading, time
from urllib.request import urlopen
def use():
    for path in ("/health", "/", "/panel/main.js", "/metrics"):
        while True:
            try:
                urlopen("http://127.0.0.1:8080" + path, timeout=10).read()
                break
            except OSError as error:
                if getattr(error, "code", 0):
                    break
                time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
def end(status, really=os._exit):
    tell()
    really(status)
os._exit = end
threading.Thread(target=use, daemon=True).start()
sys.argv = ["supervisor", "run", "--", "sleep", "300"]
runpy.run_module("supervisor", run_name="__main__")
"""
# Prints which modules of Python cannot be loaded: only those for other systems, or in a separate package.
UNLOADABLE = """
import sys
from importlib import import_module
for name in sorted(sys.stdlib_module_names - {"antigravity", "this"}):
    try:
        import_module(name)
    except ImportError:
        print(name)
"""
NOT_IN_DEBIAN = {
    *("_gdbm", "_ios_support", "_overlapped", "_scproxy", "_tkinter", "_winapi", "_wmi", "ensurepip", "idlelib"),
    *("msvcrt", "nt", "tkinter", "turtle", "turtledemo", "winreg", "winsound"),
}


def image_bytes(image: str) -> int:
    """Return the size of an image."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)


def _inside(image: str, script: str, user: str = "root") -> str:
    words = ("--rm", "--network", "none", "--user", user, "--entrypoint", "sh", image, "-c", script)
    return docker("run", *words).stdout


def test_it_adds_at_most_40_mb_besides_tailscaled_and_restic() -> None:
    """The difference in size is measured on a bare Debian; nothing needs the files left out."""
    name = f"moltis-embedded:{unique('bare')}"
    docker("buildx", "build", "--load", "--quiet", *DOCKERFILE, *ON_DEBIAN, "--tag", name, str(ROOT), timeout_s=600)
    try:
        others = sum(map(int, _inside(name, "stat -c %s /usr/local/bin/tailscaled /usr/bin/restic").split()))
        added = image_bytes(name) - image_bytes("debian:trixie-slim") - others
        assert 0 < added <= MOST_ADDED_BYTES, f"{added / 1e6:.1f} MB are added"
        assert _inside(name, "id -u moltis; id -u tailscale").split()[0] == "1000"
        assert "moltis-supervisor " in _inside(name, "moltis-supervisor --version", "moltis")
        assert _inside(name, f"{VENV}/bin/python -I -B -c '{UNCOMPILED}'").splitlines() == ["looked"]
        env = "SUPERVISOR_TAILSCALE=off PORT=8080 SUPERVISOR_APP_HEALTH_URL="
        said = _inside(name, f"{env} {VENV}/bin/python -I -B -c '{RUN_UNCOMPILED}'").splitlines()
        assert said[-1] == "looked"
        assert [line for line in said if line.startswith("uncompiled")] == []
        assert set(_inside(name, f"python3 -c '{UNLOADABLE}'").split()) <= NOT_IN_DEBIAN
    finally:
        docker("image", "rm", "--force", name)


def test_dockers_own_builder_builds_it_too() -> None:
    """No feature of BuildKit is needed."""
    name = f"moltis-embedded:{unique('plain')}"
    done = subprocess.run(
        ["env", "DOCKER_BUILDKIT=0", "docker", "build", "--quiet", *DOCKERFILE, "--tag", name, str(ROOT)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    docker("image", "rm", "--force", name)


def test_its_settings_are_those_of_the_contract(image: str) -> None:
    """They are entrypoint, empty command, stop signal, health check, labels, and root as the initial user."""
    config: dict[str, Any] = json.loads(docker("image", "inspect", image).stdout)[0]["Config"]
    assert config["Entrypoint"] == ["/opt/moltis-supervisor/bin/entrypoint.sh"]
    assert not config["Cmd"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["User"] == "root"
    assert config["Healthcheck"]["Test"] == ["CMD", "/opt/moltis-supervisor/bin/healthcheck"]
    assert {f"org.opencontainers.image.{name}" for name in ("title", "description", "licenses", "source")} <= set(
        config["Labels"]
    )


def test_nothing_but_what_it_takes_is_in_it(image: str) -> None:
    """There are no pip, C sources, caches, or tests of ours; and the byte code is compiled and trusted."""
    venv = "/opt/moltis-supervisor"
    assert (
        _inside(image, f"find {venv} -name pip -o -name 'pip-*' -o -name '*.pyx' -o -name '*.c' -o -name tests").split()
        == []
    )
    assert _inside(image, "ls /var/lib/apt/lists; ls /usr/local/bin").split() == [
        *("healthcheck", "moltis", "moltis-supervisor", "tailscaled")
    ]
    flags = f"{venv}/bin/python -c \"import supervisor.cli as m; print(list(open(m.__cached__, 'rb').read(8))[4])\""
    # 1: checked by hash, but the hash is not compared at run time.
    assert _inside(image, flags).strip() == "1"


def test_nothing_that_root_runs_is_the_apps_to_change(image: str) -> None:
    """The code belongs to root; state and the app's folders belong to their users; sudo grants nothing."""
    assert _inside(image, "find /opt/moltis-supervisor ! -user root -o ! -type l -perm /022").split() == []
    told = _inside(image, "stat -c '%U %a %n' /var/lib/tailscale /home/moltis/.config/moltis /home/moltis/.moltis")
    assert told.splitlines() == [
        "tailscale 700 /var/lib/tailscale",
        "moltis 700 /home/moltis/.config/moltis",
        "moltis 700 /home/moltis/.moltis",
    ]
    assert _inside(image, "sudo -n id -u 2>/dev/null || echo no", "moltis").strip() == "no"
