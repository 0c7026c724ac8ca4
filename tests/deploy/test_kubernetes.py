"""The manifests: rights, users, probes, and that never two run with one device."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.files import documents, pod, read, stateful_set

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "deploy/kubernetes"


def kind(name: str) -> Any:
    """Return the one object of a kind."""
    (found,) = [document for document in documents(FOLDER) if document["kind"] == name]
    return found


def mounts(name: str) -> dict[str, str]:
    """Return a container's volumes, and where they are mounted."""
    return {mount["name"]: mount["mountPath"] for mount in pod()[name]["volumeMounts"]}


@pytest.mark.parametrize("name", ["tailscale", "moltis", "panel"])
def test_each_container(name: str) -> None:
    """It is no root, changes nothing of its image, has no capability, and says what it needs."""
    container = pod()[name]
    context = container["securityContext"]
    assert context["runAsUser"] > 0
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    assert container["startupProbe"]
    assert container["image"] in {image["name"] for image in read(f"{FOLDER}/kustomization.yaml")["images"]}


def test_the_pod() -> None:
    """It is what the namespace's standard (restricted) asks for."""
    spec = stateful_set()["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert kind("Namespace")["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    allowed = {"emptyDir", "projected", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])


def test_never_two_with_one_device() -> None:
    """A StatefulSet of one starts a pod when the one before is gone."""
    assert kind("StatefulSet")["spec"]["replicas"] == 1
    assert not [document for document in documents(FOLDER) if document["kind"] == "Deployment"]


def test_the_sidecar_is_native_and_tailscaled_itself() -> None:
    """It is up before the others and stops after them; its state is in the Secret that it may use."""
    (sidecar,) = stateful_set()["template"]["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["command"] == ["/usr/local/bin/tailscaled"]
    assert {"--tun=userspace-networking", f"--state=kube:{kind('Secret')['metadata']['name']}"} <= set(sidecar["args"])


def test_least_rights() -> None:
    """Three verbs on one Secret by its name, which is there already, with nothing in it that would be overwritten."""
    (rule,) = kind("Role")["rules"]
    secret = kind("Secret")
    assert rule == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [secret["metadata"]["name"]],
        "verbs": ["get", "update", "patch"],
    }
    assert not {"data", "stringData"} & set(secret)
    assert kind("RoleBinding")["roleRef"]["name"] == kind("Role")["metadata"]["name"]
    assert kind("RoleBinding")["subjects"] == [{"kind": "ServiceAccount", "name": "tailscale"}]
    assert not [document for document in documents(FOLDER) if document["kind"].startswith("Cluster")]


def test_who_gets_the_clusters_token() -> None:
    """tailscaled alone: it is given to no container by itself, and to the sidecar as a volume."""
    assert stateful_set()["template"]["spec"]["automountServiceAccountToken"] is False
    assert kind("ServiceAccount")["automountServiceAccountToken"] is False
    assert [name for name in pod() if "token" in mounts(name)] == ["tailscale"]


def test_who_may_command_tailscaled() -> None:
    """The panel is its user and has its socket's folder; the app is another user, and has no way to it."""
    users = {name: container["securityContext"]["runAsUser"] for name, container in pod().items()}
    assert users["panel"] == users["tailscale"] != users["moltis"]
    assert [name for name in pod() if "socket" in mounts(name)] == ["tailscale", "panel"]
    assert "secrets" not in mounts("moltis")


def test_the_app_is_asked_inside() -> None:
    """It listens where only the pod itself reaches it, and so the kubelet's own questions would find nobody."""
    app = pod()["moltis"]
    address = app["args"][app["args"].index("--bind") + 1]
    assert address == pod_env("panel")["SUPERVISOR_APP_BIND"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f"/dev/tcp/{address}/{pod_env('panel')['SUPERVISOR_APP_PORT']}" in app[probe]["exec"]["command"][2]
        assert "httpGet" not in app[probe]


@pytest.mark.parametrize("end", ["", "\n"])
def test_moltis_gets_the_password_that_people_type(tmp_path: Path, end: str) -> None:
    """A Secret that was made from a file ends with a newline; its password and arguments are otherwise untouched."""
    program = tmp_path / "moltis"
    program.write_text('#!/bin/sh\nprintf \'%s|\' "$MOLTIS_PASSWORD" "$@"\n')
    program.chmod(0o755)
    app = pod()["moltis"]
    done = subprocess.run(
        [*app["command"], *app["args"]],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "MOLTIS_PASSWORD": f" a $PATH 'word' {end}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "|".join([" a $PATH 'word' ", *app["args"], ""])


def test_the_panel_is_asked_on_its_own_paths() -> None:
    """Alive is the supervisor itself; ready never takes it out of service for a tailnet that is away."""
    panel = pod()["panel"]
    (port,) = panel["ports"]
    assert str(port["containerPort"]) == pod_env("panel")["PORT"]
    paths = {probe: panel[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


def pod_env(name: str) -> dict[str, str]:
    """Return a container's plain variables."""
    return {each["name"]: each.get("value", "") for each in pod()[name].get("env", ())}
