"""The settings for backups: what they accept, and what is refused, all of it at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.config import parsers
from supervisor.config.build import resolve
from supervisor.config.parsers import InvalidValueError
from supervisor.core.process import User
from supervisor.errors import ConfigError
from tests.config.machine import IMAGE, TAILSCALE, Machine
from tests.support.backups import path_with_restic

if TYPE_CHECKING:
    from pathlib import Path

WORKER = User("worker", 1003, 1003, "/home/worker")
GOOD = {
    "SUPERVISOR_BACKUP_REPOSITORY": "s3:https://nyc3.digitaloceanspaces.com/bucket/moltis",
    "SUPERVISOR_BACKUP_PASSWORD": "a good password",
    "SUPERVISOR_BACKUP_ACCESS_KEY_ID": "an id of a key",
    "SUPERVISOR_BACKUP_SECRET_ACCESS_KEY": "a secret of a key",
}


def process_of_worker(folder: Path) -> str:
    """Return the path of a settings file with a further process that has its own user."""
    file = folder / "settings.toml"
    file.write_text('[process.job]\ncommand = ["true"]\nuser = "worker"\n')
    return str(file)


def problems(**changes: str | None) -> str:
    """Return the problems of these settings, one per line."""
    env = {**GOOD, "PATH": path_with_restic(), **changes}
    try:
        resolve({name: text for name, text in env.items() if text is not None}, host=Machine())
    except ConfigError as error:
        return "\n".join(error.problems)
    return ""


def test_good_ones() -> None:
    """A bucket is accepted, or a folder without keys; if no folders are named, Moltis' own are backed up."""
    plan = resolve({**GOOD, "PATH": path_with_restic(), "HOME": "/home/x"}, host=Machine())
    assert plan.backup is not None
    assert [source.path for source in plan.backup.sources] == ["/home/x/.config/moltis", "/home/x/.moltis"]
    assert plan.backup.identity is not None
    assert plan.settings.tailnet.ephemeral is False
    assert not problems(
        SUPERVISOR_BACKUP_REPOSITORY="/srv/backups",
        SUPERVISOR_BACKUP_ACCESS_KEY_ID=None,
        SUPERVISOR_BACKUP_SECRET_ACCESS_KEY=None,
    )


@pytest.mark.parametrize(
    "text",
    [
        "bucket",
        "/",
        "//",
        "s3:nyc3.digitaloceanspaces.com/bucket",
        "s3:http://nyc3.digitaloceanspaces.com/bucket",
        "s3:https://nyc3.digitaloceanspaces.com",
        "s3:https://nyc3.digitaloceanspaces.com/",
        "s3:https://nyc3.digitaloceanspaces.com/ab",
        "s3:https://key:secret@host/bucket",
        "s3:https://host/bucket?x=1",
        "sftp:host:/bucket",
        "rest:https://host/",
        "b2:bucket",
        "s3:https://host/Bucket",
        "s3:http://127.example.com/bucket",
        "s3:http://localhost.example.com/bucket",
        "s3:HTTPS://host/bucket",
    ],
)
def test_a_repository_that_is_none(text: str) -> None:
    """Only a bucket over TLS and an absolute folder are accepted."""
    assert "SUPERVISOR_BACKUP_REPOSITORY" in problems(SUPERVISOR_BACKUP_REPOSITORY=text)


def test_every_bad_value_is_told_at_once() -> None:
    """Each wrong value, and each missing one, has its own line."""
    said = problems(
        SUPERVISOR_BACKUP_PASSWORD=None,
        SUPERVISOR_BACKUP_ACCESS_KEY_ID=None,
        SUPERVISOR_BACKUP_SECRET_ACCESS_KEY=None,
        SUPERVISOR_BACKUP_PATHS="/data:/data/inner",
        SUPERVISOR_BACKUP_INTERVAL="30s",
        SUPERVISOR_BACKUP_KEEP="last=0",
        SUPERVISOR_BACKUP_RESTORE="yesterday",
        TS_EPHEMERAL="true",
        TS_STATE_DIR="mem:",
        TS_AUTHKEY="tskey-auth-abc?ephemeral=true",
        PATH="/nowhere",
    )
    for name in ("PASSWORD", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "PATHS", "INTERVAL", "KEEP", "RESTORE"):
        assert f"SUPERVISOR_BACKUP_{name}" in said, name
    for words in ("TS_EPHEMERAL=true", "TS_STATE_DIR=mem:", "ephemeral=true in TS_AUTHKEY", "no such program in PATH"):
        assert words in said, words


@pytest.mark.parametrize(
    ("flags", "refused"),
    [
        ("--encrypt-state", ["encrypt-state"]),
        ("-hardware-attestation=true --encrypt-state=1", ["encrypt-state", "hardware-attestation"]),
        ("--encrypt-state=false --hardware-attestation=F", []),
        ("--encrypt-state --encrypt-state=false --verbose=1", []),
    ],
)
def test_an_identity_that_another_machine_could_not_restore(flags: str, refused: list[str]) -> None:
    """A machine's TPM would seal it; without backups that is the user's choice."""
    said = problems(TS_TAILSCALED_EXTRA_ARGS=flags)
    assert [line.split()[2] for line in said.splitlines()] == [f"--{flag}" for flag in refused]
    assert all("no other one could restore" in line for line in said.splitlines())
    assert not problems(TS_TAILSCALED_EXTRA_ARGS=flags, **dict.fromkeys(GOOD))
    assert not problems(
        TS_TAILSCALED_EXTRA_ARGS=flags, SUPERVISOR_TAILSCALE="attach", TS_SOCKET="/s", SUPERVISOR_BACKUP_PATHS="/data"
    )


@pytest.mark.parametrize("text", ["relative", "/", "/a:/", "/a:/a/b", ":", "/a/../.."])
def test_paths_that_are_none(text: str) -> None:
    """The root, relative paths, and a path inside another are refused."""
    with pytest.raises(InvalidValueError):
        parsers.folders(text)


@pytest.mark.parametrize("text", ["last=0", "hourly=3", "last", "last=x", "last=1,last=2", "last=1,sometimes=2", ""])
def test_counts_that_are_none(text: str) -> None:
    """`last` must be 1 or more; names must be restic's, each at most once."""
    with pytest.raises(InvalidValueError):
        parsers.keep(text)


def test_folders_that_overlap() -> None:
    """The repository, the state and the staged files must be outside the folders that are backed up."""
    assert "overlaps with" in problems(SUPERVISOR_BACKUP_REPOSITORY="/data/x", SUPERVISOR_BACKUP_PATHS="/data")
    assert "overlaps with" in problems(SUPERVISOR_BACKUP_PATHS="/data", TS_STATE_DIR="/data/tailscale")
    assert "overlaps with" in problems(SUPERVISOR_BACKUP_PATHS="/var/lib/moltis-supervisor-backup/x")


def test_another_app_has_to_name_its_folders() -> None:
    """Only those of Moltis are known."""
    assert "SUPERVISOR_BACKUP_PATHS" in problems(SUPERVISOR_APP_COMMAND="another-app")
    assert "SUPERVISOR_BACKUP_PATHS" in problems(SUPERVISOR_APP="off")


def test_what_has_no_effect_is_told() -> None:
    """Without a repository the other settings do nothing; keys do nothing for a folder."""
    plan = resolve({"SUPERVISOR_BACKUP_INTERVAL": "1h"}, host=Machine())
    assert plan.backup is None
    assert any("SUPERVISOR_BACKUP_INTERVAL has no effect" in text for text in plan.warnings)
    env = {**GOOD, "SUPERVISOR_BACKUP_REPOSITORY": "/srv/backups", "PATH": path_with_restic()}
    warnings = resolve(env, host=Machine()).warnings
    assert any("SUPERVISOR_BACKUP_ACCESS_KEY_ID has no effect" in text for text in warnings)


@pytest.mark.parametrize(
    "mode", [{"SUPERVISOR_APP": "off"}, {"SUPERVISOR_TAILSCALE": "attach", "TS_SOCKET": "/ts/s.sock"}, {}]
)
def test_a_restore_by_the_settings_needs_an_app_of_the_supervisors_own(mode: dict[str, str]) -> None:
    """Else no start is held, so the snapshot that is named would never be restored, and nobody would know."""
    env = {"PATH": path_with_restic(), "SUPERVISOR_BACKUP_PATHS": "/data", "SUPERVISOR_BACKUP_RESTORE": "2a588ecc"}
    found = resolve({**GOOD, **env, **mode}, host=Machine()).warnings
    told = [text for text in found if "SUPERVISOR_BACKUP_RESTORE has no effect" in text]
    assert bool(told) is bool(mode)


def test_one_user_for_all_is_warned_about() -> None:
    """The app can then read restic's memory; with separate users it cannot, and there is no warning."""
    said = "it can read the backups' password and keys from restic's memory"
    env = {**GOOD, "PATH": path_with_restic()}
    for host, count in ((Machine(uid=1000), 1), (Machine(), 1), (IMAGE, 0)):
        assert sum(said in text for text in resolve(env, host=host).warnings) == count


@pytest.mark.parametrize(
    ("env", "host", "told"),
    [
        ({"SUPERVISOR_APP": "off"}, Machine(users=(TAILSCALE, WORKER)), ""),
        ({"SUPERVISOR_APP": "off"}, Machine(uid=1000), "job runs as the same user"),
        ({}, Machine(uid=1000), "the app and job run as the same user"),
        ({}, Machine(users=(TAILSCALE, WORKER)), "the app runs as the same user"),
    ],
)
def test_it_is_told_who_runs_as_the_same_user(tmp_path: Path, env: dict[str, str], host: Machine, told: str) -> None:
    """There may be no app; a further process may have its own user."""
    config = process_of_worker(tmp_path)
    env = {**GOOD, "PATH": path_with_restic(), "SUPERVISOR_BACKUP_PATHS": "/data", **env}
    warnings = [text for text in resolve(env, host=host, config=config).warnings if "as the same user" in text]
    assert [told in text for text in warnings] == [True] * bool(told)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("env", [{"SUPERVISOR_APP": "off"}, {"SUPERVISOR_APP_USER": "root"}, {}])
def test_restic_is_trusted_only_if_no_user_can_change_it(tmp_path: Path, env: dict[str, str]) -> None:
    """This includes the users of tailscaled and of further processes, whether or not the app has one."""
    theirs, repository, ours = (tmp_path / name for name in ("theirs", "repository", "ours"))
    ours.mkdir()
    for path, owner in ((theirs, WORKER), (repository, TAILSCALE)):
        path.mkdir()
        os.chown(path, owner.uid, owner.gid)
    for program in (ours / "tailscaled", theirs / "restic"):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    settings = {**GOOD, "SUPERVISOR_BACKUP_REPOSITORY": str(repository), "SUPERVISOR_BACKUP_PATHS": "/data", **env}
    host = Machine(users=(TAILSCALE, WORKER, User("root", 0, 0, "/root")))
    with pytest.raises(ConfigError) as caught:
        resolve({**settings, "PATH": f"{ours}:{theirs}:/usr/bin"}, host=host, config=process_of_worker(tmp_path))
    text = "\n".join(caught.value.problems)
    assert f"trust {theirs}: it is on the way to {theirs}/restic, which the supervisor runs, and job's user" in text
    assert f"trust {repository}: the supervisor keeps the repository in it, and tailscaled's user" in text


def test_secrets_are_masked_and_come_from_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Password and keys are secrets like all others."""
    file = tmp_path_factory.mktemp("secrets") / "password"
    file.write_text("from a file\n")
    env = {**GOOD, "PATH": path_with_restic(), "SUPERVISOR_BACKUP_PASSWORD": f"file:{file}"}
    plan = resolve(env, host=Machine())
    assert plan.settings.backup is not None
    assert plan.settings.backup.password is not None
    assert plan.settings.backup.password.read().reveal() == "from a file"
    assert "a secret of a key" in {source.read().reveal() for source in plan.settings.secrets}
