"""Finds what a process reads or runs and somebody else could change: it would do that one's bidding, root above all."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from supervisor.config.audit import Auditor, Person
from supervisor.system import kernel, spawn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from supervisor.config.diagnostics import Report
    from supervisor.config.host import Host
    from supervisor.config.plan import Plan
    from supervisor.core.process import ProcessSpec

# execve(2): so much of a script's first line counts, and so many scripts may lead to each other.
_SHEBANG_BYTES = 256
_MOST_SCRIPTS = 5
# Interpreters, and the options after which the words are no script.
_INTERPRETERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ash", "bash", "dash", "sh"), ("-c",)),
    **dict.fromkeys(("node", "perl", "ruby"), ("-e",)),
    "python": ("-c", "-m"),
}
# Whoever may change such a file is believed, or run, by whatever is given the variable.
_NAMING = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
    *("LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD", "OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES"),
)
_TO_ROOT = "give it to root, with write access for no one else"
_OUT_OF_PATH = f"take that folder out of PATH, or {_TO_ROOT}"
_READ = "root reads"


class _Subject(NamedTuple):
    """What is not to be changed by these: ``role`` says of it that `root reads` it, or the like.

    ``wanted`` says that it is looked for where it may be missing.
    """

    path: str
    role: str
    persons: tuple[Person, ...]
    wanted: bool = False
    remedy: str = _TO_ROOT


def check(plan: Plan, environ: Mapping[str, str], host: Host, report: Report) -> None:
    """Find whoever could change what is another's, and warn of secrets that others can read; nothing but as root."""
    persons = persons_of(plan, host) if host.uid == 0 else ()
    if not persons:
        return
    auditor = Auditor()
    others = _but_tailscaled(plan, persons)
    told = set()
    for subject in _subjects(plan, environ, persons, others):
        found = auditor.changer(subject.path, subject.persons, wanted=subject.wanted)
        if found is not None and found[0] not in told:
            told.add(found[0])
            report.problem(f"trust {found[0]}", *_explained(subject, *found))
    secrets = [source.path for source in plan.settings.secrets if source.path is not None]
    if plan.settings.config_path is not None and any(
        source.path is None and source.name not in environ for source in plan.settings.secrets
    ):
        secrets.append(plan.settings.config_path)
    report.warnings += [
        f"{path} can be read by {person.title}; give it mode 0400"
        for path in secrets
        for person in others
        if auditor.readable(path, person)
    ]


def _explained(subject: _Subject, step: str, person: Person) -> tuple[str, str]:
    """Return why somebody's hand on a step of the way is a problem, and what to do."""
    why = f"{subject.role} it" if step == subject.path else f"it is on the way to {subject.path}, which {subject.role}"
    return f"{subject.role if subject.wanted else why}, and {person.title} can change it", subject.remedy


def persons_of(plan: Plan, host: Host) -> tuple[Person, ...]:
    """Return everybody but root that processes run as."""
    named = {"the app's user": plan.app_user, "tailscaled's user": plan.tailscale_user}
    named |= {f"{spec.name}'s user": spec.user for spec in plan.processes}
    found: dict[int, Person] = {}
    for whose, user in named.items():
        if user is not None and user.uid and user.uid not in found:
            found[user.uid] = Person(f"{whose} {user.name}", user.uid, host.groups_of(user))
    return tuple(found.values())


def _but_tailscaled(plan: Plan, persons: tuple[Person, ...]) -> tuple[Person, ...]:
    """Return those that may not change what is tailscaled's: a user that runs nothing else has that in any case."""
    others = {spec.user.uid for spec in plan.processes if spec.user is not None and spec != plan.tailscaled}
    others |= {plan.app_user.uid} if plan.app_user is not None else set()
    return tuple(person for person in persons if person.uid in others)


def _subjects(
    plan: Plan, environ: Mapping[str, str], persons: tuple[Person, ...], others: tuple[Person, ...]
) -> Iterator[_Subject]:
    settings, tailnet = plan.settings, plan.settings.tailnet
    serve_config = tailnet.serve_config if tailnet.mode != "off" else None
    if settings.config_path is not None:
        yield _Subject(settings.config_path, _READ, persons)
    for path in (serve_config, *(source.path for source in settings.secrets)):
        if path is not None:
            yield _Subject(path, _READ, others)
    for path in _own_code():
        yield _Subject(path, _READ, persons)
    yield from _named_files("/", environ, persons)
    made = {settings.run_dir: persons}
    if tailnet.mode != "off":
        made[tailnet.state_dir] = others
    if tailnet.mode == "embedded" and plan.tailscale_user != plan.app_user:
        made[tailnet.socket] = others
    for path, who in made.items():
        yield _Subject(os.path.dirname(path), f"root makes {path} in", who)
    for spec in plan.processes:
        uid = 0 if spec.user is None else spec.user.uid
        # The app may do with its own programs what it wants.
        if uid == 0 or plan.app_user is None or uid != plan.app_user.uid:
            strangers = tuple(person for person in persons if person.uid != uid)
            yield from _programs(spec, strangers)
            yield from _named_files(spec.cwd, spec.env, strangers)


def _own_code() -> Iterable[str]:
    """Return what root runs: this interpreter, where it looks for modules, the modules it has, and the launcher."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    folders = (path for path in sys.path if path)
    return dict.fromkeys([sys.executable, *kernel.SETPRIV_PATHS, *folders, *(file for file in files if file)])


def _named_files(cwd: str, environ: Mapping[str, str], persons: tuple[Person, ...]) -> Iterator[_Subject]:
    """Yield the certificates and libraries that variables name."""
    for name in _NAMING:
        for path in environ.get(name, "").replace(" ", ":").split(":"):
            if path:
                yield _Subject(os.path.join(cwd, path), f"{name} names", persons)


def _programs(spec: ProcessSpec, persons: tuple[Person, ...]) -> Iterator[_Subject]:
    """Yield each program that a process's command runs, and where it is looked for before it is found."""
    words, search = list(spec.argv), spec.env.get("PATH", os.defpath)
    for _ in range(_MOST_SCRIPTS):
        program = None
        remedy = _OUT_OF_PATH if words and "/" not in words[0] else _TO_ROOT
        for path in spawn.program_candidates(words[0], search, spec.cwd) if words else ():
            if os.path.isfile(path) and os.access(path, os.X_OK):
                program = path
                break
            role = f"{spec.name} runs it" if "/" in words[0] else f"PATH leads {spec.name} there first"
            yield _Subject(path, role, persons, wanted=True, remedy=remedy)
        if program is None:
            return
        yield _Subject(program, f"{spec.name} runs", persons, remedy=remedy)
        script = _script_given(program, words[1:], spec.cwd)
        if script:
            yield _Subject(script, f"{spec.name} runs", persons)
        words = _led_to(program, words[1:])


def _led_to(program: str, arguments: list[str]) -> list[str]:
    """Return the command that a program leads to in its turn: env's, or a script's interpreter."""
    try:
        with open(program, "rb", buffering=0) as file:
            first, *_ = file.read(_SHEBANG_BYTES).split(b"\n")
    except OSError:
        first = b""
    if first.startswith(b"#!"):
        return os.fsdecode(first[2:]).split()
    if os.path.basename(program) != "env":
        return []
    return [word for word in arguments if not word.startswith("-") and "=" not in word]


def _script_given(program: str, arguments: list[str], cwd: str) -> str | None:
    """Return the script that an interpreter is given as a word."""
    last_options = _INTERPRETERS.get(os.path.basename(program).rstrip("0123456789."), ())
    for word in arguments if last_options else ():
        if word in last_options:
            return None
        path = os.path.join(cwd, word)
        if not word.startswith("-") and os.path.isfile(path):
            return path
    return None
