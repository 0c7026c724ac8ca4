"""Gathers what takes asking: tailscaled by its LocalAPI, and Moltis' configuration by a helper as the app's user."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from typing import TYPE_CHECKING, Any

from supervisor.backup import programs
from supervisor.config.plan import common_environment
from supervisor.core.process import ProcessSpec
from supervisor.core.tailnet import Backend
from supervisor.doctor.subject import AppFacts, TagOwners, TailnetFacts
from supervisor.errors import ConfigError
from supervisor.json_input import decode_object
from supervisor.system import kernel
from supervisor.system.reaper import Reaper
from supervisor.system.spawn import SpawnError
from supervisor.tailnet.localapi import LocalApi, LocalApiError
from supervisor.tailnet.oauth_client import OAuthClient, OAuthRefusedError, OAuthUnavailableError, is_client_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE)


async def of_tailnet(subject: Subject, peer: str = "") -> TailnetFacts:
    """Ask tailscaled; ``peer`` is where the one who asks comes from, host and port."""
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
    # What is known by then stays known.
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


def client_secret(subject: Subject) -> Secret | None:
    """Return the OAuth client's secret, where the device logs in with one."""
    tailnet = subject.plan.settings.tailnet
    for source in (tailnet.auth_key, tailnet.client_secret):
        # One that cannot be read is among the settings' problems.
        with contextlib.suppress(ConfigError):
            secret = source.read() if source is not None else None
            if secret is not None and (source is tailnet.client_secret or is_client_secret(secret.reveal())):
                return secret
    return None


async def of_policy(subject: Subject, secret: Secret | None) -> TagOwners:
    """Ask Tailscale's API which tags the tailnet's policy has owners for; an OAuth client may be allowed to read it."""
    tailnet = subject.plan.settings.tailnet
    if secret is None or not tailnet.prefs.advertise_tags:
        return TagOwners(why="only an OAuth client that may read the policy can look it up")
    try:
        return TagOwners(await OAuthClient(tailnet, subject.redactor).owned_tags(secret))
    except (OAuthRefusedError, OAuthUnavailableError) as error:
        return TagOwners(why=str(error))


async def of_programs(subject: Subject, parent: ProgramParent) -> dict[str, str]:
    """Ask the programs that are here for their versions; what does not tell is left out."""
    plan, asked = subject.plan, []
    if plan.tailscaled is not None and subject.tailnet.status is None:
        asked.append(("tailscaled", plan.tailscaled._replace(argv=(plan.tailscaled.argv[0], "--version"))))
    if plan.backup is not None:
        env = common_environment(subject.environ, "/", None)
        asked.append(("restic", ProcessSpec("restic", (plan.backup.program, "version"), env)))
    found = {}
    for name, spec in asked:
        lines = await _lines_of(parent, spec._replace(name="doctor"))
        if lines:
            # `restic 0.18.1 compiled with …`
            found[name] = lines[0].removeprefix(f"{name} ").partition(" compiled")[0].strip()
    return found


async def _lines_of(parent: ProgramParent, spec: ProcessSpec) -> list[str]:
    """Return what a program prints; nothing where it cannot be started, or takes its time."""
    lines: list[bytes] = []

    def take(line: bytes, is_error: bool) -> None:  # noqa: FBT001
        if not is_error and len(lines) < _MOST_LINES and len(line) <= _MOST_LINE_BYTES:
            lines.append(line)

    with contextlib.suppress(TimeoutError, SpawnError):
        async with asyncio.timeout(_HELPER_S):
            await programs.run(parent, spec, take)
    return [line.decode(errors="replace") for line in lines]


async def of_app(subject: Subject, parent: ProgramParent) -> AppFacts:
    """Have Moltis' configuration read by its own user: no link in it leads further than that user may go."""
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
    return _app_facts(told)


def _app_facts(told: dict[str, Any]) -> AppFacts:
    """Take what the helper says: it ran as the app's user, so that its word is no more than a claim."""
    if told.get("why_not"):
        return AppFacts(str(told["why_not"])[:_MOST_CHARACTERS])
    hosts = told.get("hosts")
    named = hosts.items() if isinstance(hosts, dict) else ()
    good = {str(name)[:40]: host for name, host in named if isinstance(host, str) and _HOST.fullmatch(host)}
    return AppFacts("", dict(list(good.items())[:MOST_HOSTS]), told.get("local_models") is True)


class LoneParent:
    """Stands in for the engine where no supervisor runs: somebody has to wait for the helper."""

    def __init__(self) -> None:
        self.launcher = kernel.launcher()
        self.reaper = Reaper()

    @contextlib.asynccontextmanager
    async def reaping(self) -> AsyncIterator[LoneParent]:
        """Wait for children for the length of a block."""
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
    """Take an orphan's end."""


def home_relay(facts: TailnetFacts) -> str:
    """Return the code of the region that the device is reached through."""
    node = facts.status.node if facts.status is not None else None
    return node.relay if node is not None else ""
