"""The doctor in the image: without and with a running supervisor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.docker import docker

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]
SECRET = "sk-a-key-in-a-file-of-roots"


def said(text: str) -> dict[str, list[tuple[str, str]]]:
    """Return the level and text of each finding, by its check."""
    found: dict[str, list[tuple[str, str]]] = {}
    report: dict[str, Any] = json.loads(text)
    for each in report["findings"]:
        found.setdefault(each["check"], []).append((each["level"], each["found"]))
    return found


def test_before_anything_runs(image: str) -> None:
    """The report has no supervisor, no volume, little memory, and no network, as documented."""
    words = ("run", "--rm", "--network", "none", "--memory", "128m", "--entrypoint", "moltis-supervisor", image)
    ended = docker(*words, "doctor", "--json", may_fail=True)
    assert ended.status == 1
    found = said(ended.stdout)
    assert (found["memory"][0][0], found["memory"][0][1][:20]) == ("problem", "the limit is 128 MiB")
    assert [level for level, _ in found["volume"]] == ["problem"] * 3
    assert found["dns"][0][0] == "problem"
    assert all(level == "ok" for level, _ in found["program"])
    for_people = docker(*words, "doctor", may_fail=True)
    assert "settings in force" in for_people.stdout
    assert "\x1b" not in for_people.stdout


def test_beside_a_supervisor(run: Run) -> None:
    """The supervisor makes the report; the app's configuration is read with the app's rights, wherever a link leads."""
    with run() as box:
        box.settled()
        script = (
            f"mkdir -p /root/kept && echo '# {SECRET}' >/root/kept/moltis.toml && chmod 700 /root/kept && "
            "ln -sf /root/kept/moltis.toml /home/moltis/.config/moltis/moltis.toml"
        )
        box.execute("sh", "-c", script)
        found = said(box.execute("moltis-supervisor", "doctor", "--json", may_fail=True).stdout)
        assert found["supervisor"][0][0] == "ok"
        assert found["moltis-config"][0][0] == "problem"
        assert "ermission denied" in found["moltis-config"][0][1]
        assert not [texts for texts in found.values() if SECRET in str(texts)]
