"""A deploy with the image, also in the sandbox that App Platform is said to use: two containers, one device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.image.test_backups import BACKUPS, NOTE, volume
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

__all__ = ["volume"]


@pytest.mark.parametrize("way", ["root", "gvisor"])
def test_a_deploy_hands_the_device_over(
    run: Run,
    login: dict[str, str],
    volume: str,
    request: pytest.FixtureRequest,
    way: str,
) -> None:
    """The new container gets ready next to the old one and starts nothing; then it has its device and latest files."""
    sandbox: tuple[str, ...] = request.getfixturevalue("gvisor") if way == "gvisor" else ()
    options = ("--volume", f"{volume}:/backup", *sandbox)
    with run(options=options, **login, **BACKUPS) as old:
        old.settled()
        address = old.address()
        old.execute("moltis-supervisor", "backup")
        with run(options=options, **login, **BACKUPS) as new:
            new.settled()
            new.wait_log("take-over rehearsed")
            assert "started child=" not in new.logs()
            old.execute("sh", "-c", f"mkdir -p /home/moltis/.moltis; echo last > {NOTE}", user="moltis")
            assert old.stop(40) < 30
            assert "handed over" in old.logs()
            new.wait_log("restored")
            wait_until(lambda: new.address() == address, 60.0, "the device of before")
            assert new.execute("cat", NOTE).stdout == "last\n"
            new.settled()
