"""The compose files: pinned versions, closed ports, and the order of starts."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from supervisor import __version__
from supervisor.config.parsers import duration_s
from tests.conventions.tree import read as read_text
from tests.conventions.tree import tracked
from tests.deploy.files import DEPLOY, read
from tests.support.control import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DROPLET = "deploy/droplet/compose.yaml"
SERVICES = [
    pytest.param(service, id=f"{platform} {name}")
    for platform in ("docker", "droplet")
    for name, service in read(f"deploy/{platform}/compose.yaml")["services"].items()
]


@pytest.mark.parametrize("service", SERVICES)
def test_each_service(service: Any) -> None:
    """It restarts, has a pinned version, publishes no port, and has no privileges on the machine."""
    assert service["restart"] in {"always", "unless-stopped"}
    assert re.search(r":[v\d][\w.]+\}?$", service["image"])
    assert "ports" not in service
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & set(service)
    assert not [volume for volume in service["volumes"] if volume.startswith((".", "/"))]


@pytest.mark.parametrize("service", read(DROPLET)["services"].values(), ids=read(DROPLET)["services"])
def test_each_service_of_the_droplet(service: Any) -> None:
    """It has no capability, and cannot gain any by a set-uid program."""
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_sidecar_is_tailscaled_itself() -> None:
    """containerboot would exit at a disconnect; no tun device is used, and the socket is in a shared folder."""
    services = read(DROPLET)["services"]
    sidecar = services["tailscale"]
    assert sidecar["entrypoint"] == ["/usr/local/bin/tailscaled"]
    assert "--tun=userspace-networking" in sidecar["command"]
    socket = services["panel"]["environment"]["TS_SOCKET"]
    assert f"--socket={socket}" in sidecar["command"]
    assert f"--socket={socket}" in sidecar["healthcheck"]["test"]
    folder = f"socket:{socket.rpartition('/')[0]}"
    assert [name for name, service in services.items() if folder in service["volumes"]] == ["tailscale", "panel"]


@pytest.mark.parametrize("is_set_up", [False, True])
def test_moltis_gets_its_password_until_it_is_set_up(tmp_path: Path, *, is_set_up: bool) -> None:
    """Later it would still be valid beside one that its owner has set; a file that cannot be read ends the start."""
    program = tmp_path / "moltis"
    program.write_text('#!/bin/sh\nprintf \'%s|\' "${MOLTIS_PASSWORD-none}" "$@"\n')
    program.chmod(0o755)
    moltis = read(DROPLET)["services"]["moltis"]
    (data,) = [volume.partition(":")[2] for volume in moltis["volumes"] if volume.startswith("data:")]
    (secret,) = [f"/run/secrets/{name}" for name in moltis["secrets"]]
    assert data in " ".join(moltis["entrypoint"])
    words = [
        word.replace("$$", "$").replace(data, f"{tmp_path}/data").replace(secret, f"{tmp_path}/password")
        for word in (*moltis["entrypoint"], *moltis["command"])
    ]
    if is_set_up:
        (tmp_path / "data/agents/main").mkdir(parents=True)

    def start() -> str:
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        return subprocess.run(words, env=env, capture_output=True, text=True, check=False).stdout

    without = "|".join(["none", *moltis["command"], ""])
    assert start() == (without if is_set_up else "")
    (tmp_path / "password").write_text(" a $PATH 'word' \n")
    assert start() == (without if is_set_up else without.replace("none", " a $PATH 'word' "))


def test_the_app_does_not_see_the_panel() -> None:
    """Each shares a network with the sidecar, and none with the other."""
    services = read(DROPLET)["services"]
    networks = {name: set(service["networks"]) for name, service in services.items()}
    assert not networks["moltis"] & networks["panel"]
    assert networks["tailscale"] == networks["moltis"] | networks["panel"]
    assert services["panel"]["depends_on"] == {"tailscale": {"condition": "service_healthy"}}


def test_the_stop_fits() -> None:
    """Docker's grace period is also set where the page shows `docker run`."""
    page = (DEPLOY / "docker/README.md").read_text()
    patience = re.search(r"--stop-timeout (\d+)", page)
    timeout = re.search(r"SUPERVISOR_STOP_TIMEOUT=(\w+)", page)
    assert patience is not None
    assert timeout is not None
    assert duration_s(timeout[1]) + 5 <= int(patience[1])
    given = read("deploy/docker/compose.yaml")["services"]["moltis"]["environment"]
    for name, text in given.items():
        assert f"{name}={text}" in page


def test_versions_are_the_same_everywhere() -> None:
    """Ours is the package's, tailscaled's is the pinned one, and Moltis' is the same everywhere."""
    texts = {path: path.read_text() for path in (*DEPLOY.rglob("*.yaml"), ROOT / ".do/deploy.template.yaml")}
    ours = [found for text in texts.values() for found in re.findall(r"moltis-embedded:([\d.]+)", text)]
    assert set(ours) == {__version__}
    pinned = re.search(r"TAILSCALE_VERSION=(\S+)", (ROOT / "scripts/tailscaled.pin").read_text())
    assert pinned is not None
    tailscale = [found for text in texts.values() for found in re.findall(r"tailscale/tailscale:v([\d.]+)", text)]
    assert set(tailscale) == {pinned[1]}
    images = {
        image["newName"].rpartition("/")[2]: image["newTag"]
        for image in read("deploy/kubernetes/kustomization.yaml")["images"]
    }
    base = re.search(r"^ARG MOLTIS_TAG=(.*)$", (ROOT / "Dockerfile.embedded").read_text(), re.MULTILINE)
    assert base is not None
    moltis = [found for text in texts.values() for found in re.findall(r"moltis-org/moltis:([\d.]+)", text)]
    assert set(moltis) == {images["moltis"]} == {base[1]}
    assert (images["tailscale"], images["moltis-embedded"]) == (f"v{pinned[1]}", __version__)
    for path in ("deploy/app-platform/app.yaml", ".do/deploy.template.yaml"):
        assert f"tag: {__version__}\n" in texts[ROOT / path]


def test_the_pages_name_the_image_with_its_version() -> None:
    """A command with the bare name would look for a tag that no page builds."""
    code = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
    blocks = [(path, block) for path in tracked() if path.endswith(".md") for block in code.findall(read_text(path))]
    named = [(path, block) for path, block in blocks if re.search(r"docker (build|run)\b|^FROM ", block, re.MULTILINE)]
    assert len(named) > 5
    bare = re.compile(r"(?<![\w/.-])moltis-embedded(?![\w/:-])")
    assert not [(path, block) for path, block in named if bare.search(block)]
