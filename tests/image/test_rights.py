"""The users that the container's processes run as, and starts with fewer rights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.docker import docker

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

LOOK = """
for p in 1 $(cat /proc/1/task/1/children); do
  cat /proc/$p/comm; grep -E '^(Uid|NoNewPrivs|CapEff)' /proc/$p/status
done
"""
WRITABLE = ("--tmpfs", "/run", "--tmpfs", "/tmp", "--tmpfs", "/var/lib/tailscale")
HOME = ("--tmpfs", "/home/moltis:uid=1000,mode=0700")


def _rights(box: Container) -> dict[str, dict[str, str]]:
    """Return each process's user, no_new_privs and effective capabilities, by its name."""
    found: dict[str, dict[str, str]] = {}
    name = ""
    for line in box.execute("sh", "-c", LOOK).stdout.splitlines():
        key, colon, words = line.partition(":")
        if colon:
            found[name][key] = words.split()[0]
        else:
            name = "supervisor" if not found else line
            found[name] = {}
    return found


def test_each_child_has_a_user_and_no_rights_beyond_it(run: Run, login: dict[str, str]) -> None:
    """Started as root, tailscaled and the app run as their own users without capabilities, and cannot gain any."""
    with run(**login) as box:
        box.settled()
        rights = _rights(box)
        ids = {name: box.execute("id", "-u", name).stdout.strip() for name in ("tailscale", "moltis")}
        assert rights.pop("supervisor")["Uid"] == "0"
        assert {right["Uid"] for right in rights.values()} == set(ids.values())
        assert {right["NoNewPrivs"] for right in rights.values()} == {"1"}
        assert {int(right["CapEff"], 16) for right in rights.values()} == {0}


def test_the_app_starts_at_home_with_its_folders(run: Run) -> None:
    """The working directory and HOME are its user's, and its settings and data are writable."""
    script = "pwd; echo $HOME; id -un; touch ~/.config/moltis/x ~/.moltis/x && echo written; sudo -n id || echo no sudo"
    with run("sh", "-c", script, SUPERVISOR_RESTART="never", SUPERVISOR_APP_HEALTH_URL="") as box:
        assert box.wait_end() == 0
        told = [line.partition("│ ")[2].strip() for line in box.logs().splitlines() if line.startswith("moltis")]
    assert [line for line in told if "sudo:" not in line] == [
        "/home/moltis",
        "/home/moltis",
        "moltis",
        "written",
        "no sudo",
    ]


def test_as_a_user_without_capabilities(run: Run, login: dict[str, str]) -> None:
    """`--user 1000 --cap-drop ALL` works, healthy and in the tailnet; log and `check` report what is weaker."""
    with run(options=("--user", "1000", "--cap-drop", "ALL"), **login) as box:
        box.wait_health("healthy")
        box.address()
        weaker = "tailscaled's state and socket are open to the processes that run as the same user"
        assert weaker in box.logs()
        checked = box.execute("moltis-supervisor", "check")
        assert weaker in checked.stdout + checked.stderr
        assert box.stop() < 8
        assert box.wait_end() == 0


def test_read_only_with_memory_for_what_is_written(run: Run, login: dict[str, str]) -> None:
    """`--read-only` works with a tmpfs for the writable folders, as root and as a user."""
    for options in ((*WRITABLE, *HOME), ("--user", "1000", "--cap-drop", "ALL", "--tmpfs", "/tmp", *HOME)):
        with run(options=("--read-only", *options), **login) as box:
            box.wait_health("healthy")
            box.address()
            assert box.stop() < 8


def test_read_only_without_it_says_what_is_missing(run: Run) -> None:
    """The exit code is 78, with each folder and both remedies."""
    with run(options=("--read-only",), SUPERVISOR_TAILSCALE="embedded") as box:
        assert box.wait_end() == 78
        log = box.logs()
    for folder, setting in (("/run/moltis-supervisor", "SUPERVISOR_RUN_DIR"), ("/var/lib/tailscale", "TS_STATE_DIR")):
        assert f"cannot use {folder} as a folder: Read-only file system; mount a volume or a tmpfs there" in log
        assert setting in log


def test_root_without_its_capabilities_says_both_ways_out(run: Run) -> None:
    """Root that cannot change users is refused before anything starts."""
    with run(options=("--cap-drop", "ALL")) as box:
        assert box.wait_end() == 78
        assert "add SETUID, SETGID and KILL" in box.logs()
        assert "docker run --user 1000" in box.logs()


def test_a_volume_keeps_the_device(run: Run, login: dict[str, str]) -> None:
    """State in a named volume, which Docker creates as root's or copies from the image, outlives the container."""
    from tests.support.docker import unique

    volume = unique("state")
    try:
        addresses = []
        for _ in range(2):
            with run(options=("--volume", f"{volume}:/var/lib/tailscale"), **login) as box:
                box.settled()
                addresses.append(box.address())
                box.stop()
        assert addresses[0] == addresses[1]
    finally:
        docker("volume", "rm", "--force", volume)
