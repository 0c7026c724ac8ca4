"""`check`: reads every setting and shows what `run` would do, or everything that keeps it from starting."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from supervisor.core.model import HttpProbe
from supervisor.errors import EX_CONFIG, ConfigError
from supervisor.logs.redact import Redactor
from supervisor.plan.build import resolve
from supervisor.secret import REDACTED
from supervisor.settings.table import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from supervisor.core.model import ProcessSpec
    from supervisor.plan.model import Plan


def check(environ: Mapping[str, str], config: str | None, out: TextIO, err: TextIO) -> int:
    """Write the plan to ``out`` and return 0, or every problem to ``err`` and return 78."""
    try:
        plan = resolve(environ, config=config)
    except ConfigError as error:
        err.writelines(f"problem: {problem}\n" for problem in error.problems)
        count = len(error.problems)
        err.write(f"\n{count} {'problem' if count == 1 else 'problems'}: nothing would be started\n")
        return EX_CONFIG
    redactor = Redactor(source.read().reveal() for source in plan.settings.secrets)
    out.writelines(f"{redactor.mask_text(line)}\n" for line in describe(plan))
    return 0


def describe(plan: Plan) -> Iterator[str]:
    """Yield the plan as lines for people; no secret is in it."""
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
        yield from _process(spec)
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


def _process(spec: ProcessSpec) -> Iterator[str]:
    yield f"process {spec.name}"
    yield f"  command       {shlex.join(spec.argv)}"
    user = f"{spec.user.name} ({spec.user.uid})" if spec.user is not None else "the supervisor's own"
    yield f"  user          {user}, in {spec.cwd}"
    yield f"  environment   {' '.join(sorted(spec.env))}"
    yield f"  restart       {spec.restart.value}{', critical' if spec.critical else ''}"
    if spec.after:
        yield f"  after         {', '.join(spec.after)}"
    if spec.probe is not None:
        asked = (
            spec.probe.url if isinstance(spec.probe, HttpProbe) else f"a connection to {':'.join(map(str, spec.probe))}"
        )
        yield f"  ready when    {asked} answers"
