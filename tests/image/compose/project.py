"""A compose project: a deploy folder's files as they are, with what leads them to the tests' images and tailnet."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from tests.support.control import ROOT
from tests.support.docker import PATIENCE_S, Container, docker, unique
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.control import Control

TOKEN = "an-admin-token-of-good-length"
PASSWORD = "a-password-nobody-would-guess"
# No way out of this machine is looked for.
QUIET = {"TS_DISABLE_PORTMAPPER": "1", "TS_DEBUG_ACME_DIRECTORY_URL": "http://127.0.0.1:1/directory"}


class Project(NamedTuple):
    """A copy of a deploy folder, and the name that its containers go by."""

    folder: Path
    name: str

    def compose(self, *words: str, files: tuple[str, ...] = ("compose.yaml",), timeout_s: float = 180.0) -> str:
        """Run `docker compose` with the folder's files and the tests' own."""
        chosen = [word for file in (*files, "tests.yaml") for word in ("--file", str(self.folder / file))]
        return docker("compose", "--project-name", self.name, *chosen, *words, timeout_s=timeout_s).stdout

    def container(self, service: str) -> Container:
        """Return the container of a service."""
        return Container(self.compose("ps", "--all", "--quiet", service).strip())

    def api(self, service: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Ask the panel's API, as somebody who is signed in, from inside its container; 0 where it does not answer."""
        code = (
            "import http.client, sys\n"
            "c = http.client.HTTPConnection('127.0.0.1', 8080, timeout=10)\n"
            "c.request(sys.argv[1], sys.argv[2], sys.stdin.read() or None,"
            " {'Authorization': 'Bearer ' + sys.argv[3], 'Content-Type': 'application/json'})\n"
            "a = c.getresponse()\n"
            "print(a.status, a.read().decode())\n"
        )
        words = ("python3", "-c", code, method, path, TOKEN)
        said = self.container(service).execute(*words, stdin=json.dumps(body or {}), may_fail=True)
        if said.status != 0:
            return 0, None
        status, _, text = said.stdout.partition(" ")
        return int(status), json.loads(text)

    def view(self, service: str) -> Any:
        """Return what the panel knows of the tailnet; None where it does not answer."""
        return self.api(service, "GET", "/api/tailscale/status")[1]

    def wait_view(self, service: str, deadline_s: float = PATIENCE_S, **fields: object) -> Any:
        """Wait until the panel says so, and return all that it says."""
        view: Any = None

        def found() -> bool:
            nonlocal view
            view = self.view(service)
            return view is not None and all(view[name] == value for name, value in fields.items())

        try:
            wait_until(found, deadline_s)
        except AssertionError as error:
            logs = self.container(service).logs()[-3000:]
            raise AssertionError(f"waited in vain for {fields}; at last it was {view}\n{logs}") from error
        return view

    def down(self) -> float:
        """End it as its owner would, and return the seconds that took."""
        begin_s = time.monotonic()
        self.compose("down")
        return time.monotonic() - begin_s


def secrets(folder: Path, key: str) -> None:
    """Write the secret files as the README says, the password for Moltis' user."""
    kept = folder / "secrets"
    kept.mkdir(mode=0o700)
    for name, text in (("ts-authkey", key), ("supervisor-token", TOKEN), ("moltis-password", PASSWORD)):
        (kept / name).write_text(f"{text}\n")
        (kept / name).chmod(0o400)


def droplet_images(image: str) -> dict[str, str]:
    """Return the Droplet's images: Moltis' stand-in has the name of the Dockerfile's base image."""
    found = re.findall(r"^ARG (\w+)=(.*)$", (ROOT / "Dockerfile.embedded").read_text(), re.MULTILINE)
    given = dict(found)
    return {
        "tailscale": f"{given['TAILSCALE_IMAGE']}:{given['TAILSCALE_TAG']}",
        "moltis": f"{given['MOLTIS_IMAGE']}:{given['MOLTIS_TAG']}",
        "panel": image,
    }


def overrides(services: Mapping[str, str], logs_in: str, control: Control) -> dict[str, Any]:
    """Return what of each service is another one for the tests: its image, and its way to the tailnet."""
    login = {"TS_EXTRA_ARGS": f"--login-server={control.url}"}
    return {
        name: {"image": image, "pull_policy": "never", "environment": QUIET | (login if name == logs_in else {})}
        for name, image in services.items()
    }


def overlaid(file: Path, image: str, control: Control) -> None:
    """Write the same into the Droplet's compose file itself."""
    content = yaml.safe_load(file.read_text())
    for name, changes in overrides(droplet_images(image), "panel", control).items():
        service = content["services"][name]
        service["environment"].update(changes.pop("environment"))
        service.update(changes)
    file.write_text(yaml.safe_dump(content))


@contextlib.contextmanager
def project(
    tmp_path: Path, platform: str, services: Mapping[str, str], logs_in: str, key: str, control: Control
) -> Iterator[Project]:
    """Prepare a project of ``deploy/PLATFORM`` and take it away afterwards.

    ``services`` are the images that stand in for those in the file; the service ``logs_in`` is the one that logs in.
    """
    folder = tmp_path / platform
    shutil.copytree(ROOT / "deploy" / platform, folder)
    secrets(folder, key)
    override = overrides(services, logs_in, control)
    (folder / "tests.yaml").write_text(yaml.safe_dump({"services": override}))
    found = Project(folder, unique(platform).lower())
    try:
        yield found
    finally:
        found.compose("down", "--volumes", "--timeout", "1")
