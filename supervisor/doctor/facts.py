"""Collects facts: from tailscaled's LocalAPI, and from Moltis' configuration by a helper as the app's user."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from supervisor.backup import programs
from supervisor.config.permissions import why_not_run
from supervisor.config.plan import common_environment
from supervisor.config.tailscale_env import is_client_secret
from supervisor.core.process import ProcessSpec
from supervisor.core.tailnet import Backend
from supervisor.doctor.subject import AppFacts, KeyFacts, TagOwners, TailnetFacts
from supervisor.errors import ConfigError
from supervisor.json_input import decode_object
from supervisor.logs.received import received_line
from supervisor.runtime.loop_latency import TimedReader
from supervisor.system import kernel
from supervisor.system.reaper import Reaper
from supervisor.system.spawn import SpawnError, program_of
from supervisor.tailnet.localapi import LocalApi, LocalApiError
from supervisor.tailnet.oauth_client import OAuthClient, OAuthRefusedError, OAuthUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from supervisor.backup.programs import ProgramParent
    from supervisor.doctor.subject import Subject
    from supervisor.secret import Secret

ASK_S = 2.0
_MORE_S = 4.0
MOST_HOSTS = 20
_HELPER = "supervisor.doctor.app_config"
_HELPER_S = 3.0
# What a program says is a line or a few; another user's may say anything.
_MOST_LINES, _MOST_LINE_BYTES = 4, 1024 * 1024
_MOST_CHARACTERS = 500
_REAP_EVERY_S = 0.02
_readers: dict[str, TimedReader[Any]] = {}
T = TypeVar("T")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE)


async def of_tailnet(subject: Subject, peer: str = "") -> TailnetFacts:
    """Query tailscaled; ``peer`` is the host and port of the client that asks for the report."""
    tailnet = subject.plan.settings.tailnet
    if tailnet.mode == "off":
        return TailnetFacts("there is no tailnet here (SUPERVISOR_TAILSCALE=off)")
    api = LocalApi(tailnet.socket, subject.redactor.mask_text, ASK_S)
    try:
        status = await api.status()
    except LocalApiError as error:
        return TailnetFacts(str(error))
    facts = TailnetFacts(status=status)
    if status.backend_state != Backend.RUNNING:
        return facts
    # Keep the facts collected so far.
    with contextlib.suppress(LocalApiError, TimeoutError):
        async with asyncio.timeout(_MORE_S):
            facts = facts._replace(relays=await api.derp_map(), serve=(await api.serve_config()).config)
            own = await api.whois(status.ips[0]) if status.ips else None
            if own is not None and own.node is not None:
                facts = facts._replace(known_at=own.node.endpoints or ())
            found = await api.whois(peer) if peer else None
            if found is not None and found.node is not None and found.node.addresses:
                facts = facts._replace(visitor=found.node)
                facts = facts._replace(ping=await api.ping(found.node.addresses[0].partition("/")[0], ASK_S))
    return facts


class Credentials(NamedTuple):
    """The OAuth client's secret and the auth key, each None if there is none; the device logs in with the key."""

    client: Secret | None = None
    key: Secret | None = None


def credentials(subject: Subject) -> Credentials:
    """Read the credentials; an unreadable one is reported with the settings' problems."""
    tailnet = subject.plan.settings.tailnet
    found: list[Secret | None] = [None, None]
    for at, source in enumerate((tailnet.client_secret, tailnet.auth_key)):
        with contextlib.suppress(ConfigError):
            found[at] = source.read() if source is not None else None
    client, key = found
    if key is not None and is_client_secret(key.reveal()):
        return Credentials(key)
    return Credentials(client, key)


async def of_policy(subject: Subject, given: Credentials) -> TagOwners:
    """Ask Tailscale's API for the tags with owners in the tailnet's policy; an OAuth client may have access."""
    tailnet = subject.plan.settings.tailnet
    if given.client is None or not tailnet.prefs.advertise_tags:
        return TagOwners(why="only an OAuth client that may read the policy can look it up")
    try:
        return TagOwners(await OAuthClient(tailnet, subject.redactor).owned_tags(given.client))
    except (OAuthRefusedError, OAuthUnavailableError) as error:
        return TagOwners(why=str(error))


async def of_auth_key(subject: Subject, given: Credentials) -> KeyFacts:
    """Ask Tailscale's API what the auth key is good for; an OAuth client beside it may have access."""
    if given.client is None or given.key is None:
        return KeyFacts()
    client = OAuthClient(subject.plan.settings.tailnet, subject.redactor)
    try:
        return KeyFacts(await client.known_key(given.client, given.key))
    except (OAuthRefusedError, OAuthUnavailableError) as error:
        return KeyFacts(why=str(error))


async def of_programs(subject: Subject, parent: ProgramParent) -> dict[str, str]:
    """Ask the installed programs for their versions; those without an answer are left out.

    Root runs only root's programs: the settings may be invalid, so that it is unclear who else is here.
    """
    plan, asked = subject.plan, []
    if plan.tailscaled is not None and subject.tailnet.status is None:
        asked.append(("tailscaled", plan.tailscaled._replace(argv=(plan.tailscaled.argv[0], "--version"))))
    if plan.backup is not None:
        env = common_environment(subject.environ, "/", None)
        asked.append(("restic", ProcessSpec("restic", (plan.backup.program, "version"), env)))
    found = {}
    for name, spec in asked:
        try:
            why = await read_in_time(f"trust {spec.argv[0]}", partial(why_not_run, spec))
        except TimeoutError:
            continue
        if why:
            found[name] = f"not known: {why}"
            continue
        lines = await _lines_of(parent, spec._replace(name="doctor"))
        if lines:
            # `restic 0.18.1 compiled with …`
            found[name] = lines[0].removeprefix(f"{name} ").partition(" compiled")[0].strip()
    return found


async def _lines_of(parent: ProgramParent, spec: ProcessSpec) -> list[str]:
    """Return a program's output; empty if it cannot be started, or takes too long."""
    lines: list[bytes] = []

    def take(line: bytes, is_error: bool) -> None:  # noqa: FBT001
        if not is_error and len(lines) < _MOST_LINES and len(line) <= _MOST_LINE_BYTES:
            lines.append(line)

    with contextlib.suppress(TimeoutError, SpawnError):
        program = await read_in_time(spec.argv[0], partial(program_of, spec))
        async with asyncio.timeout(_HELPER_S):
            await programs.run(parent, spec._replace(argv=(program, *spec.argv[1:])), take)
    return [line.decode(errors="replace") for line in lines]


async def read_in_time(name: str, look: Callable[[], T], limit_s: float | None = None) -> T:
    """Look in a thread, in one of each name at most: its disk may hang. Raises TimeoutError."""
    reader = _readers.get(name)
    if reader is None or not reader.hangs:
        reader = _readers[name] = TimedReader(look, limit_s)
    found: T = await reader.read()
    return found


async def of_app(subject: Subject, parent: ProgramParent) -> AppFacts:
    """Read Moltis' configuration as its own user, so that a link in it reaches only what that user may read."""
    folder = subject.app_folders.get("config")
    if folder is None:
        return AppFacts("the app is not Moltis")
    user = subject.plan.app_user
    argv = (sys.executable, "-I", "-m", _HELPER, folder)
    spec = ProcessSpec("doctor", argv, common_environment(subject.environ, "/", user), user=user)
    lines = await _lines_of(parent, spec)
    told = decode_object(lines[-1]) if lines else None
    if told is None:
        return AppFacts("the app's user could not read it in time, or cannot run the supervisor's Python")
    return _app_facts(told, subject.redactor.mask_text)


def _app_facts(told: dict[str, Any], mask: Callable[[str], str]) -> AppFacts:
    """Validate the helper's output: it ran as the app's user, so it is not trusted."""
    if told.get("why_not"):
        return AppFacts(received_line(str(told["why_not"]), mask, _MOST_CHARACTERS))
    hosts = told.get("hosts")
    named = hosts.items() if isinstance(hosts, dict) else ()
    good = {
        received_line(str(name), mask, 40): host
        for name, host in named
        if isinstance(host, str) and _HOST.fullmatch(host)
    }
    return AppFacts(
        "", dict(list(good.items())[:MOST_HOSTS]), told.get("local_models") is True, told.get("missing") is True
    )


class LoneParent:
    """Replaces the engine as the helper's parent and reaper if no supervisor runs."""

    def __init__(self) -> None:
        self.launcher = kernel.launcher()
        self.reaper = Reaper()

    @contextlib.asynccontextmanager
    async def reaping(self) -> AsyncIterator[LoneParent]:
        """Reap children for the duration of a block."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._reap())
            try:
                yield self
            finally:
                task.cancel()

    async def _reap(self) -> None:
        while True:
            self.reaper.reap(_ignore)
            await asyncio.sleep(_REAP_EVERY_S)


def _ignore(_pid: int) -> None:
    """Ignore the exit of an orphan."""


def home_relay(facts: TailnetFacts) -> str:
    """Return the code of the device's home relay region."""
    node = facts.status.node if facts.status is not None else None
    return node.relay if node is not None else ""
