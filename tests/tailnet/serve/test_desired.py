"""What is to be published, and what is reported about it."""

from __future__ import annotations

import pytest

from supervisor.tailnet.serve import desired
from supervisor.tailnet.serve.certificates import Certificate
from supervisor.tailnet.serve.diff import Conflict, ConflictKind, Path
from supervisor.tailnet.serve.publisher import conflict_text, off_command, takes_root, thing
from tests.tailnet.serve.building import config_of

APP = "http://127.0.0.2:13131"
NAME = "moltis.tail.example"
DOMAINS = (NAME,)
THERE = Certificate(there=True)
LOST = Certificate(why="rate limited", what_to_do="it is tried again")
PENDING = Certificate()


@pytest.mark.parametrize(
    ("mode", "certificate", "ports", "kept", "says"),
    [
        ("http", None, {"80"}, False, ""),
        ("auto", None, {"80"}, False, ""),
        ("auto", PENDING, {"80", "443"}, True, ""),
        ("auto", THERE, {"80", "443"}, False, ""),
        ("auto", LOST, {"80"}, False, "no HTTPS, HTTP stays: cannot get a certificate for moltis.tail.example: rate"),
        ("https", None, set(), False, "the tailnet issues no certificates; enable HTTPS"),
        ("https", PENDING, {"443"}, True, "published as soon as the certificate for moltis.tail.example is there"),
        ("https", THERE, {"443"}, False, ""),
        ("https", LOST, set(), False, "the app is not published"),
    ],
)
def test_the_modes(mode: str, certificate: Certificate | None, ports: set[str], kept: bool, says: str) -> None:  # noqa: FBT001
    """Which ports lead to the app, whether HTTPS is only kept, and what is reported as a problem."""
    wanted = desired.of_app(mode, APP, NAME, DOMAINS, certificate, lasting=True)
    assert wanted.wish is not None
    assert {path[1] for path in wanted.wish.entries if path[0] == "TCP"} == ports
    assert {("Web", f"{NAME}:{port}", "Handlers", "/") for port in ports} <= set(wanted.wish.entries)
    assert bool(wanted.wish.kept) == kept
    assert all("443" in path[1] for path in wanted.wish.kept)
    assert says in "; ".join(wanted.whys)
    assert bool(says) == bool(wanted.whys)
    assert wanted.notes == ()


def test_the_panel_beside_the_app() -> None:
    """It has its own port, by HTTP, even if the app itself cannot be published yet."""
    for mode, ports in (("auto", {"80", "8080"}), ("https", {"8080"})):
        app = desired.of_app(mode, APP, NAME, (), None, lasting=True)
        wish = desired.with_panel(app, NAME, "http://panel:8080/").wish
        assert wish is not None
        assert {path[1] for path in wish.entries if path[0] == "TCP"} == ports
        assert wish.entries["TCP", "8080"] == {"HTTP": True}
        assert wish.entries["Web", f"{NAME}:8080", "Handlers", "/"] == {"Proxy": "http://panel:8080"}
    assert desired.with_panel(desired.nameless(), "", "http://panel:8080").wish is None


def test_as_tailscaled_wants_it() -> None:
    """The structure is that of `tailscale serve`."""
    wanted = desired.of_app("auto", APP, NAME, DOMAINS, THERE, lasting=True)
    assert wanted.wish is not None
    assert config_of(wanted.wish.entries) == {
        "TCP": {"80": {"HTTP": True}, "443": {"HTTPS": True}},
        "Web": {
            f"{NAME}:80": {"Handlers": {"/": {"Proxy": APP}}},
            f"{NAME}:443": {"Handlers": {"/": {"Proxy": APP}}},
        },
    }


@pytest.mark.parametrize(
    ("mode", "domains", "lasting", "name"),
    [
        ("auto", DOMAINS, True, NAME),
        ("auto", DOMAINS, False, ""),
        ("auto", (), True, ""),
        ("auto", ("other.tail.example",), True, ""),
        ("https", DOMAINS, False, NAME),
        ("https", (), True, ""),
        ("http", DOMAINS, True, ""),
    ],
)
def test_when_a_certificate_is_wanted(mode: str, domains: tuple[str, ...], lasting: bool, name: str) -> None:  # noqa: FBT001
    """It is wanted if the tailnet issues them and it outlives the container, or if HTTPS was requested explicitly."""
    assert desired.certificate_name(mode, NAME, domains, lasting=lasting) == name


def test_a_state_folder_that_is_no_volume_is_worth_a_note() -> None:
    """It gives the reason for missing HTTPS, or the cost of HTTPS; if HTTPS is off or unavailable, there is no note."""
    auto = desired.of_app("auto", APP, NAME, DOMAINS, None, lasting=False)
    assert "mount a volume" in auto.notes[0]
    assert "not published by HTTPS" in auto.notes[0]
    assert "each new container takes" in desired.of_app("https", APP, NAME, DOMAINS, THERE, lasting=False).notes[0]
    assert desired.of_app("auto", APP, NAME, (), None, lasting=False).notes == ()
    assert desired.of_app("http", APP, NAME, DOMAINS, None, lasting=False).notes == ()


def test_a_file_with_https_in_a_folder_that_is_no_volume_is_worth_the_same_note() -> None:
    """Each new container takes a certificate, whatever asks for it."""
    web = {"TCP": {"80": {"HTTP": True}}}
    for secure in (
        {"TCP": {"443": {"HTTPS": True}}},
        {"TCP": {"993": {"TCPForward": "x:1", "TerminateTLS": NAME}}},
        {"Services": {"svc:s": {"TCP": {"443": {"HTTPS": True}}}}},
    ):
        told = desired.of_file(secure, DOMAINS, (), lasting=False)
        assert told.notes == desired.of_app("https", APP, NAME, DOMAINS, THERE, lasting=False).notes
        assert desired.of_file(secure, DOMAINS, (), lasting=True).notes == ()
        assert desired.of_file(secure, (), (), lasting=False).notes == ()
    assert desired.of_file(web, DOMAINS, (), lasting=False).notes == ()


def test_a_device_without_a_name() -> None:
    """Everything stays unchanged until it has one."""
    wanted = desired.of_app("auto", APP, "", (), None, lasting=True)
    assert wanted.wish is None
    assert "no name" in wanted.whys[0]


def test_a_file_without_certificates() -> None:
    """Ports that need one are left out and reported, the others are published."""
    config = {
        "TCP": {"443": {"HTTPS": True}, "80": {"HTTP": True}, "993": {"TCPForward": "x:1", "TerminateTLS": NAME}},
        "Web": {f"{NAME}:443": {"Handlers": {"/": {"Proxy": APP}}}, f"{NAME}:80": {"Handlers": {"/": {"Proxy": APP}}}},
        "Services": {"svc:s": {"TCP": {"443": {"HTTPS": True}}}},
    }
    wanted = desired.of_file(config, (), ("before",), lasting=True)
    assert wanted.wish is not None
    assert config_of(wanted.wish.entries) == {
        "TCP": {"80": {"HTTP": True}},
        "Web": {f"{NAME}:80": {"Handlers": {"/": {"Proxy": APP}}}},
    }
    assert wanted.whys[0] == "before"
    assert "port 443, 443 of svc:s, 993, which is left out" in wanted.whys[1]
    with_them = desired.of_file(config, DOMAINS, (), lasting=True)
    assert with_them.wish is not None
    assert (config_of(with_them.wish.entries), with_them.whys) == (config, ())
    assert desired.of_file({"TCP": {"80": {"HTTP": True}}}, (), (), lasting=True).whys == ()


FORWARD = {"TCPForward": "127.0.0.1:22"}
WEB: Path = ("Web", f"{NAME}:80", "Handlers", "/")
CONFIG = {"TCP": {"80": {"HTTP": True}}, "Services": {"svc:s": {"TCP": {"443": {"HTTPS": True}}}}}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            Conflict(ConflictKind.TAKEN, ("TCP", "80"), FORWARD),
            (
                "cannot publish on port 80: something that is not ours is there, a TCP forward to 127.0.0.1:22; "
                "remove it with `tailscale serve --tcp=80 off`"
            ),
        ),
        (
            Conflict(ConflictKind.TAKEN, WEB, {"Proxy": "http://x"}),
            (
                "cannot publish on moltis.tail.example:80: something that is not ours is there, http://x; "
                "remove it with `tailscale serve --http=80 off`"
            ),
        ),
        (
            Conflict(ConflictKind.BESIDE, (*WEB[:-1], "/x"), {"Path": "/srv"}),
            (
                "moltis.tail.example:80/x is not ours and leads to the files in /srv, not to what we publish beside "
                "it; remove it with `tailscale serve --http=80 --set-path=/x off`"
            ),
        ),
        (
            Conflict(ConflictKind.SESSION, ("TCP", "80")),
            "cannot publish on port 80: a `tailscale serve` that runs in a terminal has that port; end it",
        ),
        (
            Conflict(ConflictKind.OPEN_TO_FUNNEL, ("Web", f"{NAME}:443", "Handlers", "/")),
            (
                "the whole internet reaches moltis.tail.example:443: Funnel was switched on, not by us; "
                "switch it off with `tailscale funnel --https=443 off`"
            ),
        ),
        (
            Conflict(ConflictKind.CLOSED_TO_FUNNEL, ("Web", f"{NAME}:443", "Handlers", "/")),
            (
                "cannot publish on moltis.tail.example:443: Funnel is on there, not by us, and the whole internet "
                "would reach it; switch it off with `tailscale funnel reset`"
            ),
        ),
        (
            Conflict(ConflictKind.TAKEN, ("Services", "svc:s", "Web", "s.x:443", "Handlers", "/"), {"Text": "t"}),
            (
                "cannot publish on s.x:443: something that is not ours is there, a text; "
                "remove it with `tailscale serve --service=svc:s --https=443 off`"
            ),
        ),
    ],
)
def test_what_is_in_the_way_in_words(found: Conflict, says: str) -> None:
    """The place, what is there, and the command that removes it."""
    assert conflict_text(found, CONFIG) == says


def test_a_funnel_with_a_page_behind_it_is_switched_off_alone() -> None:
    """No other entry is lost with it."""
    page: Path = ("Web", f"{NAME}:443", "Handlers", "/")
    found = Conflict(ConflictKind.CLOSED_TO_FUNNEL, page)
    assert off_command(found, config_of({page: {"Text": "t"}})) == "tailscale funnel --https=443 off"


def test_things_have_names() -> None:
    """Anything that others publish can be named."""
    told = [{"Redirect": "https://x"}, {"HTTPS": True}, {"HTTP": True}, {}, None]
    assert [thing(value) for value in told] == [
        "a redirect to https://x",
        "a web server (HTTPS)",
        "a web server (HTTP)",
        "something else",
        "something else",
    ]
    assert (
        off_command(Conflict(ConflictKind.TAKEN, ("Services", "svc:s", "Tun"), True), {})
        == "tailscale serve --service=svc:s --tun off"
    )


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ({"Path": "/srv"}, True),
        ({"Proxy": "unix:/run/app.sock"}, True),
        ({"TCPForward": "unix:/run/app.sock"}, True),
        ({"Proxy": APP}, False),
        ({"HTTP": True}, False),
        (True, False),
    ],
)
def test_what_takes_root(value: object, answer: bool) -> None:  # noqa: FBT001
    """Files and unix sockets do."""
    assert takes_root({WEB: value}) is answer
