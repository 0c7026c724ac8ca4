"""The pod of deploy/kubernetes, in containers that share a network: users, rights and commands are the manifest's.

What takes a cluster is left out: the state is in a folder instead of a Secret.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from tests.deploy.files import pod, stateful_set
from tests.image.compose.project import PASSWORD, QUIET, TOKEN, droplet_images
from tests.image.conftest import KEY
from tests.support.docker import PATIENCE_S, Container, docker, unique
from tests.support.peer import peer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.control import Control

SECRETS = {"ts-authkey": KEY, "supervisor-token": TOKEN}


def folders(root: Path, group: int) -> dict[str, Path]:
    """Make the pod's volumes as Kubernetes hands them out: the pod's group may write, and owns what is new."""
    spec = stateful_set()
    names = [volume["name"] for volume in spec["template"]["spec"]["volumes"]]
    names += [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]]
    made = {name: root / name for name in names}
    for folder in made.values():
        folder.mkdir()
        owned(folder, group, 0o2775)
    for name, text in SECRETS.items():
        (made["secrets"] / name).write_text(f"{text}\n")
        owned(made["secrets"] / name, group, 0o440)
    return made


def owned(path: Path, group: int, mode: int) -> None:
    """Give it to root and the pod's group."""
    os.chown(path, 0, group)
    path.chmod(mode)


def options(container: Any, volumes: dict[str, Path], group: int) -> list[str]:
    """Return what `docker run` is told of a container's rights, volumes and variables."""
    context = container["securityContext"]
    given = {each["name"]: each["value"] for each in container.get("env", ()) if "value" in each}
    # From a Secret that was made from a file.
    given |= {"MOLTIS_PASSWORD": f"{PASSWORD}\n"} if container["name"] == "moltis" else {}
    words = ["--user", f"{context['runAsUser']}:{context['runAsGroup']}", "--group-add", str(group)]
    words += ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    for mount in container["volumeMounts"]:
        words += ["--volume", f"{volumes[mount['name']]}:{mount['mountPath']}{':ro' * mount.get('readOnly', False)}"]
    for name, text in (given | QUIET).items():
        words += ["--env", f"{name}={text}"]
    return words


@contextlib.contextmanager
def running(root: Path, image: str, network: str, control: Control) -> Iterator[dict[str, Container]]:
    """Run the pod: a container that holds the network, and the three in it."""
    group = stateful_set()["template"]["spec"]["securityContext"]["fsGroup"]
    volumes = folders(root, group)
    images = droplet_images(image)
    name = unique("pod")
    made = [f"{name}-pause"]
    docker("run", "--detach", "--name", made[0], "--network", network, "--entrypoint", "sleep", image, "3600")
    try:
        for box, container in pod().items():
            words = options(container, volumes, group)
            if box == "panel":
                words += ["--env", f"TS_EXTRA_ARGS=--login-server={control.url}"]
            command, *rest = (*container.get("command", ()), *container.get("args", ())) or ("",)
            rest = ["--state=/tmp/state" if word.startswith("--state=kube:") else word for word in rest]
            words += ["--entrypoint", command] if command else []
            made.append(f"{name}-{box}")
            words += ["--network", f"container:{made[0]}"]
            docker("run", "--detach", "--name", made[-1], *words, images[box], *rest)
        yield {box: Container(f"{name}-{box}") for box in pod()}
    finally:
        docker("rm", "--force", "--volumes", *made)


def test_the_pod(tmp_path: Path, image: str, network: str, control: Control) -> None:
    """As other users, without rights and on images that do not change, all three work together."""
    with running(tmp_path, image, network, control) as boxes, peer(control) as other:
        panel, moltis = boxes["panel"], boxes["moltis"]
        view: Any = {}

        def connected() -> bool:
            nonlocal view
            said = panel.execute("moltis-supervisor", "status", "--json", may_fail=True).stdout
            view = json.loads(said)["tailscale"] if said else {}
            return bool(view.get("state") == "connected" and view.get("mode") == "serve")

        wait_until(connected, PATIENCE_S, f"the pod in the tailnet: {panel.logs()}")
        ip, name = view["tailscale_ip"], view["hostname"]
        other.wait_path(ip)
        wait_until(lambda: other.fetch(ip, 80, host_header=name).status == 200, PATIENCE_S, "the app's page")
        assert other.fetch(ip, 8080, "/readyz").status == 200
        assert not other.connects(ip, 13131)
        probe = pod()["moltis"]["readinessProbe"]["exec"]["command"]
        assert moltis.execute(*probe, may_fail=True).status == 0
        startup = pod()["tailscale"]["startupProbe"]["exec"]["command"]
        assert boxes["tailscale"].execute(*startup, may_fail=True).status == 0
        assert view["tags"] == ["tag:moltis"]
        assert "not kept" not in panel.logs()
        assert (tmp_path / "kept/serve.json").exists()
        assert panel.stop(30) < PATIENCE_S / 2
        assert moltis.stop(30) < PATIENCE_S / 2
