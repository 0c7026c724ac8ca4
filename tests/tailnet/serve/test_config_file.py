"""TS_SERVE_CONFIG: read whenever it changes; if it is invalid, the last valid content stays."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.tailscale_env import MOST_SERVE_BYTES
from supervisor.system import dirs
from supervisor.tailnet.serve.desired import Found, ServeFile, parse

if TYPE_CHECKING:
    from pathlib import Path

NAME = "moltis.tail.example"
GOOD = (
    b'{"TCP": {"443": {"HTTPS": true, "HTTP": false}},'
    b' "Web": {"${TS_CERT_DOMAIN}:443": {"Handlers": {"/": {"Proxy": "http://127.0.0.2:80", "Text": ""}}}}}'
)
READ = {
    "TCP": {"443": {"HTTPS": True}},
    "Web": {f"{NAME}:443": {"Handlers": {"/": {"Proxy": "http://127.0.0.2:80"}}}},
}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{\n "TCP": ,}', "it is not JSON: Expecting value (at line 2, column 9)"),
        (b"{}\n\xff", "it is not UTF-8 text (at line 2)"),
        (b"[" * 100_000, "it is not JSON: too deeply nested"),
        (b'{"x": ' + b"1" * 5000 + b"}", "it is not JSON: a number in it has too many digits"),
        (b'{"TCP": {"' + b"1" * 5000 + b'": {}}}', "does not say which port"),
        (b"[]", "it is not a serve configuration: Expected `object`, got `array`"),
        (b'{"TCP": {"80": {"HTTP": 1}}}', "Expected `bool`, got `int` - at `$.TCP[...].HTTP`"),
        (b'{"TCP": {"80": null}}', "Expected `object`, got `null` - at `$.TCP[...]`"),
        (b'{"TCP": {"http": {}}}', "'http' does not say which port"),
        (b'{"TCP": {"080": {}}}', "'080' does not say which port"),
        (b'{"TCP": {"65536": {}}}', "'65536' does not say which port"),
        (b'{"Web": {"a.x": {}}}', "'a.x' does not say which port"),
        (b'{"Web": {":80": {}}}', "':80' does not say which port"),
        (b'{"Services": {"svc:s": {"TCP": {"x": {}}}}}', "'x' does not say which port"),
        (b'{"Web": {"\\ud800:80": {}}}', "surrogates not allowed"),
    ],
)
def test_what_is_no_configuration(data: bytes, why: str) -> None:
    """The message says where and why."""
    with pytest.raises(ValueError, match=r"^it is ") as caught:
        parse(data, NAME)
    assert why in str(caught.value)


def test_what_is_read() -> None:
    """The result is what tailscaled would return: without entries that have no effect."""
    assert parse(GOOD, NAME) == (READ, ())
    assert parse(b"null", NAME) == ({}, ())
    assert parse(b'\xef\xbb\xbf{"TCP": null}', NAME) == ({}, ())
    service = {"Services": {"svc:s": {"TCP": {"22": {"TCPForward": "x:1"}}, "Web": {}, "Tun": True}}}
    assert parse(msgspec.json.encode(service), NAME) == (service, ())


def test_what_is_left_out_is_told() -> None:
    """Funnel, terminal sessions, and unknown fields are reported; entries without effect are not."""
    config, told = parse(
        b'{"AllowFunnel": {"a.x:443": true}, "Foreground": {"s": {}}, "tcp": {"80": {}}, "empty": {},'
        b' "Web": {"a.x:80": {"Handlers": {"/": {"Proxy": "x", "New": 1}}}}}',
        NAME,
    )
    assert config == {"Web": {"a.x:80": {"Handlers": {"/": {"Proxy": "x"}}}}}
    funnel, unknown = told
    assert "AllowFunnel in TS_SERVE_CONFIG is left out" in funnel
    assert "contains Web.a.x:80.Handlers./.New, tcp, which" in unknown
    assert parse(b'{"AllowFunnel": {"a.x:443": false}, "Foreground": {}}', NAME) == ({}, ())
    assert "Foreground" in parse(b'{"Foreground": {"s": {"TCP": {}}}}', NAME)[1][0]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | st.from_regex(r'\{"TCP":.*\}').map(str.encode))
def test_anything_is_read_or_refused(data: bytes) -> None:
    """No content raises anything but the refusal."""
    try:
        config, _ = parse(data, NAME)
    except ValueError:
        return
    assert parse(msgspec.json.encode(config), NAME) == (config, ())


def test_a_change_is_seen_and_a_broken_one_kept_out(tmp_path: Path) -> None:
    """The last valid content stays, and is also applied under a new name."""
    path = tmp_path / "serve.json"
    path.write_bytes(GOOD)
    file = ServeFile(str(path))
    assert file.look(NAME) == Found(READ)
    path.write_bytes(b"{")
    broken = file.look(NAME)
    assert broken.config == READ
    assert f"cannot use TS_SERVE_CONFIG {path}: it is not JSON" in broken.whys[0]
    assert "line 1, column 2" in broken.whys[0]
    assert file.look(NAME) is broken
    assert f"new.{NAME}:443" in (file.look(f"new.{NAME}").config or {})["Web"]
    path.unlink()
    assert "No such file" in file.look(NAME).whys[0]
    (tmp_path / "next").write_bytes(b"{}")
    (tmp_path / "next").rename(path)
    assert file.look(NAME) == Found({})


def test_a_file_that_was_never_good(tmp_path: Path) -> None:
    """The wanted configuration is unknown; a pipe, a folder and a huge file block nothing."""
    path = tmp_path / "serve.json"
    file = ServeFile(str(path))
    assert file.look(NAME).config is None
    os.mkfifo(path)
    assert "it is a pipe" in file.look(NAME).whys[0]
    path.unlink()
    path.mkdir()
    assert "directory" in file.look(NAME).whys[0].lower()
    path.rmdir()
    path.write_bytes(b" " * (MOST_SERVE_BYTES + 1))
    assert f"more than {MOST_SERVE_BYTES} bytes" in file.look(NAME).whys[0]
    path.write_bytes(GOOD)
    assert file.look(NAME) == Found(READ)


def test_one_that_could_not_be_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause may pass without changing time or size, such as a wrong mode or a disk error."""
    path = tmp_path / "serve.json"
    path.write_bytes(GOOD)
    file = ServeFile(str(path))

    def refused(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as refusing:
        refusing.setattr(dirs, "read", refused)
        assert "Permission denied" in file.look(NAME).whys[0]
    assert file.look(NAME) == Found(READ)


def test_a_link_to_it_is_followed(tmp_path: Path) -> None:
    """Kubernetes changes a mounted file by pointing a link to another folder."""
    for name, data in (("one", b"{}"), ("two", GOOD)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "serve.json").write_bytes(data)
    (tmp_path / "now").symlink_to("one")
    file = ServeFile(str(tmp_path / "now" / "serve.json"))
    assert file.look(NAME) == Found({})
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "now")
    assert file.look(NAME) == Found(READ)
