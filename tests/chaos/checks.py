"""The conditions that must hold after every round: each check returns the violations."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from typing import TYPE_CHECKING

from supervisor.core.health import FLAPPING_FAILURES
from tests.chaos.client import APP, WRITERS
from tests.chaos.sight import MARK, Use
from tests.chaos.spy import leaks as leaked
from tests.chaos.surroundings import Backups, Deploy
from tests.chaos.world import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.world import World

# How much memory a supervisor may use beyond that after its first round: the log's buffer and history.
MOST_GROWTH_BYTES = 40 * 1024 * 1024
# Some are started when they are first needed, and stay.
MOST_MORE_THREADS = 3
_DEFECTS = frozenset({"internal error", "service crashed", "impossible event ignored", "request failed"})
_AT_REST = frozenset({"inactive", "ended", "failed"})
_UNFOLLOWED = frozenset({"starting", "tailscaled down", "restoring", "standby", "held"})
_ENDING = frozenset({"stopping", "quitting", "killing", "cleaning"})
# States of health's components in which a process lives.
_UNREADY = frozenset({"starting", "not ready"})
_ALIVE = _UNREADY | {"running", "flapping"}
# Variables that only the supervisor gets.
_PRIVATE = "SUPERVISOR_"
# Answers with much that could contain a secret.
_URLS = (
    *("/health", "/metrics", "/api/processes", "/api/logs", "/api/incidents", "/api/backups"),
    "/api/tailscale/status",
)
_MOST_FILE_BYTES = 4 * 1024 * 1024


def use(world: World) -> Use:
    """Return the supervisor's current resources."""
    return Use(*world.sight.use(world.pid))


def zombies(world: World) -> list[str]:
    """Return the children that have exited and were not reaped."""
    return world.sight.zombies(world.pid)


def untruths(world: World) -> list[str]:
    """Return what the API reports wrongly about processes."""
    try:
        processes = world.processes()
    except OSError as error:
        return [f"the API does not answer: {error!r}"]
    found = []
    for name, each in processes.items():
        if name == "looper":
            continue
        if each["state"] != "running":
            found.append(f"{name} is {each['state']}")
        elif world.pid_of(name) != world.outer(each["pid"]):
            found.append(f"{name} is reported as {each['pid']} and is {world.pid_of(name)}")
    return found


def unlooped(world: World, since: int) -> list[str]:
    """Return a problem if the process that always fails was not started again after record number ``since``."""
    found = world.output.find("started", since, child="looper")
    return [] if found else ["looper is not started again"]


def health(world: World) -> list[str]:
    """Return how /health and /readyz contradict the kernel."""
    before = {name: world.pid_of(name) for name in WRITERS}
    try:
        status, body = world.health("/health")
        ready, _ = world.health("/readyz")
    except OSError as error:
        return [f"health does not answer: {error!r}"]
    if before != {name: world.pid_of(name) for name in WRITERS}:
        return ["the processes change"]
    parts = {name: part for name, (part, *_) in body["checks"].items()}
    told = {name: parts[name]["observedValue"] for name in WRITERS}
    found = [
        f"/health calls {name} {told[name]}, and its pid is {pid}"
        for name, pid in before.items()
        if (pid is not None) != (told[name] in _ALIVE)
    ]
    fails = [name for name, part in parts.items() if part["status"] == "fail"]
    wants = 503 if fails else 200
    if (status, ready) != (wants, wants):
        found.append(f"/health answers {status} and /readyz {ready}, and {fails or 'nothing'} fails")
    # A start that fails counts too, and is followed by another one.
    ends = Counter(record["message"] for record in world.output.records if record.get("child") == APP)
    flaps = told[APP] == "flapping" and max(ends["exited"], ends["will be restarted"]) >= FLAPPING_FAILURES
    if told[APP] in _UNREADY:
        found.append(f"the app is {told[APP]}")
    if before[APP] is None and APP not in fails:
        found.append("/health passes without the app")
    if before[APP] is not None and fails and not (fails == [APP] and flaps):
        found.append(f"{fails} fail in {parts}")
    return found


def unfollowed(world: World) -> list[str]:
    """Return why the supervisor may not follow tailscaled yet: it has fewer descriptors then."""
    if world.around.way is None:
        return []
    try:
        state = world.ask("/api/tailscale/status")["state"]
    except OSError as error:
        return [f"the API does not answer: {error!r}"]
    return [f"the tailnet is {state}"] if state in _UNFOLLOWED else []


def orders(world: World) -> list[str]:
    """Return the processes whose state contradicts their last order."""
    if not world.ordered:
        return []
    try:
        processes = world.processes()
    except OSError as error:
        return [f"the API does not answer: {error!r}"]
    found = []
    for name, verb in world.ordered.items():
        state = processes[name]["state"]
        if (state not in _AT_REST) if verb == "stop" else (state in _AT_REST | _ENDING):
            found.append(f"{name} is {state} after the order to {verb}, which was accepted")
    return found


def leaks(world: World) -> list[str]:
    """Return resources that have grown since the first round."""
    if world.baseline is None:
        return []
    now, then = use(world), world.baseline
    # The connection to tailscaled that stays may come a moment after the state is known.
    followed = world.around.way is not None
    found = []
    if now.files > then.files + followed or now.pipes > then.pipes + world.sight.hidden_pipes:
        found.append(f"descriptors: {now.files}+{now.pipes} after {then.files}+{then.pipes}")
    if now.threads > then.threads + MOST_MORE_THREADS:
        found.append(f"threads: {now.threads} after {then.threads}")
    if now.memory_bytes > then.memory_bytes + MOST_GROWTH_BYTES:
        found.append(f"memory: {now.memory_bytes} after {then.memory_bytes}")
    return found


def secrets(world: World) -> list[str]:
    """Return where a secret has leaked: to a process that it is not meant for, a file, or an answer of the API."""
    found = [*world.spied]
    for pid in world.sight.below(world.pid):
        found += leaked(world.sight, pid, SECRETS) or []
        names = world.sight.environment(pid)
        found += [f"{names[MARK]!r} was given {name}" for name in names if MARK in names and name.startswith(_PRIVATE)]
    words = world.sight.words(world.pid)
    found += [f"a secret on the command line {words!r}"] if any(secret in words for secret in SECRETS) else []
    for path in world.disk.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_size < _MOST_FILE_BYTES:
                content = path.read_bytes()
                found += [f"a secret in {path}" for secret in SECRETS if secret.encode() in content]
    for url in _URLS:
        # A busy one is asked again after the next round.
        with contextlib.suppress(OSError):
            text = world.text(url)
            found += [f"a secret in the answer to {url}" for secret in SECRETS if secret in text]
    return found


def files(world: World, note: str) -> list[str]:
    """Return persistent files that are damaged; ``note`` is the content that a snapshot had to restore."""
    found = []
    for path in [*world.disk.rglob("*.json"), *world.disk.rglob("tailscaled.state")]:
        with contextlib.suppress(FileNotFoundError):
            try:
                json.loads(path.read_bytes())
            except ValueError:
                found.append(f"{path.name} is not whole: {path.read_bytes()[:200]!r}")
    kept = world.folder / ".moltis" / "note"
    if note and (not kept.exists() or kept.read_text() != note):
        found.append(f"the note {note} has not come back: {kept.read_text() if kept.exists() else 'there is none'}")
    return found


def rows(world: World, wanted: Mapping[str, int]) -> list[str]:
    """Return how many rows that were acknowledged to earlier lives of the app are missing."""
    there = world.rows()
    found = {life: count - there.get(life, 0) for life, count in wanted.items()}
    return [f"{gone} of {wanted[life]} rows of the life {life} are gone" for life, gone in found.items() if gone > 0]


def device(world: World) -> list[str]:
    """Return problems with the one device that all containers are in turn."""
    around = world.around
    if not isinstance(around, Deploy) or around.control is None:
        return []
    status = {}
    with contextlib.suppress(OSError):
        status = world.ask("/api/tailscale/status")
    nodes = {node["key"]: node["addresses"] for node in around.control.order("nodes")}
    found = [key for key in nodes if key not in around.lost]
    if around.device and found != [around.device]:
        return [f"the device {around.device} has become {found}"]
    # Before, tailscaled may not know of a key that control has registered: it makes another one then.
    if status.get("tailscale_up"):
        ours = [key for key in found if status["tailscale_ip"] in nodes[key]]
        if len(ours) != 1:
            return [f"none of the devices {nodes} has its address {status['tailscale_ip']}"]
        if around.unsure:
            around.lost |= {*found} - {*ours}
            found = ours
        around.device, around.unsure = ours[0], False
    return [f"there are {len(found)} devices"] if len(found) > 1 and not around.unsure else []


def writers(world: World) -> list[str]:
    """Return snapshots that are not those of one instance after the other; call it when no other container runs."""
    around = world.around
    if not isinstance(around, Backups):
        return []
    snapshots = around.snapshots()
    history = around.history
    found = [
        f"the snapshot {key} of the generation {each.generation} came after those of {history.generation}"
        for key, each in snapshots.items()
        if key not in history.known and each.generation < history.generation
    ]
    history.known |= {*snapshots}
    history.generation = max([history.generation, *(each.generation for each in snapshots.values())])
    instances: dict[int, str] = {}
    numbers = set()
    for key, each in snapshots.items():
        if instances.setdefault(each.generation, each.instance) != each.instance:
            found.append(f"the generation {each.generation} has snapshots of two instances, one is {key}")
        if (each.generation, each.sequence) in numbers:
            found.append(f"{each.generation}.{each.sequence} is the number of two snapshots, one is {key}")
        numbers.add((each.generation, each.sequence))
    return found


def defects(world: World) -> list[str]:
    """Return records of the supervisor that must never occur, and its standard error."""
    found = [
        f"{record['message']}: {record.get('why')} {record.get('traceback', '')}"
        for record in world.output.records
        # If there is no free descriptor, a module is loaded later.
        if record["message"] in _DEFECTS and "Too many open files" not in str(record.get("why"))
    ]
    errors = world.errors()
    return found + ([f"standard error: {errors[-2000:]}"] if errors else [])
