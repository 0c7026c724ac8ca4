"""The image started as a user other than root: what the app, which then is the same user, can and cannot reach."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.image.conftest import KEY
from tests.image.test_escape import BROKEN_INTO_SLOWLY, SCRIPT, from_the_app
from tests.support.docker import has_runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

RUN = "/tmp/moltis-supervisor-1000"
# The documentation warns of such commands as the health check; here the test decides when one runs.
ONE_USER = ("--user", "1000", "--cap-drop", "ALL", "--no-healthcheck")
# An app that puts its own socket in place of the control socket.
IN_ITS_PLACE = (
    "import os,socket,time\n"
    f"path='{RUN}/control.sock'\n"
    "while not os.path.exists(path): time.sleep(0.01)\n"
    "new=socket.socket(socket.AF_UNIX)\n"
    "new.bind(path+'.new')\n"
    "new.listen()\n"
    "os.rename(path+'.new',path)\n"
    "print('in its place',flush=True)\n"
    "while True: print('came',new.accept()[0].recv(65536),flush=True)\n"
)


@pytest.fixture(params=["runc", "runsc"])
def one_user(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options for a container of one user, on Linux and in gVisor."""
    if not has_runtime(request.param):
        pytest.skip(f"this engine has no runtime {request.param}; the one that scripts/test-engine starts has it")
    return ("--runtime", request.param, *ONE_USER)


def test_the_supervisor_stays_closed_entry_by_entry(run: Run, login: dict[str, str], one_user: tuple[str, ...]) -> None:
    """The app gets nothing of the supervisor's /proc, memory and tracing; tailscaled is open, as documented."""
    with run("sh", "-c", BROKEN_INTO_SLOWLY, options=(*SCRIPT, *one_user), **login) as box:
        found = from_the_app(box)
        assert set(found) <= {"processes", "files", "sockets"}, found
        of_supervisor = {re.sub(r" mnt:\S+", "", way) for way in found["processes"] if way.endswith("supervisor")}
        # gVisor lists the numbers of descriptors and the namespaces, but not what they refer to.
        listed = {"the list fd", "the list fdinfo", "ns/mnt"} if "runsc" in one_user else set()
        assert of_supervisor == {f"{way} of supervisor" for way in listed} | {"signals to supervisor"}
        assert all(way.startswith(f"the list of {RUN}") for way in found.get("files", ())), found
        assert all(way.endswith("on tailscaled.sock") for way in found.get("sockets", ())), found


def test_which_secrets_the_app_can_read_is_said(run: Run, login: dict[str, str], one_user: tuple[str, ...]) -> None:
    """The log and `check` say so: what Docker starts has the value in its environment, which the app may read."""
    with run(options=one_user, **login) as box:
        box.wait_log("the app can read TS_AUTHKEY")
        box.settled()
        assert "the app can read TS_AUTHKEY" in box.execute("moltis-supervisor", "check").stdout


def test_a_command_is_closed_to_the_app(run: Run, one_user: tuple[str, ...]) -> None:
    """While `logs -f` is running, its environment, memory and descriptors cannot be read."""
    with run(options=(*SCRIPT, *one_user), SUPERVISOR_TOKEN=KEY) as box:
        box.settled()
        command = ["docker", "exec", box.name, "moltis-supervisor", "logs", "-f"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as following:
            assert following.stdout is not None
            assert following.stdout.readline()
            # Without the variables that Docker passes to this process too.
            look = "env -i python3 -I /escape.py"
            told = json.loads(box.execute("sh", "-c", f"exec {look}").stdout.partition("ESCAPE ")[2])["found"]
            following.terminate()
        assert "told" not in told, told
        assert {way for way in told["processes"] if way.startswith(("environ", "mem", "maps", "what"))} == set()


def test_a_socket_of_the_apps_is_told_nothing(run: Run, one_user: tuple[str, ...]) -> None:
    """A key for `connect` is not sent to a socket in place of the control socket, not even by root."""
    env = {"SUPERVISOR_APP_HEALTH_URL": "", "SUPERVISOR_RUN_DIR": RUN}
    with run("python3", "-c", IN_ITS_PLACE, options=with_root(one_user), **env) as box:
        box.wait_log("in its place")
        for user in ("1000", "root"):
            words = ("moltis-supervisor", "connect", "--auth-key-file", "-")
            refused = box.execute(*words, user=user, stdin=KEY, may_fail=True)
            assert refused.status == 77, refused
            assert "is not a supervisor but runs under one" in refused.stderr
        assert KEY not in box.logs()


def with_root(options: tuple[str, ...]) -> tuple[str, ...]:
    """Keep root's capabilities, with which it can enter another user's folder."""
    return tuple(word for word in options if word not in {"--cap-drop", "ALL"})


def test_root_may_ask_a_supervisor_that_is_process_1(run: Run, one_user: tuple[str, ...]) -> None:
    """`docker exec -u root` reaches a supervisor that runs as another user."""
    with run(options=with_root(one_user)) as box:
        box.settled()
        asked = box.execute("env", f"SUPERVISOR_RUN_DIR={RUN}", "moltis-supervisor", "status", "--json", user="root")
        assert json.loads(asked.stdout)["processes"][0]["name"] == "moltis"
