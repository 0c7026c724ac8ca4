"""HTTPS is published once its certificate exists."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from supervisor.backoff import Backoff
from supervisor.runtime.loop_latency import join_background
from supervisor.tailnet.localapi import LocalApi
from supervisor.tailnet.serve import certificates as module
from supervisor.tailnet.serve.certificates import WAITS, Certificate, Certificates
from tests.logs.rig import until
from tests.support.backups import path_with_restic
from tests.support.processes import frozen
from tests.tailnet.serve.publishing import (
    NAME,
    Stage,
    as_nobody,
    fetch_securely,
    look,
    look_until,
    said,
    stage,
    visitor,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

SHORT = Backoff(0.01, 0.02)
BACKUP = {
    "REPOSITORY": "s3:https://nyc3.digitaloceanspaces.com/bucket/moltis",
    "PASSWORD": "a good password",
    "ACCESS_KEY_ID": "an id of a key",
    "SECRET_ACCESS_KEY": "a secret of a key",
    "PATHS": "/data",
}


@pytest.fixture(name="here")
def on_stage() -> Iterator[Stage]:
    """Provide a node whose tailnet issues certificates."""
    with stage() as found:
        found.issue_certificates()
        yield found


@contextlib.asynccontextmanager
async def beside(run: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run it in the background for the duration of a block."""
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        yield
        group.cancel_scope.cancel()


async def settled(certificates: Certificates, name: str) -> Certificate:
    """Return the state of a certificate once it is known."""
    await until(lambda: certificates.want(name) != Certificate())
    found = certificates.want(name)
    assert found is not None
    return found


async def test_https_comes_when_the_certificate_does(here: Stage) -> None:
    """HTTP at once, a message while there is no certificate, and then both; a peer gets the app by HTTPS."""
    serve = here.serve(lasting=True, certificates=Certificates(LocalApi(here.node.path, str), waits=SHORT))
    view = await look_until(serve, here.node, lambda view: view.mode == "serve")
    assert (view.urls, view.why) == ((f"http://{NAME}/",), "")
    async with beside(serve.run):
        view = await look_until(serve, here.node, lambda view: view.why)
        assert (here.config(), view.urls) == (here.http(), (f"http://{NAME}/",))
        assert f"no HTTPS, HTTP stays: cannot get a certificate for {NAME}: " in view.why
        assert "connection refused" in view.why
        here.give_certificate()
        view = await look_until(serve, here.node, lambda view: not view.why)
        assert view.urls == (f"https://{NAME}/", f"http://{NAME}/")
    assert here.config() == here.both()
    assert said(serve)[-1] == f"serve: published {{'urls': 'https://{NAME}/ http://{NAME}/'}}"
    with visitor(here) as peer:
        assert fetch_securely(peer, NAME) == b"app"


async def test_https_of_a_former_run_stays(here: Stage) -> None:
    """It is not removed while its certificate is being requested; without a certificate it is."""
    here.give_certificate()
    first = here.serve(lasting=True)
    async with beside(first.run):
        await look_until(first, here.node, lambda view: len(view.urls) == 2)
    again = here.serve(lasting=True, certificates=Certificates(LocalApi(here.node.path, str), waits=SHORT))
    assert len((await look(again, here.node)).urls) == 2
    again.forget()
    assert len((await look(again, here.node)).urls) == 2
    for path in (here.node.folder / "state/certs").glob(f"{NAME}*"):
        path.unlink()
    async with beside(again.run):
        view = await look_until(again, here.node, lambda view: view.why)
    assert here.config() == here.http()
    assert view.external_url == recorded_url(here) == f"https://{NAME}"


def recorded_url(here: Stage) -> str:
    """Return the URL that the app gets at its next start."""
    join_background(30.0)
    return (here.node.folder / "state/external-url").read_text()


async def test_the_apps_url_ends_with_https(here: Stage) -> None:
    """If the tailnet no longer issues certificates, the app gets no URL at its next start."""
    here.give_certificate()
    serve = here.serve(lasting=True)
    async with beside(serve.run):
        view = await look_until(serve, here.node, lambda view: len(view.urls) == 2)
        assert view.external_url == recorded_url(here) == f"https://{NAME}"
        here.control.order("certs", on=0)
        view = await look_until(serve, here.node, lambda view: len(view.urls) == 1)
        assert (view.external_url, recorded_url(here)) == ("", "")


async def test_https_alone(here: Stage) -> None:
    """Nothing is published until its certificate exists, and the reason is reported."""
    serve = here.serve(SUPERVISOR_SERVE="https", certificates=Certificates(LocalApi(here.node.path, str), waits=SHORT))
    view = await look_until(serve, here.node, lambda view: "as soon as" in view.why)
    assert (view.mode, here.config()) == ("off", {})
    async with beside(serve.run):
        await look_until(serve, here.node, lambda view: "the app is not published: cannot get" in view.why)
        here.give_certificate()
        view = await look_until(serve, here.node, lambda view: not view.why)
    assert (view.urls, here.config()) == ((f"https://{NAME}/",), here.https())
    here.control.order("certs", on=0)
    await look_until(serve, here.node, lambda view: "the tailnet issues no certificates" in view.why)
    assert here.config() == {}


async def test_no_https_where_the_certificate_would_be_lost(here: Stage) -> None:
    """Only HTTP is published, which is as intended, and a note gives the reason."""
    here.give_certificate()
    serve = here.serve(lasting=False)
    async with beside(serve.run):
        view = await look_until(serve, here.node, lambda view: view.mode == "serve")
    assert (view.why, here.config()) == ("", here.http())
    assert "TS_STATE_DIR is not a volume of its own" in serve.notes[0]


@pytest.mark.parametrize("backups", [False, True])
async def test_backups_keep_the_certificate(here: Stage, *, backups: bool) -> None:
    """The state folder is no mount of its own; with backups the next container has it nevertheless."""
    here.give_certificate()
    kept: dict[str, Any] = {f"SUPERVISOR_BACKUP_{name}": text for name, text in BACKUP.items()}
    serve = here.serve(lasting=None, PATH=path_with_restic(), **(kept if backups else {}))
    wanted = here.both() if backups else here.http()
    async with beside(serve.run):
        await look_until(serve, here.node, lambda view: len(view.urls) == 1 + backups)
    assert (here.config(), bool(serve.notes)) == (wanted, not backups)


async def test_failures_wait_longer_and_longer(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are only a few attempts in an hour, whatever happens to tailscaled and to the name."""
    assert WAITS.initial_s >= 600
    assert WAITS.max_s == 3600
    found: list[tuple[Backoff, int]] = []

    def wait_s(waits: Backoff, failures: int) -> float:
        found.append((waits, failures))
        return 0.01 if failures < 3 else 3600.0

    monkeypatch.setattr(module, "ceiling_s", wait_s)
    certificates = Certificates(LocalApi(here.node.path, str))
    async with beside(certificates.run):
        await settled(certificates, NAME)
        await until(lambda: len(found) == 3)
        for name in (NAME, "", NAME):
            certificates.forget()
            certificates.want(name)
            await asyncio.sleep(0.02)
    assert found == [(WAITS, 1), (WAITS, 2), (WAITS, 3)]


async def test_a_certificate_that_takes_too_long(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """This is reported after the limit; a certificate that existed before stays in use."""
    first, second = (Certificates(LocalApi(here.node.path, str), waits=SHORT) for _ in range(2))
    async with beside(first.run), beside(second.run):
        here.give_certificate()
        found = await settled(second, NAME)
        assert found.there
        # Only now: on a busy machine a valid response takes time, too.
        for certificates in (first, second):
            monkeypatch.setattr(certificates, "_fetch_s", 0.2)
        with frozen(here.node.process.pid):
            assert "did not answer" in (await settled(first, NAME)).why
            second.forget()
            await until(lambda: second.want(NAME) and second._known[NAME].failures)
            assert second.want(NAME) == found


async def test_a_tailscaled_that_is_down_says_nothing(here: Stage) -> None:
    """It is asked again only when the certificate is requested again."""

    class Counting(Certificates):
        attempts = 0

        async def _fetch(self, name: str, known: Any) -> None:
            self.attempts += 1
            await super()._fetch(name, known)

    certificates = Counting(LocalApi(here.node.path + ".none", str))
    async with beside(certificates.run):
        for attempt in (1, 2):
            before = certificates.attempts
            assert certificates.want(NAME) == Certificate()
            await until(lambda: certificates.attempts > before)  # noqa: B023 - it is over before the next turn
            await asyncio.sleep(0.05)
            assert certificates.attempts == attempt
        assert certificates.want("") is None


@pytest.mark.skipif("__import__('os').geteuid() != 0", reason="only root can ask as somebody else")
async def test_who_may_not_ask_does_not_ask_again(here: Stage) -> None:
    """It waits until tailscaled is replaced."""
    here.give_certificate()
    here.node.folder.chmod(0o755)
    certificates = Certificates(LocalApi(here.node.path, str), waits=SHORT)
    async with beside(certificates.run):
        with as_nobody():
            assert "403" in (await settled(certificates, NAME)).why
        await asyncio.sleep(0.05)
        assert not (await settled(certificates, NAME)).there
        certificates.forget()
        await until(lambda: getattr(certificates.want(NAME), "there", False))
