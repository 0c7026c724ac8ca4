"""The manifests: rights, users, probes, and never two pods with one device."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.files import documents, pod, read, stateful_set

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "deploy/kubernetes"


def kind(name: str) -> Any:
    """Return the only object of a kind."""
    (found,) = [document for document in documents(FOLDER) if document["kind"] == name]
    return found


def mounts(name: str) -> dict[str, str]:
    """Return the paths of a container's volumes, by name."""
    return {mount["name"]: mount["mountPath"] for mount in pod()[name]["volumeMounts"]}


@pytest.mark.parametrize("name", ["tailscale", "moltis", "panel"])
def test_each_container(name: str) -> None:
    """It does not run as root, has a read-only root and no capabilities, and sets its memory limit."""
    container = pod()[name]
    context = container["securityContext"]
    assert context["runAsUser"] > 0
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    assert container["startupProbe"]
    assert container["image"] in {image["name"] for image in read(f"{FOLDER}/kustomization.yaml")["images"]}


def test_the_pod() -> None:
    """It meets the namespace's pod security standard (restricted)."""
    spec = stateful_set()["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert kind("Namespace")["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    allowed = {"emptyDir", "projected", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])


def test_never_two_with_one_device() -> None:
    """A StatefulSet with one replica starts a pod only when the previous one is gone."""
    assert kind("StatefulSet")["spec"]["replicas"] == 1
    assert not [document for document in documents(FOLDER) if document["kind"] == "Deployment"]


def test_the_sidecar_is_native_and_tailscaled_itself() -> None:
    """It starts before the others and stops after them; its state is in the Secret that it may use."""
    (sidecar,) = stateful_set()["template"]["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["command"] == ["/usr/local/bin/tailscaled"]
    assert {"--tun=userspace-networking", f"--state=kube:{kind('Secret')['metadata']['name']}"} <= set(sidecar["args"])


def test_what_hangs_is_restarted() -> None:
    """Kubernetes restarts a container for its liveness probe alone; the sidecar's is the question of its start."""
    assert all(container["livenessProbe"] for container in pod().values())
    sidecar = pod()["tailscale"]
    assert sidecar["livenessProbe"]["exec"] == sidecar["startupProbe"]["exec"]


def test_moltis_is_not_process_1() -> None:
    """It reaps only its own children, and process 1 ignores a TERM that it does not handle yet."""
    assert stateful_set()["template"]["spec"]["shareProcessNamespace"] is True


def test_least_rights() -> None:
    """Three verbs are granted on one Secret by name, which already exists, without data that would be overwritten."""
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
    """Only tailscaled gets it: no container does automatically, and the sidecar has it as a volume."""
    assert stateful_set()["template"]["spec"]["automountServiceAccountToken"] is False
    assert kind("ServiceAccount")["automountServiceAccountToken"] is False
    assert [name for name in pod() if "token" in mounts(name)] == ["tailscale"]


def test_who_may_command_tailscaled() -> None:
    """The panel runs as tailscaled's user and has its socket's folder; the app is another user without access."""
    users = {name: container["securityContext"]["runAsUser"] for name, container in pod().items()}
    assert users["panel"] == users["tailscale"] != users["moltis"]
    assert [name for name in pod() if "socket" in mounts(name)] == ["tailscale", "panel"]
    assert "secrets" not in mounts("moltis")


def test_the_app_is_asked_inside() -> None:
    """The app listens where only the pod itself reaches it, so probes of the kubelet would fail."""
    app = pod()["moltis"]
    address = app["args"][app["args"].index("--bind") + 1]
    assert address == pod_env("panel")["SUPERVISOR_APP_BIND"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f"/dev/tcp/{address}/{pod_env('panel')['SUPERVISOR_APP_PORT']}" in app[probe]["exec"]["command"][2]
        assert "httpGet" not in app[probe]


@pytest.mark.parametrize("end", ["", "\n"])
def test_moltis_gets_the_password_that_people_type(tmp_path: Path, end: str) -> None:
    """A Secret made from a file ends with a newline, which is removed; once Moltis is set up, it gets no password."""
    program = tmp_path / "moltis"
    program.write_text('#!/bin/sh\nprintf \'%s|\' "${MOLTIS_PASSWORD-none}" "$@"\n')
    program.chmod(0o755)
    app = pod()["moltis"]
    assert "MOLTIS_DATA_DIR" in pod_env("moltis")
    env = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "MOLTIS_PASSWORD": f" a $PATH 'word' {end}",
        "MOLTIS_DATA_DIR": str(tmp_path),
    }
    for expected in (" a $PATH 'word' ", "none"):
        words = [*app["command"], *app["args"]]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "|".join([expected, *app["args"], ""])
        (tmp_path / "agents/main").mkdir(parents=True, exist_ok=True)


def test_the_panel_is_asked_on_its_own_paths() -> None:
    """Alive and ready are asked on paths of their own; the container's port is the one in PORT."""
    panel = pod()["panel"]
    (port,) = panel["ports"]
    assert str(port["containerPort"]) == pod_env("panel")["PORT"]
    paths = {probe: panel[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


def pod_env(name: str) -> dict[str, str]:
    """Return a container's plain variables."""
    return {each["name"]: each.get("value", "") for each in pod()[name].get("env", ())}
