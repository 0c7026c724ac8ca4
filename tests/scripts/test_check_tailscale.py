"""What the program relies on is in the source of the tested version, and what is missing is reported."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from scripts.check_tailscale import Source, fetch, main, missing
from scripts.tailscaled_texts import Relied
from supervisor.tailnet.versions import TESTED, untried

if TYPE_CHECKING:
    from pathlib import Path


def test_all_is_in_the_tested_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The tests' control server is built from the same source, so it is available."""
    assert main([TESTED]) == 0
    assert "none missing" in capsys.readouterr().out


def test_what_has_changed_is_told(tmp_path: Path) -> None:
    """A text may be missing, or be in a comment only, and a bit of the mask may be obsolete."""
    with zipfile.ZipFile(fetch(TESTED)) as real, zipfile.ZipFile(tmp_path / "changed.zip", "w") as changed:
        for name in real.namelist():
            if name.endswith(".go"):
                text = real.read(name).decode()
                text = text.replace('"Tailscale is stopped."', '"It stopped." /* "Tailscale is stopped." */')
                text = text.replace("NotifyInitialPrefs ", "ObsoleteNotifyInitialPrefs ")
                changed.writestr(name, text)
    assert missing(Source(str(tmp_path / "changed.zip"))) == [
        "'Tailscale is stopped.': health: no news",
        "4 (ObsoleteNotifyInitialPrefs): a bit of the mask for the notification bus",
    ]


def test_a_text_is_found_in_pieces() -> None:
    """A text is found as the line is composed: the part's name, then the message; nothing else counts as found."""
    source = Source(fetch(TESTED))
    assert source.has(Relied("magicsock: disco: ", ""))
    assert not source.has(Relied("magicsock: disko: ", ""))
    assert not source.has(Relied("magicsock: closing the shop", ""))


def test_no_source(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It fails without Go, and for an invalid version."""
    assert main(["not-a-version"]) == 2
    monkeypatch.setenv("PATH", "/nowhere")
    assert main([TESTED]) == 2
    assert "cannot run go: No such file or directory; install Go" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (TESTED, ""),
        ("1.102.99-t0123456789", ""),
        ("", ""),
        ("1.104.7", "what the supervisor relies on was found in its source"),
        ("1.999.0", "docs/how-to/upgrade.md"),
        ("1.2.3-dev", "tailscaled 1.2.3 was not tested"),
    ],
)
def test_what_is_said_of_a_version(version: str, said: str) -> None:
    """There is no message for the tested series, whatever the patch."""
    assert said in untried(version)
    assert bool(said) == bool(untried(version))
