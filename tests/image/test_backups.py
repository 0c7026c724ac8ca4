"""Backups in the image: owners of files, a read-only root file system, and a user without capabilities."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.image.test_build import DOCKERFILE, image_bytes
from tests.image.test_rights import HOME, WRITABLE
from tests.support.backups import KEY, KEY_ID, PASSWORD, bucket
from tests.support.control import ROOT
from tests.support.docker import container, docker, unique
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

COMMON = {"SUPERVISOR_BACKUP_PASSWORD": PASSWORD, "SUPERVISOR_STOP_TIMEOUT": "30s"}
BACKUPS = {**COMMON, "SUPERVISOR_BACKUP_REPOSITORY": "/backup/repository"}
STAGING = ("--tmpfs", "/var/lib/moltis-supervisor-backup:mode=0755")
NOTE = "/home/moltis/.moltis/note"
# The same image, whose users have other numbers.
OTHER_NUMBERS = """
FROM {image}
RUN groupmod --gid 4243 moltis && usermod --uid 4242 moltis && \
    groupmod --gid 778 tailscale && usermod --uid 777 tailscale && \
    chown -R moltis:moltis /home/moltis && chown -R tailscale:tailscale /var/lib/tailscale
"""


@pytest.fixture
def other_numbers(image: str) -> Iterator[str]:
    """The image, with other numbers for its users."""
    name = f"moltis-embedded:{unique('numbers')}"
    docker("build", "--quiet", "--tag", name, "-", stdin=OTHER_NUMBERS.format(image=image))
    yield name
    docker("image", "rm", "--force", name)


class Remote(NamedTuple):
    """A bucket that containers can reach: its settings, and options that mount the certificate to trust."""

    env: dict[str, str]
    options: tuple[str, ...]


@pytest.fixture
def remote(gateway: str, tmp_path: Path) -> Iterator[Remote]:
    """A bucket on this machine, over TLS, which is required unless the bucket is on loopback."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bucket"]
    files = [str(tmp_path / name) for name in ("cert", "key")]
    words += ["-addext", f"subjectAltName=IP:{gateway}", "-out", files[0], "-keyout", files[1]]
    subprocess.run(words, check=True, capture_output=True)
    (tmp_path / "cert").chmod(0o644)
    with bucket(tmp_path / "s3", "--cert", files[0], "--key", files[1], address=gateway) as server:
        env = {
            **COMMON,
            "SUPERVISOR_BACKUP_REPOSITORY": server.repository,
            "SUPERVISOR_BACKUP_ACCESS_KEY_ID": KEY_ID,
            "SUPERVISOR_BACKUP_SECRET_ACCESS_KEY": KEY,
            "SSL_CERT_FILE": "/etc/bucket.pem",
        }
        yield Remote(env, ("--volume", f"{files[0]}:/etc/bucket.pem:ro"))


@pytest.fixture
def volume() -> Iterator[str]:
    """A volume that outlives a container."""
    name = unique("repository")
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name)


def known(box: Container) -> Any:
    """Return the state of the backups; None while it is not available."""
    ended = box.execute("moltis-supervisor", "backup", "list", "--json", may_fail=True)
    return json.loads(ended.stdout) if ended.status == 0 else None


def wait_idle(box: Container) -> None:
    """Wait until backups are running."""
    try:
        wait_until(lambda: (known(box) or {}).get("state") == "idle", 60.0, f"backups of {box.name}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{box.logs()[-4000:]}") from None


def test_a_device_and_its_files_come_back_under_other_numbers(
    run: Run, login: dict[str, str], network: str, remote: Remote, other_numbers: str
) -> None:
    """Files of the app and of tailscaled belong to the users of these names again, whatever their numbers."""
    with run(options=remote.options, **login, **remote.env) as box:
        box.settled()
        address = box.address()
        before = box.execute("sh", "-c", f"umask 77; echo kept > {NOTE}; stat -c '%U %u' {NOTE}", user="moltis").stdout
        assert box.stop(40) < 30
        assert "handed over" in box.logs()
    options = ("--network", network, *remote.options)
    with container(other_numbers, options=options, env={**login, **remote.env}) as box:
        box.settled()
        assert box.address() == address
        state = "/var/lib/tailscale/tailscaled.state"
        owners = box.execute("stat", "-c", "%U %u %G %g", NOTE, state).stdout.splitlines()
        assert before.split()[0] == "moltis"
        assert before.split()[1] != "4242"
        assert owners == ["moltis 4242 moltis 4243", "tailscale 777 tailscale 778"]
        assert box.execute("cat", NOTE).stdout == "kept\n"
        assert "restored" in box.logs()


@pytest.mark.parametrize("way", ["root", "user", "gvisor"])
def test_a_snapshot_and_a_restore_on_a_root_that_cannot_be_written(
    run: Run, request: pytest.FixtureRequest, remote: Remote, way: str
) -> None:
    """It works as root, as a user without capabilities, and in the sandbox, with a place for what is written."""
    places: tuple[str, ...] = (*WRITABLE, *HOME, *STAGING)
    if way == "user":
        places = ("--user", "1000", "--cap-drop", "ALL", "--tmpfs", "/tmp", *HOME)
    sandbox: tuple[str, ...] = request.getfixturevalue("gvisor") if way == "gvisor" else ()
    with run(options=("--read-only", *places, *sandbox, *remote.options), **remote.env) as box:
        wait_idle(box)
        write = ("sh", "-c", f"mkdir -p /home/moltis/.moltis; echo $0 > {NOTE}")
        box.execute(*write, "old", user="1000")
        box.execute("moltis-supervisor", "backup")
        taken = known(box)["snapshots"][0]
        assert taken["whole"], box.logs()
        box.execute(*write, "new", user="1000")
        box.execute("moltis-supervisor", "backup", "restore", taken["id"], "--yes")
        assert box.execute("cat", NOTE).stdout == "old\n"
        box.settled()
        assert box.stop(40) < 30
        assert box.wait_end() == 0
        assert "handed over" in box.logs()


def test_a_root_that_cannot_be_written_and_no_place_for_it_is_told(run: Run, remote: Remote) -> None:
    """The message names the folder, and what to mount there."""
    with run(options=("--read-only", *WRITABLE, *HOME, *remote.options), **remote.env) as box:
        log = box.wait_log("Read-only file system")
        assert "/var/lib/moltis-supervisor-backup" in log
        assert "mount a volume or a tmpfs there" in log


def test_the_image_grows_by_restic_alone_and_can_be_built_without_it(image: str) -> None:
    """Without restic everything but backups works; with a repository set, the error names what is missing."""
    name = f"moltis-embedded:{unique('no-restic')}"
    docker("buildx", "build", "--load", "--quiet", *DOCKERFILE, "--build-arg", "RESTIC=", "--tag", name, str(ROOT))
    try:
        words = ("--rm", "--entrypoint", "stat", image, "-c", "%s", "/usr/bin/restic")
        grown = image_bytes(image) - image_bytes(name) - int(docker("run", *words).stdout)
        # The remainder is dpkg's record of the package and of its files.
        assert 0 <= grown < 1_000_000, f"{grown / 1e6:.1f} MB besides restic"
        env = [word for key, value in BACKUPS.items() for word in ("--env", f"{key}={value}")]
        told = docker("run", "--rm", "--entrypoint", "moltis-supervisor", *env, name, "check", may_fail=True)
        assert told.status == 78
        assert "restic 0.17 or newer is needed" in told.stdout + told.stderr
    finally:
        docker("image", "rm", "--force", name)
