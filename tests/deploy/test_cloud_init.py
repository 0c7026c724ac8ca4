"""The Droplet's user data: its contents, without secrets, and the rule that closes the metadata service."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

from tests.deploy.files import DEPLOY, read

FILE = "deploy/droplet/cloud-init.yaml"
# DigitalOcean's limit.
MOST_BYTES = 64 * 1024


def files() -> dict[str, Any]:
    """Return the files written to the disk, by path."""
    return {file["path"]: file for file in read(FILE)["write_files"]}


def test_it_is_what_cloud_init_takes() -> None:
    """It starts with #cloud-config, fits the limit, and each part has the form of its module."""
    text = (DEPLOY / "droplet/cloud-init.yaml").read_text()
    assert text.startswith("#cloud-config\n")
    assert len(text.encode()) < MOST_BYTES
    content = read(FILE)
    assert set(content) == {
        "package_update",
        "package_upgrade",
        "packages",
        "disable_root",
        "ssh_pwauth",
        "write_files",
        "runcmd",
    }
    assert all(set(file) <= {"path", "permissions", "content"} for file in content["write_files"])
    assert all(re.fullmatch(r"0[0-7]{3}", file.get("permissions", "0644")) for file in content["write_files"])
    assert all(isinstance(command, str) for command in content["runcmd"])
    assert len(files()) == len(content["write_files"])


def test_it_carries_the_compose_files() -> None:
    """They are identical to the separate files; Compose uses the one with the key automatically while it exists."""
    for name, source in (("compose.yaml", "compose.yaml"), ("compose.override.yaml", "first-login.yaml")):
        assert files()[f"/opt/moltis/{name}"]["content"] == (DEPLOY / "droplet" / source).read_text()


def test_no_secret_is_in_it() -> None:
    """The key's file has a placeholder; passwords are created on the machine."""
    text = (DEPLOY / "droplet/cloud-init.yaml").read_text()
    assert not re.search(r"tskey-\w", text)
    assert files()["/opt/moltis/secrets/ts-authkey"]["content"] == "no key\n"
    assert [path for path in files() if "/secrets/" in path] == ["/opt/moltis/secrets/ts-authkey"]
    assert files()["/opt/moltis/secrets/ts-authkey"]["permissions"] == "0400"


def test_nothing_is_fetched_and_run() -> None:
    """Docker comes from the distribution, which also updates it."""
    text = (DEPLOY / "droplet/cloud-init.yaml").read_text()
    assert not re.search(r"curl|wget|https?://(?!panel)", text)
    assert {"docker.io", "docker-compose", "unattended-upgrades", "iptables"} <= set(read(FILE)["packages"])


def test_the_script_is_sound() -> None:
    """bash can parse it, and it exits on errors."""
    script = files()["/opt/moltis/first-start"]["content"]
    assert "set -eu" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_metadata_service_is_closed_before_docker_starts() -> None:
    """A unit that Docker requires closes it, so that no container runs without the rule."""
    unit = files()["/etc/systemd/system/close-metadata.service"]["content"]
    assert "Before=docker.service" in unit
    assert "RequiredBy=docker.service" in unit
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    (stop,) = re.findall(r"^ExecStop=(.*)$", unit, re.MULTILINE)
    words = shlex.split(start)
    assert words[words.index("-d") + 1] == "169.254.169.254/32"
    assert words[-1] == "DROP"
    assert stop == start.replace("-I", "-D")
    commands = read(FILE)["runcmd"]
    closed = commands.index("systemctl enable --now close-metadata.service")
    assert closed < commands.index("systemctl enable --now docker.service")
