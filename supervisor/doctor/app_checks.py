"""Checks the app: its program and state, the place of its data, its model providers, and recent incidents."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.core.backup import COMPONENT as BACKUP
from supervisor.core.health import CREDENTIALS, EXPOSURE, PASS, TAILNET, assess
from supervisor.core.incidents import ERROR
from supervisor.core.process import State
from supervisor.doctor.finding import Check, split_remedy
from supervisor.incidents.incident_files import FOLDER
from supervisor.logs.format import stamp
from supervisor.system import cgroup, kernel, spawn
from supervisor.system.mounts import is_kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.core.incidents import Incident
    from supervisor.core.snapshot import IncidentsView
    from supervisor.doctor.finding import Diagnosis
    from supervisor.doctor.network_probes import TlsSeen
    from supervisor.doctor.subject import Subject

_MIB = 1024 * 1024
PROGRAM = Check(
    "app",
    "program",
    "each process's program, by its PATH",
    "a program that is missing, or built for another processor, cannot be started",
    "reference/processes.md",
)
PROCESS = Check(
    "app",
    "process",
    "each process, as /health sees it",
    "a process that does not run answers nobody",
    "reference/processes.md",
)
VOLUME = Check(
    "app",
    "volume",
    "whether the folders with lasting data are volumes",
    "a folder inside the container is lost with it: the device's identity, the app's data",
    "explanation/app-platform.md",
)
CONFIG = Check(
    "app",
    "moltis-config",
    "moltis.toml, read as the app's user",
    "it names the model providers, and says whether models run here",
    "how-to/find-what-is-wrong.md",
)
MODELS = Check(
    "app",
    "local-models",
    "local models, compared with the memory limit",
    "a model takes more memory than everything else: at the limit the kernel kills the app",
    "how-to/find-what-is-wrong.md",
)
PROVIDERS = Check(
    "app",
    "providers",
    "the hosts of the model providers that Moltis' configuration names (a TLS handshake on port 443)",
    "an assistant that cannot reach its model cannot answer",
    "how-to/find-what-is-wrong.md",
)
INCIDENTS = Check("incidents", "incidents", "recent failures", "they may recur", "reference/incidents.md")
CHECKS = (PROGRAM, PROCESS, VOLUME, CONFIG, MODELS, PROVIDERS, INCIDENTS)
_MODELS_NEED_BYTES = 1024 * _MIB
_MORE_MEMORY = "give the container 2 GiB or more, or remove the local models in Moltis' settings"
_OTHERS = frozenset({TAILNET, BACKUP, EXPOSURE, CREDENTIALS})
_MOST_INCIDENTS = 5
_A_DAY_S = 24 * 3600.0


def findings(subject: Subject) -> Iterator[Diagnosis]:
    """Yield the findings about the app."""
    yield from _programs(subject)
    yield from _processes(subject)
    yield from _volumes(subject)
    yield from _moltis(subject)
    yield from _incidents(subject)


def _programs(subject: Subject) -> Iterator[Diagnosis]:
    for spec in subject.plan.processes:
        try:
            yield PROGRAM.ok(f"{spec.name}: {spawn.program_of(spec)}")
        except spawn.SpawnError as error:
            why, remedy = split_remedy(error.why, "install it in the image, or correct its command")
            yield PROGRAM.problem(f"{spec.name}: {why}", remedy)


def _processes(subject: Subject) -> Iterator[Diagnosis]:
    if subject.snapshot is None:
        return
    for part in assess(subject.snapshot, subject.now_s).components:
        if part.name in _OTHERS:
            continue
        told = f"{part.name}: {part.why or part.state}"
        view = subject.snapshot.process(part.name)
        if part.status == PASS:
            yield PROCESS.ok(told)
        elif view is not None and view.state is State.INACTIVE:
            yield PROCESS.note(told, f"start it: `moltis-supervisor start {part.name}`")
        else:
            yield PROCESS.problem(told, f"read its lines: `moltis-supervisor logs --process {part.name}`")


def _volumes(subject: Subject) -> Iterator[Diagnosis]:
    settings, tailnet = subject.plan.settings, subject.plan.settings.tailnet
    folders = dict(subject.app_folders)
    if tailnet.mode == "embedded" and not tailnet.in_memory and tailnet.ephemeral is not True:
        folders["TS_STATE_DIR"] = tailnet.state_dir
    for name, path in folders.items():
        if is_kept(path):
            yield VOLUME.ok(f"{path} ({name}) outlives the container")
        elif settings.backup is not None:
            yield VOLUME.ok(f"{path} ({name}) is in the container, and is restored from the backups")
        else:
            yield VOLUME.problem(
                f"{path} ({name}) is in the container, or in memory", "mount a volume there, or switch on backups"
            )


def _moltis(subject: Subject) -> Iterator[Diagnosis]:
    if not subject.app_folders:
        return
    facts, limit = subject.app, cgroup.memory().limit
    if facts.why_not:
        yield CONFIG.problem(facts.why_not, "fix moltis.toml: `moltis config check` says where")
        return
    there = "there is none, so Moltis' defaults apply; the providers' keys name" if facts.missing else "it names"
    yield CONFIG.ok(f"{there} {len(facts.hosts)} hosts of model providers")
    if facts.local_models and limit is not None and limit < _MODELS_NEED_BYTES:
        yield MODELS.problem(
            f"there are some, and the limit is {limit // _MIB} MiB",
            _MORE_MEMORY,
        )
    elif facts.local_models and limit is None and kernel.is_gvisor():
        yield MODELS.note("there are some, and gVisor shows no memory limit, though there may be one", _MORE_MEMORY)
    else:
        yield MODELS.ok("there are some" if facts.local_models else "there are none")
    for name, host in facts.hosts.items():
        yield _provider(name, host, subject.network.providers.get(host))


def _provider(name: str, host: str, seen: TlsSeen | None) -> Diagnosis:
    told = f"{name} ({host})"
    if seen is None:
        return PROVIDERS.problem(f"{told}: no answer in time", "allow outgoing connections to it on port 443")
    if seen.private:
        return PROVIDERS.note(
            f"{told} has no public address, and was not contacted", "try it from the container yourself"
        )
    if seen.untrusted:
        return PROVIDERS.problem(f"{told}: {seen.untrusted}", "exempt that host from TLS inspection")
    if seen.why:
        return PROVIDERS.problem(
            f"{told}: {seen.why}", "allow outgoing connections to it on port 443, and check its name"
        )
    return PROVIDERS.ok(f"{told} can be reached")


def _incidents(subject: Subject) -> Iterator[Diagnosis]:
    view = subject.snapshot.incidents if subject.snapshot is not None else subject.kept_incidents
    found = [*_end_of_run(subject.last_end), *_not_kept(view), *_errors(subject, view.known)]
    yield from found or [INCIDENTS.ok("no errors within a day")]


def _end_of_run(end: Incident | None) -> Iterator[Diagnosis]:
    if end is not None and end.level == ERROR:
        yield INCIDENTS.problem(
            f"the last run ended badly: {_story(end)}", "fix what the incidents before it report, and start it again"
        )


def _not_kept(view: IncidentsView) -> Iterator[Diagnosis]:
    if view.why_not:
        yield INCIDENTS.problem(
            f"they are not stored, and are lost with the container: {view.why_not}",
            "make room in that folder, or let the supervisor's user write there",
        )
    if view.unread:
        yield INCIDENTS.note(
            f"cannot be read: {', '.join(view.unread)}",
            "run this as the supervisor's user; broken files may be removed",
        )


def _errors(subject: Subject, known: tuple[Incident, ...]) -> Iterator[Diagnosis]:
    end = subject.last_end
    # Of like ones the last; it says how many there were.
    alike: dict[tuple[str, ...], list[Incident]] = {}
    for each in known:
        if each.level == ERROR and each.at_s >= subject.epoch_s - _A_DAY_S and (end is None or each.id != end.id):
            words = (each.what, each.why, each.cause)
            alike[words] = [*alike.pop(words, []), each]
    for group in list(alike.values())[-_MOST_INCIDENTS:]:
        yield INCIDENTS.note(_story(group[-1], sum(each.times for each in group)), _where(subject, group[-1]))


def _story(incident: Incident, times: int = 1) -> str:
    often = f" ({times} times)" if times > 1 else ""
    words = (f"{stamp(incident.last_s or incident.at_s)}: {incident.what}{often}", incident.why, incident.cause)
    return "; ".join(filter(None, words))


def _where(subject: Subject, incident: Incident) -> str:
    """Return where to read an incident's story."""
    if subject.snapshot is not None:
        return "read its story in the panel, or in `moltis-supervisor logs --process supervisor`"
    return f"read its story in {os.path.join(subject.plan.state_folder, FOLDER, f'{incident.id}.json')}"
