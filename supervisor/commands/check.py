"""`check`: reads all settings and shows what `run` would do, or everything that prevents the start."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from supervisor.characters import printable
from supervisor.commands.version import tailscaled_version
from supervisor.config.build import resolve
from supervisor.config.plan import TAILSCALED, Address
from supervisor.config.settings import SETTINGS
from supervisor.core.process import HttpProbe
from supervisor.errors import EX_CONFIG, ConfigError
from supervisor.logs.received import each_text
from supervisor.logs.redact import Redactor
from supervisor.secret import REDACTED
from supervisor.system import spawn
from supervisor.tailnet.versions import untried

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from supervisor.config.plan import Plan
    from supervisor.core.process import ProcessSpec, TcpProbe


def check(environ: Mapping[str, str], config: str | None, out: TextIO, err: TextIO, *, as_json: bool = False) -> int:
    """Write the plan to ``out`` and return 0, or all problems to ``err`` and return 78.

    With ``as_json`` the result is one object on ``out`` in both cases.
    """
    try:
        plan = resolve(environ, config=config)
    except ConfigError as error:
        count = len(error.problems)
        if as_json:
            out.write(_dump({"problems": error.problems}))
        else:
            err.writelines(f"problem: {printable(problem)}\n" for problem in error.problems)
            err.write(f"\n{count} {'problem' if count == 1 else 'problems'}: nothing would be started\n")
        return EX_CONFIG
    plan, found = _with_programs(plan)
    redactor = Redactor(source.read().reveal() for source in plan.settings.secrets)
    if as_json:
        out.write(_dump(each_text(document(plan, found), redactor.mask_text)))
    else:
        # A command, a path or a variable's name may contain control characters or newlines.
        out.writelines(f"{printable(redactor.mask_text(line))}\n" for line in describe(plan, found))
    return 0


def _with_programs(plan: Plan) -> tuple[Plan, dict[str, str]]:
    """Return the plan with a warning for each missing program, and the paths of the others by process.

    A version of tailscaled that was not tested gets a note.
    """
    found, warnings, notices = {}, [], list(plan.notices)
    for spec in plan.processes:
        try:
            found[spec.name] = spawn.program_of(spec)
        except spawn.SpawnError as error:
            warnings.append(f"{spec.name} would not start: {error.why}")
            continue
        if spec.name == TAILSCALED:
            notices += filter(None, [untried(tailscaled_version(found[spec.name], spec.user))])
    return plan._replace(warnings=(*plan.warnings, *warnings), notices=tuple(notices)), found


def document(plan: Plan, found: Mapping[str, str]) -> dict[str, Any]:
    """Return the plan for programs, without reading secrets."""
    settings, tailnet = plan.settings, plan.settings.tailnet
    return {
        "problems": [],
        "warnings": plan.warnings,
        "notices": plan.notices,
        "run_dir": settings.run_dir,
        "listen": str(plan.listen),
        "app_address": None if plan.app_address is None else str(plan.app_address),
        "serve_target": plan.serve_target,
        "stop_timeout_s": settings.stop_timeout_s,
        "log": {"format": settings.log.format, "history_lines": settings.log.history_lines},
        "tailnet": {
            "mode": tailnet.mode,
            "hostname": tailnet.prefs.hostname,
            "socket": tailnet.socket,
            "state_dir": None if tailnet.in_memory else tailnet.state_dir,
        },
        "secrets": {source.name: source.path or REDACTED for source in settings.secrets},
        "given": _given(plan),
        "processes": [_process_document(spec, found.get(spec.name)) for spec in plan.processes],
    }


def describe(plan: Plan, found: Mapping[str, str]) -> Iterator[str]:
    """Yield the plan as lines for people, without secrets."""
    settings = plan.settings
    yield f"run folder      {settings.run_dir}"
    yield f"listens on      {plan.listen}   (/healthz /readyz /health)"
    if plan.app_address is not None:
        yield f"app listens on  {plan.app_address}"
    yield f"tailnet         {_tailnet(plan)}"
    yield f"stop            within {settings.stop_timeout_s:g} s"
    yield f"log             {settings.log.format}, {settings.log.history_lines} lines remembered"
    for source in settings.secrets:
        yield f"secret          {source.name}: {f'from {source.path}' if source.path else REDACTED}"
    yield f"settings given  {', '.join(sorted(_given(plan))) or 'none'}"
    for spec in plan.processes:
        yield ""
        yield from _process(spec, found.get(spec.name))
    for kind, texts in (("warning", plan.warnings), ("note", plan.notices)):
        for number, text in enumerate(texts):
            yield from [""] * (number == 0)
            yield f"{kind}: {text}"


def _given(plan: Plan) -> list[str]:
    return [row.name for row in SETTINGS if row.name in plan.settings.given]


def _tailnet(plan: Plan) -> str:
    tailnet = plan.settings.tailnet
    if tailnet.mode == "off":
        return "off"
    where = f"as {tailnet.prefs.hostname}, socket {tailnet.socket}"
    if tailnet.mode == "attach":
        return f"attached to a sidecar's tailscaled, {where}"
    kept = "state in memory" if tailnet.in_memory else f"state in {tailnet.state_dir}"
    leads = f"serve leads to {plan.serve_target}" if plan.serve_target else "nothing is served"
    return f"embedded, {where}, {kept}, {leads}"


def _process_document(spec: ProcessSpec, program: str | None) -> dict[str, Any]:
    return {
        "name": spec.name,
        "command": spec.argv,
        "program": program,
        "user": None if spec.user is None else spec.user.name,
        "cwd": spec.cwd,
        "environment": spec.variables,
        "restart": spec.restart.value,
        "critical": spec.critical,
        "after": spec.after,
        "ready_when": None if spec.probe is None else _asked(spec.probe),
    }


def _process(spec: ProcessSpec, program: str | None) -> Iterator[str]:
    yield f"process {spec.name}"
    yield f"  command       {shlex.join(spec.argv)}"
    if program is not None:
        yield f"  program       {program}"
    user = f"{spec.user.name} ({spec.user.uid})" if spec.user is not None else "the supervisor's own"
    yield f"  user          {user}, in {spec.cwd}"
    yield f"  environment   {' '.join(spec.variables)}"
    yield f"  restart       {spec.restart.value}{', critical' if spec.critical else ''}"
    if spec.after:
        yield f"  after         {', '.join(spec.after)}"
    if spec.probe is not None:
        yield f"  ready when    {_asked(spec.probe)} answers"


def _asked(probe: HttpProbe | TcpProbe) -> str:
    return probe.url if isinstance(probe, HttpProbe) else f"a connection to {Address(*probe)}"


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
