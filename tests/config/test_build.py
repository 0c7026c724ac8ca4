"""The plan: what would be started, as whom, and with what."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.config.tailscale_env import MOST_SERVE_BYTES
from supervisor.core.process import EnvFile, HttpProbe, Restart, SetUp, TcpProbe, User
from supervisor.errors import ConfigError
from tests.config.machine import IMAGE, MOLTIS, TAILSCALE, Machine, plan

if TYPE_CHECKING:
    from pathlib import Path


def problems(environ: dict[str, str], machine: Machine = IMAGE, **more: object) -> tuple[str, ...]:
    """Return the problems that prevent a start with these settings."""
    with pytest.raises(ConfigError) as caught:
        plan(environ, machine, **more)
    return caught.value.problems


def test_tailscaled_as_the_contract_wants_it() -> None:
    """It has userspace networking, its own folders, an explicit port, and its own environment."""
    spec = plan({"PORT": "8080", "TS_AUTHKEY": "tskey-auth-x-y", "SECRET": "s"}, IMAGE).tailscaled
    assert spec is not None
    assert spec.argv[:3] == (
        "tailscaled",
        "--tun=userspace-networking",
        "--socket=/run/moltis-supervisor/tailscale/tailscaled.sock",
    )
    assert "--statedir=/var/lib/tailscale" in spec.argv
    assert any(word.startswith("--port=") for word in spec.argv)
    assert not any("socks5" in word or "http-proxy" in word for word in spec.argv)
    assert set(spec.env) == {"PATH", "HOME", "GOMEMLIMIT", "TS_LOGS_DIR"}
    assert (spec.env["GOMEMLIMIT"], spec.env["TS_LOGS_DIR"]) == ("96MiB", "/var/lib/tailscale")
    assert (spec.user, spec.critical, spec.quit_before_kill, spec.parent_death_fd) == (TAILSCALE, False, True, True)


@pytest.mark.parametrize(
    ("environ", "volumes", "mode"),
    [
        ({}, True, None),
        ({}, False, "ro"),
        ({"SUPERVISOR_SERVE": "http"}, True, "ro"),
        ({"SUPERVISOR_SERVE": "https"}, False, None),
        ({"SUPERVISOR_SERVE": "off"}, False, None),
        ({"TS_SERVE_CONFIG": "/etc/passwd"}, False, "ro"),
        ({"TS_SERVE_CONFIG": "/etc/passwd"}, True, None),
    ],
)
def test_tailscaled_takes_no_certificate_that_is_lost(
    environ: dict[str, str],
    volumes: bool,  # noqa: FBT001
    mode: str | None,
) -> None:
    """It would request one by itself, for plain HTTP too, and a name gets five in a week."""
    spec = plan(environ, Machine(users=(MOLTIS, TAILSCALE), volumes=volumes)).tailscaled
    assert spec is not None
    assert spec.env.get("TS_CERT_SHARE_MODE") == mode


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ('{"TCP": {"80": {"HTTP": true}}, "Web": {"m.ts.net:80": {"Handlers": {"/": {"Text": "HTTPS"}}}}}', "ro"),
        ('{"TCP": {"22": {"TCPForward": "127.0.0.1:22"}, "443": {"HTTPS": false, "TerminateTLS": ""}}}', "ro"),
        ('{"Foreground": {"1": {"TCP": {"443": {"HTTPS": true}}}}}', "ro"),
        ('{"TCP": {"443": {"HTTPS": true}}}', None),
        ('\ufeff{"TCP": {"993": {"TCPForward": "127.0.0.1:143", "TerminateTLS": "m.ts.net"}}}', None),
        ('{"Services": {"svc:s": {"TCP": {"80": {"HTTP": true}, "443": {"HTTPS": true}}}}}', None),
        ("", "ro"),
        ("null", "ro"),
        ("[" * 100_000, "ro"),
        ('{"TCP": [], "Services": {"svc:s": null}}', "ro"),
        ('{"TCP": {"443": {"HTTPS": true}}}' + " " * MOST_SERVE_BYTES, "ro"),
    ],
)
def test_a_serve_file_without_https_takes_no_certificate_that_is_lost(
    tmp_path: Path, config: str, mode: str | None
) -> None:
    """tailscaled fetches one for anything that it serves; what cannot be used as a configuration asks for none."""
    file = tmp_path / "serve.json"
    file.write_text(config)
    for volumes, expected in ((False, mode), (True, None)):
        settings = {"TS_SERVE_CONFIG": str(file), "TS_STATE_DIR": "/var/lib/tailscale"}
        spec = plan(settings, Machine(uid=1000, volumes=volumes)).tailscaled
        assert spec is not None
        assert spec.env.get("TS_CERT_SHARE_MODE") == expected


def test_a_serve_file_that_is_a_pipe_ends_no_check(tmp_path: Path) -> None:
    """It can be read only once, and without a writer never."""
    os.mkfifo(tmp_path / "serve.json")
    plan({"TS_SERVE_CONFIG": str(tmp_path / "serve.json")}, Machine(uid=1000, volumes=False))


def test_tailscaled_with_what_was_asked_for() -> None:
    """This covers proxies, extra words split as in a shell, its own variables, and the user's memory limit."""
    spec = plan(
        {
            "TS_SOCKS5_SERVER": "127.0.0.2:1055",
            "TS_OUTBOUND_HTTP_PROXY_LISTEN": "[::1]:1056",
            "TS_TAILSCALED_EXTRA_ARGS": "--verbose=1 --syspolicy-file='/a b'",
            "TS_STATE_DIR": "mem:",
            "GOMEMLIMIT": "64MiB",
            "TS_DEBUG_MTU": "1280",
        },
        IMAGE,
    ).tailscaled
    assert spec is not None
    assert {"--socks5-server=127.0.0.2:1055", "--outbound-http-proxy-listen=[::1]:1056", "--state=mem:"} <= set(
        spec.argv
    )
    assert spec.argv[-2:] == ("--verbose=1", "--syspolicy-file=/a b")
    assert (spec.env["GOMEMLIMIT"], spec.env["TS_DEBUG_MTU"]) == ("64MiB", "1280")


def test_the_app_by_default() -> None:
    """Moltis listens on the address that only serve reaches, with the settings that keep it closed otherwise."""
    made = plan({"TS_AUTHKEY": "tskey-auth-x-y", "SUPERVISOR_LOG_HISTORY": "10", "KEPT": "1"}, IMAGE)
    spec = made.app
    assert spec is not None
    assert spec.argv == ("moltis", "--bind", "127.0.0.2", "--port", "13131", "--no-tls")
    assert (spec.user, spec.cwd, spec.critical, spec.restart) == (MOLTIS, "/home/moltis", True, Restart.ALWAYS)
    assert spec.probe == HttpProbe("http://127.0.0.2:13131/health")
    assert (spec.env["HOST"], spec.env["PORT"], spec.env["HOME"], spec.env["KEPT"]) == (
        "127.0.0.2",
        "13131",
        "/home/moltis",
        "1",
    )
    assert not [name for name in spec.env if name.startswith(("TS_", "SUPERVISOR_"))]
    assert {name: text for name, text in spec.env.items() if name.startswith("MOLTIS_")} == {
        "MOLTIS_BEHIND_PROXY": "true",
        "MOLTIS_NO_TLS": "true",
        "MOLTIS_TAILSCALE": "off",
        "MOLTIS_TOOLS__EXEC__SANDBOX__NETWORK": "bypass",
        "MOLTIS_TERMINAL_DISABLED": "1",
    }
    assert made.serve_target == "http://127.0.0.2:13131"


@pytest.mark.parametrize(
    ("environ", "is_told"),
    [
        ({}, True),
        ({"SUPERVISOR_SERVE": "https"}, True),
        ({"SUPERVISOR_SERVE": "http"}, False),
        ({"SUPERVISOR_SERVE": "off"}, False),
        ({"SUPERVISOR_TAILSCALE": "off"}, False),
        ({"MOLTIS_EXTERNAL_URL": "https://moltis.example"}, False),
        ({"MOLTIS_WEBAUTHN_RP_ID": "moltis.example"}, False),
    ],
)
def test_the_app_is_told_its_url(environ: dict[str, str], is_told: bool) -> None:  # noqa: FBT001 - a column
    """It is read from the state folder, if HTTPS may be served and the user set neither it nor the passkeys' host."""
    spec = plan(environ, IMAGE).app
    assert spec is not None
    assert spec.env_file == (EnvFile("MOLTIS_EXTERNAL_URL", "/var/lib/tailscale", "external-url") if is_told else None)
    assert ("MOLTIS_EXTERNAL_URL" in spec.variables) is (is_told or "MOLTIS_EXTERNAL_URL" in environ)


def test_moltis_password_from_a_file(tmp_path: Path) -> None:
    """The app gets the password rather than its file; a plain one is passed on unchanged."""
    file = tmp_path / "password"
    file.write_text("correct horse\n")
    for environ in ({"MOLTIS_PASSWORD_FILE": str(file)}, {"MOLTIS_PASSWORD": f"file:{file}"}):
        made = plan(environ, IMAGE)
        assert made.app is not None
        assert made.app.env["MOLTIS_PASSWORD"] == "correct horse"
        assert "MOLTIS_PASSWORD_FILE" not in made.app.env
        assert [source.name for source in made.settings.secrets] == list(environ)
    made = plan({"MOLTIS_PASSWORD": " as it is "}, IMAGE)
    assert made.app is not None
    assert made.app.env["MOLTIS_PASSWORD"] == " as it is "
    assert "cannot read MOLTIS_PASSWORD_FILE" in problems({"MOLTIS_PASSWORD_FILE": str(tmp_path / "none")})[0]


@pytest.mark.parametrize(
    ("environ", "command", "folder"),
    [
        ({}, (), ".moltis"),
        ({"MOLTIS_DATA_DIR": "/data/moltis"}, (), "/data/moltis"),
        ({"MOLTIS_DATA_DIR": "data"}, (), "data"),
        ({"MOLTIS_DATA_DIR": "/data/moltis"}, ("--data-dir", "/elsewhere"), "/elsewhere"),
        ({"SUPERVISOR_APP_COMMAND": "moltis --data-dir=/elsewhere"}, (), "/elsewhere"),
        ({}, ("sh", "-c", "exec an-app"), ".moltis"),
    ],
)
def test_what_shows_that_moltis_needs_its_password_no_more(
    environ: dict[str, str], command: tuple[str, ...], folder: str
) -> None:
    """It is a folder in its data folder; another app makes none there, and keeps its variable."""
    app = plan({"MOLTIS_PASSWORD": "correct horse", **environ}, IMAGE, command=command).app
    assert app is not None
    url = f"http://127.0.0.2:{app.env['PORT']}/api/auth/status"
    assert app.set_up == SetUp("MOLTIS_PASSWORD", os.path.join(app.env["HOME"], folder, "agents/main"), url)
    bare = plan(environ, IMAGE, command=command).app
    assert bare is not None
    assert bare.set_up is None


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (("server", "--x"), ("server", "--x")),
        (
            ("--log-level", "debug"),
            ("moltis", "--bind", "127.0.0.2", "--port", "13131", "--no-tls", "--log-level", "debug"),
        ),
    ],
)
def test_a_command_replaces_the_apps_or_is_appended(command: tuple[str, ...], argv: tuple[str, ...]) -> None:
    """It is taken word for word; one that begins with a dash is appended to the app's command."""
    made = plan({}, IMAGE, command=command)
    assert made.app is not None
    assert made.app.argv == argv
    assert isinstance(made.app.probe, TcpProbe if command[0] == "server" else HttpProbe)


def test_a_command_names_a_program() -> None:
    """An unset variable in its place was taken for a folder of PATH, and retried again and again."""
    (problem,) = problems({}, command=("", "--verbose"))
    assert "its first word is empty" in problem


def test_a_flag_of_the_plan_is_not_given_twice() -> None:
    """Moltis would exit at once: a switch is given once, and a value that contradicts the plan is refused."""
    made = plan({"SUPERVISOR_APP_COMMAND": "moltis --no-tls"}, IMAGE)
    assert made.app is not None
    assert made.app.argv.count("--no-tls") == 1
    (problem,) = problems({"SUPERVISOR_APP_COMMAND": "moltis --port=99"})
    assert "SUPERVISOR_APP_PORT" in problem
    (problem,) = problems({"SUPERVISOR_EXPOSE": "public"}, command=("--port", "99"))
    assert problem.endswith("use PORT")


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    """The app could never listen there."""
    (problem,) = problems({"SUPERVISOR_APP_BIND": "192.0.2.1"}, Machine(users=(MOLTIS,), addresses=("127.0.0.2",)))
    assert "this machine has no address 192.0.2.1" in problem


IPV6_ALONE = Machine(users=(MOLTIS,), addresses=("::1", "::", "2001:db8::1"))


def test_without_an_ipv4_loopback_the_app_is_at_that_of_ipv6() -> None:
    """No peer reaches either; the app gets the address in its own flags and variables."""
    made = plan({}, IPV6_ALONE)
    assert (made.app_address, made.serve_target) == (("::1", 13131), "http://[::1]:13131")
    assert made.app is not None
    assert made.app.argv[:3] == ("moltis", "--bind", "::1")
    assert (made.app.env["HOST"], made.app.probe) == ("::1", HttpProbe("http://[::1]:13131/health"))
    assert not [warning for warning in made.warnings if "BIND" in warning]
    assert plan({"SUPERVISOR_EXPOSE": "public"}, IPV6_ALONE).app_address == ("::", 8080)
    (problem,) = problems({}, Machine(users=(MOLTIS,), addresses=()))
    assert "SUPERVISOR_APP_BIND=127.0.0.2" in problem


def test_a_panel_that_no_peer_reaches_is_told() -> None:
    """Peers of either family are forwarded to 127.0.0.1: it has to exist, and to be listened on."""

    def told(machine: Machine, **environ: str) -> list[str]:
        return [each for each in plan(environ, machine).warnings if "no peer reaches the panel" in each]

    assert not told(IMAGE)
    assert not told(IMAGE, SUPERVISOR_BIND="0.0.0.0")
    assert not told(IPV6_ALONE, SUPERVISOR_TAILSCALE="off")
    assert "which this machine lacks" in told(IPV6_ALONE)[0]
    assert "SUPERVISOR_BIND is 192.0.2.1" in told(IMAGE, SUPERVISOR_BIND="192.0.2.1")[0]


def test_the_supervisor_listens_where_it_is_told_to() -> None:
    """By default it listens on all addresses; the setting also applies to an app that has the platform's port."""
    assert plan({}, IMAGE).listen == ("*", 8080)
    assert plan({"SUPERVISOR_BIND": "192.0.2.1"}, IMAGE).listen == ("192.0.2.1", 8080)
    made = plan({"SUPERVISOR_BIND": "2001:db8::1", "SUPERVISOR_EXPOSE": "public"}, IPV6_ALONE)
    assert (made.listen, made.app_address) == (("2001:db8::1", 9090), ("2001:db8::1", 8080))


@pytest.mark.parametrize("bind", ["192.0.2.1", "localhost"])
@pytest.mark.parametrize("more", [{}, {"SUPERVISOR_EXPOSE": "public"}, {"SUPERVISOR_APP": "off"}])
def test_an_address_to_listen_on_is_one_of_this_machine(bind: str, more: dict[str, str]) -> None:
    """Anything else is refused with one problem that names the setting."""
    (problem,) = problems({"SUPERVISOR_BIND": bind, **more}, Machine(users=(MOLTIS,), addresses=("127.0.0.2",)))
    assert "SUPERVISOR_BIND" in problem


def test_json_logs_are_asked_for_in_json_format_only() -> None:
    """Moltis then writes JSON itself."""
    made = plan({"SUPERVISOR_LOG_FORMAT": "json"}, IMAGE)
    assert made.app is not None
    assert made.app.argv[-1] == "--json-logs"


def test_public_mode() -> None:
    """The app gets the platform's port, and the supervisor its own."""
    made = plan({"SUPERVISOR_EXPOSE": "public", "PORT": "5000"}, IMAGE)
    assert (made.listen.port, made.app_address) == (9090, ("0.0.0.0", 5000))
    assert made.app is not None
    assert made.app.probe == HttpProbe("http://127.0.0.1:5000/health")


def test_a_default_user_that_does_not_exist_is_said() -> None:
    """The process then runs as the supervisor's user."""
    made = plan()
    assert [spec.user for spec in made.processes] == [None, None]
    assert sum("there is no user" in text for text in made.notices) == 2


def test_a_named_user_has_to_exist() -> None:
    """A wrong name must not mean root."""
    assert "nobody-here" in problems({"SUPERVISOR_APP_USER": "nobody-here"})[0]


def test_root_without_capabilities_is_told_both_ways_out() -> None:
    """They can be added, or the container can be started as another user."""
    (problem,) = problems({}, Machine(missing=("SETUID", "KILL")))
    assert "SETUID, KILL" in problem
    assert "--user" in problem
    panel = {"SUPERVISOR_TAILSCALE": "attach", "TS_SOCKET": "/s", "SUPERVISOR_APP": "off"}
    assert plan(panel, Machine(missing=("SETUID", "KILL"))).processes == ()


def test_root_of_a_namespace_without_other_users_is_told_both_ways_out() -> None:
    """Capabilities do not help if the ids do not exist, as in rootless containers with a single id."""
    lacking = Machine(users=(MOLTIS, TAILSCALE), missing_ids={"moltis": ("uid 1001", "setgroups")})
    (problem,) = problems({}, lacking)
    assert "run processes as moltis" in problem
    assert "lacks uid 1001, setgroups" in problem
    assert "/etc/subuid" in problem
    for setting in ("SUPERVISOR_APP_USER=root", "SUPERVISOR_TAILSCALE_USER=root"):
        assert setting in problem
    alone = {"SUPERVISOR_APP_USER": "root", "SUPERVISOR_TAILSCALE_USER": "root"}
    root = MOLTIS._replace(name="root", uid=0, gid=0)
    plan(alone, Machine(users=(root,), missing_ids={"moltis": ("uid 1001",)}))


def test_another_user_than_root_runs_everything_as_itself() -> None:
    """A notice says that the state is then open to the app."""
    made = plan({"XDG_STATE_HOME": "/s"}, Machine(uid=1000))
    assert {spec.user for spec in made.processes} == {None}
    assert all(spec.shares_user for spec in made.processes)
    assert any("open" in text for text in made.notices)


def test_as_one_user_it_is_said_which_secrets_the_app_can_read(tmp_path: Path) -> None:
    """It reads values in the environment of each health check, and files directly; its own password is not reported."""
    token = tmp_path / "token"
    token.write_text("a-token-that-is-long-enough")
    environ = {"TS_AUTHKEY": "tskey-auth-x-y", "SUPERVISOR_TOKEN_FILE": str(token), "MOLTIS_PASSWORD": "theirs"}
    made = plan({"XDG_STATE_HOME": "/s", **environ}, Machine(uid=1000))
    (warning,) = [text for text in made.warnings if "can read" in text]
    assert "the app can read TS_AUTHKEY:" in warning
    assert "start as root" in warning
    assert any(f"the app can read {token}" in text for text in made.notices)
    assert not [text for text in plan(environ, IMAGE).warnings if "health check" in text]
    alone = {"SUPERVISOR_TAILSCALE": "attach", "TS_SOCKET": "/s", "SUPERVISOR_APP": "off", "XDG_STATE_HOME": "/s"}
    assert not [text for text in plan({**alone, **environ}, Machine(uid=1000)).warnings if "can read" in text]


def test_an_app_that_runs_as_root_can_read_what_root_can() -> None:
    """It is one user for everything too, whether it was named, or the default user is missing."""
    root = MOLTIS._replace(name="root", uid=0, gid=0)
    environ = {"SUPERVISOR_TOKEN": "a-token-that-is-long-enough", "SUPERVISOR_TAILSCALE": "off"}
    for more, host in (({"SUPERVISOR_APP_USER": "root"}, Machine(users=(root, MOLTIS))), ({}, Machine(users=()))):
        (warning,) = [text for text in plan({**environ, **more}, host).warnings if "can read" in text]
        assert "the app can read SUPERVISOR_TOKEN:" in warning
        assert "SUPERVISOR_APP_USER" in warning
    assert not [text for text in plan(environ, IMAGE).warnings if "can read" in text]
    assert not [text for text in plan({**environ, "SUPERVISOR_APP": "off"}, Machine()).warnings if "can read" in text]


@pytest.mark.parametrize("above", [{}, {"SUPERVISOR_TOKEN": " "}], ids=["unset", "empty"])
def test_a_secret_in_the_toml_is_in_no_environment(tmp_path: Path, above: dict[str, str]) -> None:
    """It is in a file, which the app can read; an empty variable counts as unset."""
    config = tmp_path / "supervisor.toml"
    config.write_text('[settings]\nSUPERVISOR_TOKEN = "a-token-that-is-long-enough"\n')
    environ = {"SUPERVISOR_CONFIG": str(config), "XDG_STATE_HOME": "/s", **above}
    made = plan(environ, Machine(uid=1000))
    assert not [text for text in made.warnings if "can read" in text]
    (note,) = [text for text in made.notices if "can read" in text]
    assert f"the app can read SUPERVISOR_TOKEN in {config}," in note
    config.chmod(0o644)
    tmp_path.chmod(0o755)
    assert any(f"{config} can be read by" in text for text in plan(environ, IMAGE).warnings)


def test_what_the_apps_user_may_change_is_not_read_by_root(tmp_path: Path) -> None:
    """A secret file in a folder that anyone may write to would be a way to root."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    key = folder / "key"
    key.write_text("tskey-auth-x-y")
    found = problems({"TS_AUTHKEY_FILE": str(key)})
    assert any(str(folder) in problem and "moltis" in problem for problem in found)


@pytest.mark.parametrize("setting", ["SUPERVISOR_RUN_DIR", "TS_STATE_DIR", "TS_SOCKET"])
def test_what_root_makes_is_not_within_the_apps_reach(tmp_path: Path, setting: str) -> None:
    """A user who may change the parent could put another folder, or a link, in its place."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    (problem,) = problems({setting: str(folder / "ours")})
    assert f"trust {folder}" in problem
    assert "moltis can change it" in problem
    # A mount at that very path may be writable by anyone until the start.
    assert f"is mounted at {folder / 'ours'} itself" in problem


def test_a_proxy_on_a_port_that_is_taken() -> None:
    """This is reported before anything starts: tailscaled would fail for ever. Two addresses may share a port."""
    (problem,) = problems({"TS_OUTBOUND_HTTP_PROXY_LISTEN": "127.0.0.3:8080"})
    assert "PORT is 8080 as well" in problem
    assert "SUPERVISOR_APP_PORT" in problems({"TS_SOCKS5_SERVER": "127.0.0.2:13131"})[0]
    plan({"TS_SOCKS5_SERVER": "127.0.0.3:13131"}, IMAGE)


def test_processes_in_a_circle() -> None:
    """They would wait for each other for ever."""
    toml = "".join(f'[process.{name}]\ncommand=["x"]\nafter=["{other}"]\n' for name, other in ("ab", "ba", "cd"))
    found = problems({}, config=_file(toml))
    assert any("wait for each other" in problem for problem in found)
    assert any("start c after d" in problem for problem in found)


def test_names_that_are_taken() -> None:
    """The built-in processes keep theirs."""
    found = problems({}, config=_file('[process.tailscaled]\ncommand=["x"]\n[process.moltis]\ncommand=["x"]\n'))
    assert len(found) == 2


def test_a_socket_path_that_is_too_long() -> None:
    """The kernel takes 107 bytes."""
    assert "107" in problems({"SUPERVISOR_RUN_DIR": "/" + "x" * 120})[0]


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"SUPERVISOR_RUN_DIR": "/tmp"}, "all programs share it"),
        ({"SUPERVISOR_RUN_DIR": "/run/"}, "all programs share it"),
        ({"TS_STATE_DIR": "/"}, "the home /home/moltis lies in it"),
        ({"TS_STATE_DIR": "/var/lib"}, "all programs share it"),
        ({"TS_STATE_DIR": MOLTIS.home}, f"the home {MOLTIS.home} lies in it"),
        ({"TS_STATE_DIR": "/data", "SUPERVISOR_RUN_DIR": "/data"}, "it lies in tailscaled's own folder /data"),
        ({"TS_STATE_DIR": "/data", "SUPERVISOR_RUN_DIR": "/data/run"}, "it lies in tailscaled's own folder /data"),
    ],
)
def test_folders_that_would_be_taken_from_others(environ: dict[str, str], why: str) -> None:
    """Root closes both folders to all but one user: /tmp was closed to the app, and a home was given away."""
    assert [problem for problem in problems(environ) if why in problem]


def test_folders_of_its_own() -> None:
    """tailscaled's home may be its state folder, and a user other than root takes nothing from others."""
    own = User("tailscale", 1002, 1002, "/var/lib/tailscale")
    assert plan({}, Machine(users=(MOLTIS, own)))
    assert plan({"TS_STATE_DIR": "/mnt", "SUPERVISOR_RUN_DIR": "/database"})
    assert plan({"SUPERVISOR_RUN_DIR": "/tmp"}, Machine(uid=1001, users=(MOLTIS,)))
    assert plan({"SUPERVISOR_RUN_DIR": "/data/run", "TS_STATE_DIR": "/data"}, Machine(uid=1001, users=(MOLTIS,)))
    assert plan({"SUPERVISOR_RUN_DIR": "/data/run", "TS_STATE_DIR": "/data/run/state"})
    assert plan({"SUPERVISOR_RUN_DIR": "/data/run", "TS_STATE_DIR": "/data", "SUPERVISOR_TAILSCALE": "off"})


def _file(text: str) -> str:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".toml", delete=False) as file:
        file.write(text)
    return file.name
