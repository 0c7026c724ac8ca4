"""Programs, certificates and settings must not be writable by users that are not trusted with their processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.config.permissions import VARIABLES, Auditor, Person
from supervisor.core.process import User
from supervisor.errors import ConfigError
from tests.config.machine import MOLTIS, TAILSCALE, Machine, plan
from tests.conventions.tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

WORKER = User("worker", 1003, 1003, "/home/worker")
MACHINE = Machine(users=(MOLTIS, TAILSCALE, WORKER))
APP_AS_ROOT = Machine(users=(TAILSCALE, WORKER))
SYSTEM = "/usr/bin:/bin"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def problems(environ: dict[str, str], machine: Machine = MACHINE, **more: object) -> list[str]:
    """Return the problems of trust; empty if it would start."""
    try:
        plan({"SUPERVISOR_TAILSCALE": "off", **environ}, machine, **more)
    except ConfigError as error:
        return [problem for problem in error.problems if "cannot trust" in problem]
    return []


def script(path: Path, text: str = "#!/bin/sh\n", owner: User | None = None) -> Path:
    """Create a program, and give it and its folder to ``owner``, if given."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    if owner is not None:
        for given in (path.parent, path):
            os.chown(given, owner.uid, owner.gid)
    return path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a folder that everybody may write to."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def with_process(tmp_path: Path, *command: str, user: str = "worker", env: str = "") -> str:
    """Return the path of a settings file with one further process."""
    file = tmp_path / "settings.toml"
    words = ", ".join(f'"{word}"' for word in command)
    file.write_text(f'[process.job]\ncommand = [{words}]\nuser = "{user}"\n' + (f"env = {{{env}}}\n" if env else ""))
    return str(file)


def test_a_folder_of_path_before_the_program_is_found(theirs: Path, tmp_path: Path) -> None:
    """The app could have its own tailscaled run by another user; folders behind the real one are not searched."""
    real = script(tmp_path / "real" / "tailscaled").parent
    (problem,) = problems({"SUPERVISOR_TAILSCALE": "embedded", "PATH": f"{theirs}:{real}:{SYSTEM}"})
    assert f"trust {theirs}: PATH leads tailscaled there first" in problem
    assert "the app's user moltis can change it" in problem
    assert "take that folder out of PATH" in problem
    assert problems({"SUPERVISOR_TAILSCALE": "embedded", "PATH": f"{real}:{theirs}:{SYSTEM}"}) == []


def test_a_folder_of_path_that_somebody_could_make(tmp_path: Path) -> None:
    """This includes a missing folder in /tmp; one that already exists there is safe."""
    tmp_path.chmod(0o1777)
    environ = {"SUPERVISOR_TAILSCALE": "embedded", "PATH": f"{tmp_path}/tools/bin:{SYSTEM}"}
    (problem,) = problems(environ)
    assert f"trust {tmp_path}/tools: PATH leads tailscaled there first" in problem
    (tmp_path / "tools").mkdir()
    assert problems(environ) == []


@as_root
@pytest.mark.parametrize(
    ("owner", "user", "count"),
    [(None, "worker", 0), (WORKER, "worker", 0), (MOLTIS, "worker", 1), (MOLTIS, "moltis", 0), (WORKER, "root", 1)],
)
def test_a_program_belongs_to_root_or_to_whom_it_runs_as(
    tmp_path: Path, owner: User | None, user: str, count: int
) -> None:
    """The app's user may own the app's programs; root's programs must belong to root alone."""
    program = script(tmp_path / "bin" / "job", owner=owner)
    machine = Machine(users=(MOLTIS, TAILSCALE, WORKER, User("root", 0, 0, "/root")))
    # Only the other process makes this user known.
    config = with_process(tmp_path, str(program), user=user)
    with open(config, "a") as file:
        file.write('[process.other]\ncommand = ["true"]\nuser = "worker"\n')
    assert len(problems({}, machine, config=config)) == count


@pytest.mark.parametrize(
    "command",
    [
        ("{theirs}/job",),
        ("sh", "-e", "{theirs}/job"),
        ("env", "A=b", "{theirs}/job"),
        ("env", "python3", "-I", "{theirs}/job"),
        ("{ours}/by-path",),
        ("{ours}/by-link",),
        ("{ours}/by-name",),
    ],
    ids=" ".join,
)
def test_what_a_program_leads_to_is_a_program_too(theirs: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    """This covers a script's interpreter, the script given to an interpreter, what env finds, and a link's target."""
    script(theirs / "job")
    ours = tmp_path / "ours"
    script(ours / "by-path", f"#! {theirs}/job\n")
    script(ours / "by-name", "#!/usr/bin/env -S job -x\n")
    (ours / "by-link").symlink_to(theirs / "job")
    words = [word.format(theirs=theirs, ours=ours) for word in command]
    (problem,) = problems({"PATH": f"{SYSTEM}:{theirs}"}, config=with_process(tmp_path, *words))
    assert f"trust {theirs}" in problem
    assert "job" in problem


@pytest.mark.parametrize(
    "line",
    [
        "nice {theirs}/tool",
        "nice -n 5 tool",
        "nice nohup setsid nice nohup setsid {theirs}/tool",
        "env -u X {theirs}/tool",
        "env -C / {theirs}/tool",
        "env -C {theirs} ./tool",
        "env --chdir={theirs} A=b ./tool",
        "env PATH={theirs} tool",
        "env -i A=b {theirs}/tool",
        "timeout -s KILL 5 {theirs}/tool",
        "timeout -k5 5 env nice -n 1 -- tool",
        "nohup {theirs}/tool",
        "setsid --wait {theirs}/tool",
        "stdbuf -oL {theirs}/tool",
        "ionice -c 2 -n 0 {theirs}/tool",
        "{ours}/tini -g -- {theirs}/tool",
        "{ours}/dumb-init {theirs}/tool",
        "nice sh -e {theirs}/tool",
    ],
)
def test_what_wrappers_run(theirs: Path, tmp_path: Path, line: str) -> None:
    """What follows a wrapper and its options is a command like any other."""
    script(theirs / "tool")
    ours = tmp_path / "ours"
    for name in ("tini", "dumb-init"):
        # Not a script: the wrapper is known by its name.
        script(ours / name, "\x7fELF")
    words = line.format(theirs=theirs, ours=ours).split()
    (problem, *more) = problems({"PATH": f"{SYSTEM}:{theirs}"}, config=with_process(tmp_path, *words, user="worker"))
    assert f"cannot trust {theirs}" in problem
    assert more == []


@pytest.mark.parametrize(
    "words",
    [
        ("env", "-S{theirs}/tool x"),
        ("env", "-S", "-i A='b c' {theirs}/tool"),
        ("env", "-iS", "{theirs}/tool"),
        ("env", "-vS{theirs}/tool"),
        ("env", "-S{theirs}/tool 'x"),
        ("env", "--split-string={theirs}/tool x"),
        ("env", "--split", "nice -n 5 ${{TOOL}}"),
        ("env", "-S-C{theirs}", "./tool"),
        ("env", "-C{theirs}", "./tool"),
        ("env", "-iC", "{theirs}", "./tool"),
        ("env", "--chd={theirs}", "sh", "tool"),
        ("env", "-C{theirs}", "PATH=.:/usr/bin", "tool"),
        ("env", "-C{theirs}", "nice", "./tool"),
        ("env", "-iu", "X", "{theirs}/tool"),
        ("env", "--", "A=b", "{theirs}/tool"),
        ("env", "-", "{theirs}/tool"),
        ("timeout", "--kill", "5", "9", "{theirs}/tool"),
        ("setsid", "-wf", "{theirs}/tool"),
        ("{ours}/zsh", "{theirs}/tool"),
        ("sh", "-eo", "noclobber", "{theirs}/tool"),
        ("bash", "+x", "{theirs}/tool"),
        ("bash", "tool"),
        ("bash", "--init-file", "/dev/null", "{theirs}/tool"),
        ("python3", "-W", "error", "-X", "dev", "{theirs}/tool"),
        ("python3", "{theirs}"),
        ("perl", "-w", "-I", "/usr/lib", "{theirs}/tool"),
        ("{ours}/node", "--require", "{theirs}/tool", "{ours}/zsh"),
        ("{ours}/node", "--unhandled-rejections", "strict", "{theirs}/tool"),
        ("bash", "-oe", "pipefail", "{theirs}/tool"),
        ("{ours}/by-env", "x"),
        ("{ours}/by-argument",),
    ],
    ids=" ".join,
)
def test_however_a_command_is_spelled(theirs: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Options may be joined, shortened, or hold a whole command; all of them are read as the program reads them."""
    script(theirs / "tool")
    ours = tmp_path / "ours"
    for name in ("zsh", "node"):
        script(ours / name, "\x7fELF")
    script(ours / "by-env", f"#!/usr/bin/env -S -i A=b {theirs}/tool -x\n")
    script(ours / "by-argument", f"#!/bin/sh {theirs}/tool\n")
    config = with_process(
        tmp_path, *(word.format(theirs=theirs, ours=ours) for word in words), env=f'TOOL = "{theirs}/tool"'
    )
    (problem, *more) = problems({"PATH": f"{SYSTEM}:{theirs}"}, config=config)
    assert f"cannot trust {theirs}" in problem
    assert more == []


@pytest.mark.parametrize(
    "command",
    [
        ("sh", "{shared}/notyet"),
        ("python3", "-I", "{shared}/notyet/job"),
        ("python3", "{shared}/ours"),
        ("env", "-C{shared}/notyet", "./tool"),
    ],
    ids=" ".join,
)
def test_a_script_that_somebody_could_make(tmp_path: Path, command: tuple[str, ...]) -> None:
    """It is run as soon as it is there; a folder of ours in one that everybody may write to is safe."""
    shared = tmp_path / "shared"
    (shared / "ours").mkdir(parents=True)
    shared.chmod(0o1777)
    words = [word.format(shared=shared) for word in command]
    is_safe = words[-1].endswith("ours")
    assert len(problems({}, config=with_process(tmp_path, *words))) == (not is_safe)
    if is_safe:
        (shared / "ours").chmod(0o1777)
        assert len(problems({}, config=with_process(tmp_path, *words))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "cat {theirs}/tool",
        "/usr/bin/env -i tool",
        "/usr/bin/env -u PATH tool",
        "/usr/bin/env -S-i tool",
        "/usr/bin/env -i -- A=b tool",
        "env LD_PRELOAD=tool.so LD_LIBRARY_PATH=$ORIGIN SSL_CERT_FILE=/etc/ssl cat {theirs}/data",
        "sh -ec true {theirs}/data",
        "python3 -Im job {theirs}/data",
        "perl -ne print {theirs}/data",
        "sh -s {theirs}/data",
        "sh - {theirs}/data",
        "nice -n 5 cat {theirs}/data",
        "env -C {theirs} A={theirs}/data cat data",
        "timeout 5 nice sleep 1",
        "timeout 5 {ours}/missing --db {theirs}/data",
        "timeout 5 notyet --db {theirs}/data",
        "env OPTS=-S cat {theirs}/data",
        "env",
        "env -u",
        "timeout",
        "nice --",
        "no-such-program {theirs}/data",
        "sh -c true {theirs}/data",
        "sh {ours}/job {theirs}/data",
        "python3 -I {ours}/job {theirs}/data",
        "python3 -m job {theirs}/data",
        "sed -n p {theirs}/data",
        "{ours}/job --state={theirs}/data -o{theirs}/new {theirs}",
        "{ours}/job {theirs}/mode-777",
        "{ours}/gosu moltis {theirs}/tool",
        "env BASH_ENV=/dev/null {ours}/job",
        "setpriv --reuid=1000 --init-groups {theirs}/tool",
    ],
)
def test_what_is_no_program_is_let_be(theirs: Path, tmp_path: Path, line: str) -> None:
    """Data that a process gets as an argument may belong to another user, even if every file there is executable."""
    (theirs / "data").write_text("")
    script(theirs / "mode-777", "SQLite format 3")
    script(theirs / "tool")
    for name in ("job", "gosu"):
        script(tmp_path / "ours" / name)
    words = line.format(theirs=theirs, ours=tmp_path / "ours").split()
    # `env -i` searches the system's own PATH.
    path = f"{theirs}:{SYSTEM}" if words[-1] == "tool" else SYSTEM
    assert problems({"PATH": SYSTEM}, config=with_process(tmp_path, *words, env=f'PATH = "{path}"')) == []


def test_commands_that_run_each_other_without_end(tmp_path: Path) -> None:
    """Scripts that are each other's interpreters, and thousands of wrappers, do not prevent an answer."""
    tools = tmp_path / "tools"
    script(tools / "nice", "#!/usr/bin/env -S nice nice nice nice nice nice nice nice nice\n")
    environ = {"PATH": f"{tools}:{SYSTEM}"}
    assert problems(environ, config=with_process(tmp_path, *["nice"] * 3000)) == []


OF_ROOT = ["SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "LD_PRELOAD", "LD_AUDIT", "GCONV_PATH", "OPENSSL_CONF"]
OF_PROCESSES = ["AWS_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "BASH_ENV", "PYTHONPATH", "NODE_PATH", "PERL5LIB"]
# What separates several paths.
LISTS = {
    **dict.fromkeys(["SSL_CERT_DIR", "LD_AUDIT", "GCONV_PATH", "PYTHONPATH", "NODE_PATH", "PERL5LIB"], ":"),
    "LD_PRELOAD": " ",
}


@pytest.mark.parametrize("name", OF_ROOT + OF_PROCESSES)
def test_certificates_and_libraries_that_the_environment_names(theirs: Path, tmp_path: Path, name: str) -> None:
    """Each process that has the variable would trust or run what is there, and root itself with some of them."""
    (theirs / "file").write_text("")
    value = f"/etc/ssl{LISTS[name]}{theirs}/file" if name in LISTS else f"{theirs}/file"
    told = f"trust {theirs}: it is on the way to {theirs}/file, which {name} names"
    # The app may set the others for itself.
    assert [told in problem for problem in problems({name: value})] == [True] * (name in OF_ROOT)
    assert problems({name: "/etc/ssl"}) == []
    for words, env in ((["true"], f'{name} = "{value}"'), (["env", f"{name}={value}", "true"], "")):
        (problem,) = problems({}, config=with_process(tmp_path, *words, env=env))
        assert told in problem


def test_the_page_lists_all_variables() -> None:
    """Whoever uses another one has to know that nobody looks at what it names."""
    page = (ROOT / "docs/explanation/threat-model.md").read_text()
    assert [name for name in VARIABLES if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("name", "value", "step"),
    [
        ("LD_PRELOAD", "{shared}/notyet.so", "notyet.so"),
        ("LD_LIBRARY_PATH", "/usr/lib;{shared}/notyet", "notyet"),
        ("LD_LIBRARY_PATH", "{shared}", "*"),
        ("SSL_CERT_DIR", "/etc/ssl:{shared}/link", "*"),
        ("SSL_CERT_FILE", "{shared}/notyet/ca file.pem", "notyet"),
    ],
)
def test_what_a_variable_names_could_be_made(tmp_path: Path, name: str, value: str, step: str) -> None:
    """It would count as soon as it is there, as would a file in a folder that is searched."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(".")
    value = value.format(shared=shared)
    for problem in (
        *problems({name: value}),
        *problems({}, config=with_process(tmp_path, "true", env=f'{name} = "{value}"')),
    ):
        assert f"cannot trust {shared}/{step}: " in problem
    assert problems({name: value}) != []
    shared.chmod(0o755)
    assert problems({name: value}) == []


def test_a_module_that_somebody_could_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be imported by root in place of one of a later folder."""
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setattr(sys, "path", [str(shared), *sys.path])
    assert problems({}) == []
    shared.chmod(0o1777)
    (problem,) = problems({})
    assert f"cannot trust {shared}/*: root reads it" in problem


@as_root
def test_a_file_in_a_folder_that_is_searched(tmp_path: Path) -> None:
    """The folder is root's, but not all that is in it; another's folder in it is not searched."""
    library = script(tmp_path / "lib" / "libssl.so")
    (library.parent / "data").mkdir()
    os.chown(library.parent / "data", MOLTIS.uid, -1)
    environ = {"LD_LIBRARY_PATH": str(library.parent)}
    assert problems(environ) == []
    os.chown(library, MOLTIS.uid, -1)
    (problem,) = problems(environ)
    assert f"trust {library}: LD_LIBRARY_PATH names it" in problem


@as_root
def test_settings_are_nobodys_but_roots(tmp_path: Path) -> None:
    """The users of further processes and of tailscaled must not be able to change them, even if the app is root."""
    for owner, machine in ((WORKER, MACHINE), (WORKER, APP_AS_ROOT), (MOLTIS, MACHINE)):
        config = with_process(tmp_path, "true")
        os.chown(config, owner.uid, owner.gid)
        (problem,) = problems({}, machine, config=config)
        assert f"trust {config}: root reads it" in problem
        assert f"user {owner.name} can change it" in problem


@as_root
def test_tailscaleds_user_has_what_is_tailscaleds(tmp_path: Path) -> None:
    """It controls the key and the published configuration in any case, but not root's programs."""
    key = tmp_path / "key"
    key.write_text("tskey-auth-x-y\n")
    os.chown(key, TAILSCALE.uid, TAILSCALE.gid)
    environ = {"SUPERVISOR_TAILSCALE": "embedded", "TS_AUTHKEY_FILE": str(key)}
    assert problems(environ, MACHINE) == []
    tools = script(tmp_path / "bin" / "job", owner=TAILSCALE)
    (problem,) = problems(environ, APP_AS_ROOT, command=[str(tools)])
    assert "tailscaled's user tailscale can change it" in problem


def test_without_users_to_keep_apart_nothing_is_looked_at(theirs: Path) -> None:
    """This holds if everything runs as root, and if it runs as another user."""
    path = {"PATH": f"{theirs}:{SYSTEM}", "SUPERVISOR_TAILSCALE": "embedded", "XDG_STATE_HOME": "/s"}
    assert problems(path, Machine()) == []
    assert problems(path, Machine(uid=1000)) == []


def _refusal(env: dict[str, str], *words: str) -> str:
    """Run the supervisor with these words, expect that it refuses its settings, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "supervisor", *words],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 78
    return done.stderr


@as_root
def test_check_and_run_say_so_on_this_machine(theirs: Path) -> None:
    """With its real users, both exit with 78 and name the folder, and what the app put there is never run."""
    trap = script(theirs / "tailscaled", f"#!/bin/sh\ntouch {theirs}/ran\n")
    env = {"PATH": f"{theirs}:{SYSTEM}", "SUPERVISOR_APP_USER": "nobody", "SUPERVISOR_TAILSCALE_USER": "root"}
    env |= {"SUPERVISOR_RUN_DIR": f"{theirs.parent}/run", "PORT": "0"}
    for command in ("check", "run"):
        refusal = _refusal(env, command)
        assert f"cannot trust {theirs}: it is on the way to {trap}, which tailscaled runs" in refusal
        assert "take that folder out of PATH" in refusal
    assert not (theirs / "ran").exists()


@as_root
@pytest.mark.parametrize(
    "wrapper",
    [("nice",), ("env", "-u", "X"), ("env", "-vS"), ("env", "-C/", "A=b"), ("timeout", "5"), ("sh",)],
    ids=" ".join,
)
def test_nothing_planted_runs_behind_a_wrapper(theirs: Path, tmp_path: Path, wrapper: tuple[str, ...]) -> None:
    """With the real users of this machine, a helper of root's does not run a file of the app's."""
    trap = script(theirs / "tool", f"#!/bin/sh\ntouch {theirs}/ran\n")
    env = {"PATH": SYSTEM, "SUPERVISOR_APP_USER": "nobody", "SUPERVISOR_TAILSCALE": "off", "PORT": "0"}
    env |= {"SUPERVISOR_RUN_DIR": f"{tmp_path}/run"}
    config = with_process(tmp_path, *wrapper, str(trap), user="root")
    for command in ("check", "run"):
        told = f"cannot trust {theirs}: it is on the way to {trap}, which job runs, and the app's user"
        assert told in _refusal(env, command, "--config", str(config))
    assert not (theirs / "ran").exists()


def test_links_are_followed_to_their_end(tmp_path: Path, theirs: Path) -> None:
    """Everything on the way counts; a circle has no end, and is no danger."""
    stranger = (Person("a stranger", 12345, frozenset()),)
    tmp_path.chmod(0o755)
    (tmp_path / "a").symlink_to("theirs/../b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("../" + tmp_path.name + "/ours/file")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "file").write_text("")
    auditor = Auditor()
    assert auditor.changer(str(tmp_path / "a"), stranger) == (str(theirs), stranger[0])
    assert auditor.changer(str(tmp_path / "b"), stranger) == (str(theirs), stranger[0])
    assert auditor.changer(str(tmp_path / "c"), stranger) is None
    (tmp_path / "ours" / "file").chmod(0o666)
    assert Auditor().changer(str(tmp_path / "c"), stranger) == (str(tmp_path / "ours" / "file"), stranger[0])


def test_a_way_may_be_long(tmp_path: Path) -> None:
    """Neither thousands of folders nor thousands of links prevent an answer."""
    stranger = (Person("a stranger", 12345, frozenset()),)
    assert Auditor().changer("/nothing" + "/x" * 5000, stranger) is None
    for number in range(1500):
        (tmp_path / str(number)).symlink_to(str(number + 1))
    assert Auditor().changer(str(tmp_path / "0"), stranger) is None
