"""The checks of the app: its program, its state, its folders, its model providers, and its latest incidents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.doctor.app_config import look
from supervisor.moltis import PROVIDER_KEYS_FILE
from tests.client.calling import call
from tests.client.test_with_supervisor import supervised
from tests.doctor.asking import IN_GVISOR, NEEDS_ROOT, doctor, doctor_of, environment
from tests.doctor.test_machine_checks import IN_GROUP, group
from tests.doctor.test_path_checks import certificate
from tests.process.running import running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.doctor.asking import Report

PUBLIC, PRIVATE = "8.8.4.4", "10.1.2.3"
WAITING = {"SUPERVISOR_BACKOFF_INITIAL": "10h", "SUPERVISOR_BACKOFF_MAX": "10h"}
SERVER = Path(__file__).with_name("tls_server.py")
# A network with a public address and no way out, its own names, and a TLS server: $1 is the file with the names.
WORLD = """
ip link set lo up && ip addr add {public}/32 dev lo
mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf
{python} {server} {public} "$3" "$4" "$5" >>"$6" & server=$!
until grep -qs ready "$6"; do sleep 0.05; done
shift 6; "$@"; code=$?; kill $server; exit $code
"""
CONFIG = """
[providers]
offered = ["openai", "anthropic", "mistral", "groq", "custom-own"]
[providers.openai]
api_key = "sk-not-to-be-shown-anywhere"
[providers.anthropic]
base_url = "https://lost.example/v1"
[providers.mistral]
enabled = false
[providers.groq]
base_url = "https://wrong.example/v1"
[providers.custom-own]
base_url = "https://own.example:8443/v1"
[providers.gemini]
api_key = "not offered"
"""


def moltis(folder: Path, config: str = CONFIG) -> dict[str, str]:
    """Return settings for a Moltis with this configuration."""
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config/moltis.toml").write_text(config)
    return environment(folder, MOLTIS_CONFIG_DIR=str(folder / "config"), MOLTIS_DATA_DIR=str(folder / "data"))


def test_program(tmp_path: Path) -> None:
    """A program that is not in the image is a problem."""
    assert "moltis" in doctor(environment(tmp_path)).problem("program")


def test_process() -> None:
    """A process that fails repeatedly is a problem; one that was stopped on purpose is not."""
    helpers = '[process.helper]\ncommand = ["sh", "-c", "exit 3"]\n[process.idle]\ncommand = ["sleep", "300"]\n'
    with supervised("sleep", "300", toml=helpers, env=WAITING) as run:
        run.wait_for("exited", child="helper")
        assert call(run.run_dir, "stop", "idle").code == 0
        report = doctor_of(run)
        assert "helper" in report.problem("process")
        levels = {each["found"].partition(":")[0]: each["level"] for each in report.of("process")}
        assert levels["idle"] == "note"


def test_after_the_app_was_given_up(tmp_path: Path) -> None:
    """The supervisor has exited with 70: the report is made from the stored incidents."""
    env = {"SUPERVISOR_GIVE_UP": "2/1m", "TS_STATE_DIR": str(tmp_path / "state"), "SUPERVISOR_TAILSCALE": "off"}
    with running("sh", "-c", "echo no database; exit 3", env=env) as run:
        assert run.wait() == 70
        report = doctor_of(run)
        assert report.body["running"] is False
        assert "exit code 70; moltis is critical and failed for good" in report.problem("incidents")
        given_up = next(each for each in report.of("incidents") if "given up" in each["found"])
        name = given_up["what_to_do"].removeprefix("read its story in ")
        assert json.loads(Path(name).read_text())["last_lines"] == ["no database"]
        crashed = next(each for each in report.of("incidents") if "moltis crashed" in each["found"])
        assert "moltis crashed (2 times)" in crashed["found"]


def test_incidents_that_are_not_kept_or_not_read(tmp_path: Path) -> None:
    """A folder that cannot be read is reported, and not taken for a day without errors."""
    state = tmp_path / "state"
    (state / "incidents").mkdir(parents=True)
    (state / "incidents" / "broken.json").write_text("{half")
    env = environment(tmp_path, TS_STATE_DIR=str(state))
    assert "broken.json" in doctor(env).of("incidents")[0]["found"]
    (state / "incidents" / "broken.json").unlink()
    assert doctor(env).level("incidents") == "ok"
    (state / "incidents").rmdir()
    (state / "incidents").write_text("no folder")
    assert doctor(env).level("incidents") == "note"
    with running("sleep", "300", env={"TS_STATE_DIR": str(state), "SUPERVISOR_TAILSCALE": "off"}) as run:
        run.wait_for("incidents are not kept")
        assert "not stored" in doctor_of(run).problem("incidents")


def test_after_the_supervisor_was_killed(tmp_path: Path) -> None:
    """The supervisor could not record its end; while it is alive but does not answer, no end is reported."""
    env = {"TS_STATE_DIR": str(tmp_path / "state"), "SUPERVISOR_TAILSCALE": "off"}
    with running("sleep", "300", env=env) as run:
        run.wait_for("previous run")
        record = tmp_path / "state" / "incidents" / "run.json"
        wait_until(record.exists, what="the run's record")
        os.kill(run.pid, signal.SIGSTOP)
        stopped = doctor_of(run)
        assert "no answer" in stopped.of("supervisor")[0]["found"]
        assert stopped.level("incidents") == "ok"
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert "the container was killed; it was not told to stop" in doctor_of(run).problem("incidents")


@pytest.fixture
def looked_at(tmp_path: Path) -> Report:
    """The report on a Moltis that names five providers, in a network in which two can be reached."""
    cert, key = certificate(tmp_path, "api.openai.com")
    env = moltis(tmp_path) | {"SSL_CERT_FILE": cert}
    names = f"127.0.0.1 localhost\n{PUBLIC} api.openai.com wrong.example\n{PRIVATE} own.example\n"
    (tmp_path / "hosts").write_text(names)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    script = WORLD.format(public=PUBLIC, python=sys.executable, server=SERVER)
    files = [str(tmp_path / name) for name in ("hosts", "resolv.conf")]
    more = [cert, key, str(tmp_path / "asked"), str(tmp_path / "ready")]
    return doctor(env, prefix=("unshare", "--net", "--mount", "sh", "-c", script, "sh", *files, *more))


@NEEDS_ROOT
def test_providers(looked_at: Report, tmp_path: Path) -> None:
    """Each provider is reached or not, with the reason; private ones are not contacted; only a handshake is sent."""
    found = {each["found"].partition(" ")[0]: each for each in looked_at.of("providers")}
    assert set(found) == {"openai", "anthropic", "groq", "custom-own"}
    assert found["openai"]["level"] == "ok"
    assert "not found" in found["anthropic"]["found"]
    assert found["anthropic"]["level"] == "problem"
    assert "match" in found["groq"]["found"]
    assert found["custom-own"]["level"] == "note"
    assert set((tmp_path / "asked").read_bytes().splitlines()) == {b"handshake"}
    assert "not-to-be-shown" not in str(looked_at.body)
    assert looked_at.problem("providers")


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    """A configuration that is invalid, or not a file, is a problem."""
    assert "cannot read moltis.toml: Expected" in doctor(moltis(tmp_path, "[providers")).problem("moltis-config")
    (tmp_path / "config/moltis.toml").unlink()
    os.mkfifo(tmp_path / "config/moltis.toml")
    assert "not a regular file" in doctor(moltis_in(tmp_path)).problem("moltis-config")


def moltis_in(folder: Path) -> dict[str, str]:
    """Return settings for the configuration that is in the folder."""
    return environment(folder, MOLTIS_CONFIG_DIR=str(folder / "config"), MOLTIS_DATA_DIR=str(folder / "data"))


@NEEDS_ROOT
def test_links_lead_no_further_than_the_apps_user_may_go(tmp_path: Path) -> None:
    """The configuration is a link to a file of root's: it is not read with root's rights."""
    env = moltis(tmp_path)
    if subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", ""], check=False
    ).returncode:
        pytest.skip("another user cannot run this Python")
    (tmp_path / "config/moltis.toml").rename(tmp_path / "secret")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "config/moltis.toml").symlink_to(tmp_path / "secret")
    tmp_path.chmod(0o755)
    report = doctor(env | {"SUPERVISOR_APP_USER": "nobody"})
    assert "Permission denied" in report.problem("moltis-config")


def test_local_models(tmp_path: Path) -> None:
    """A local model with a limit of 512 MiB is a problem."""
    env = moltis(tmp_path, "")
    (tmp_path / "config/local-llm.json").write_text(json.dumps({"models": [{"model_id": "qwen"}]}))
    with group("memory", "memory.limit_in_bytes", str(512 * 1024 * 1024)) as folder:
        assert "512 MiB" in doctor(env, prefix=(*IN_GROUP, folder)).problem("local-models")
    assert doctor(env).level("local-models") == "ok"


@NEEDS_ROOT
def test_local_models_where_the_limit_is_hidden(tmp_path: Path) -> None:
    """They may be too large for it: a note, but only if there are some."""
    env = moltis(tmp_path, "")
    assert doctor(env, prefix=IN_GVISOR).level("local-models") == "ok"
    (tmp_path / "config/local-llm.json").write_text(json.dumps({"models": [{"model_id": "qwen"}]}))
    assert doctor(env, prefix=IN_GVISOR).level("local-models") == "note"


def test_what_is_named(tmp_path: Path) -> None:
    """The file of keys adds providers too; those not offered, or disabled, are left out."""
    moltis(tmp_path)
    (tmp_path / "config/provider_keys.json").write_text(
        '{"groq": {}, "custom-more": {"baseUrl": "https://more.example"}}'
    )
    hosts = look(str(tmp_path / "config"))["hosts"]
    assert hosts == {
        "openai": "api.openai.com",
        "anthropic": "lost.example",
        "groq": "wrong.example",
        "custom-own": "own.example",
        "custom-more": "more.example",
    }
    assert look(str(tmp_path / "nowhere")) == {"hosts": {}, "local_models": False, "missing": True}


@NEEDS_ROOT
def test_a_volume_that_is_none(tmp_path: Path) -> None:
    """A folder in memory is a problem."""
    mounted = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(tmp_path / "data"))
    env = moltis(tmp_path, "")
    (tmp_path / "data").mkdir()
    assert str(tmp_path / "data") in doctor(env, prefix=mounted).problem("volume")
    assert doctor(env).level("volume") == "ok"


def test_a_hang_of_the_helper_ends(tmp_path: Path) -> None:
    """The report is made, whatever the app's folder contains."""
    env = moltis(tmp_path, "")
    (tmp_path / "config/local-llm.json").symlink_to("/dev/zero")
    wait_until(lambda: doctor(env).level("local-models") == "ok", 30, "the report")


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """JSON may contain a lone surrogate: the report is still made."""
    env = moltis(tmp_path, "")
    keys = {"\ud800": {"baseUrl": "https://127.0.0.1/v1"}}
    (tmp_path / "config" / PROVIDER_KEYS_FILE).write_text(json.dumps(keys))
    assert "not contacted" in doctor(env).of("providers")[0]["found"]


def test_a_running_supervisor_has_it_read_too(tmp_path: Path) -> None:
    """A child reads it, which the supervisor's own reaper waits for; private addresses are not contacted."""
    env = moltis(tmp_path, '[providers.custom-own]\nbase_url = "https://127.0.0.1/v1"\n')
    program = tmp_path / "moltis"
    program.write_text("#!/bin/sh\nexec sleep 300\n")
    program.chmod(0o755)
    folders = {name: text for name, text in env.items() if name.startswith("MOLTIS_")}
    with supervised(str(program), env=folders) as run:
        report = doctor_of(run)
        assert report.level("moltis-config") == "ok"
        assert "not contacted" in report.of("providers")[0]["found"]
