"""Audits file permissions: no user may change what another user's process, root's above all, reads or runs."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from supervisor.config import command_chain
from supervisor.config.command_chain import Call
from supervisor.config.users import is_in_environment
from supervisor.namedtuples import NamedTuple
from supervisor.system import kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from supervisor.config.plan import Plan
    from supervisor.config.users import Host
    from supervisor.core.process import ProcessSpec
    from supervisor.errors import Diagnostics

_READ = 4
_WRITE = 2
_SEARCH = 1
# path_resolution(7): following more links fails with ELOOP.
_MOST_LINKS = 40
# More programs than anyone lets run each other.
_MOST_NESTED = 10
# Variables that name what to load or to trust, and what separates several paths in them: by the C library's loader,
_LOADED = {"GCONV_PATH": ":", "LD_AUDIT": ":", "LD_LIBRARY_PATH": ":;", "LD_PRELOAD": ": "}
# by what the supervisor itself uses, and gives to its children,
_TRUSTED = {
    **_LOADED,
    **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), ""),
    **dict.fromkeys(("OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES", "OTEL_EXPORTER_OTLP_CERTIFICATE"), ""),
    "SSL_CERT_DIR": ":",
}
# and by other programs.
VARIABLES = {
    **_TRUSTED,
    **dict.fromkeys(("AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO", "DENO_CERT", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"), ""),
    **dict.fromkeys(("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "HTTPLIB2_CA_CERTS", "NIX_SSL_CERT_FILE"), ""),
    **dict.fromkeys(("NPM_CONFIG_CAFILE", "npm_config_cafile", "PERL_LWP_SSL_CA_FILE", "PERL_LWP_SSL_CA_PATH"), ""),
    **dict.fromkeys(("PGSSLROOTCERT", "PIP_CERT", "RESTIC_CACERT", "VAULT_CACERT", "VAULT_CAPATH"), ""),
    **dict.fromkeys(("BASH_ENV", "WEBSOCKET_CLIENT_CA_BUNDLE", "ZDOTDIR"), ""),
    **dict.fromkeys(("NODE_PATH", "PERL5LIB", "PERLLIB", "PYTHONHOME", "PYTHONPATH", "RUBYLIB"), ":"),
}
_NULL = os.makedev(1, 3)
_TO_ROOT = "give it to root, with write access for no one else"
_OUT_OF_PATH = f"take that folder out of PATH, or {_TO_ROOT}"
_READ_BY_ROOT = "root reads"


class Person(NamedTuple):
    """A user that processes run as; ``title`` is how messages call that user."""

    title: str
    uid: int
    groups: frozenset[int]


# Whoever is not root, where it is not known which users processes run as.
_ANYONE = Person("a user other than root", -1, frozenset())


class Auditor:
    """Finds who could change a file. It caches what it has seen, so each path is looked up once."""

    def __init__(self) -> None:
        self._statuses: dict[str, os.stat_result | None] = {}
        self._steps: dict[str, tuple[str, ...]] = {}
        self._answers: dict[tuple[str, int], bool] = {}

    def changer(self, path: str, persons: tuple[Person, ...], *, wanted: bool = False) -> tuple[str, Person] | None:
        """Return the first of a path, its parents, and the targets of links among them that somebody could change.

        ``wanted`` means that a missing file would be used if it existed, so that creating it counts as a change.
        """
        steps = self._resolve(os.path.abspath(path))
        for step in steps:
            for person in persons:
                if self._may_change(step, person):
                    return step, person
        # Only the last may be missing.
        creators = (person for person in persons if self._may_create(steps[-1], person)) if wanted else ()
        return next(((steps[-1], person) for person in creators), None)

    def readable(self, path: str, person: Person) -> bool:
        """Tell whether somebody could read a file."""
        try:
            *folders, file = self._resolve(os.path.abspath(path))
            return _may(os.stat(file), person, _READ) and all(_may(os.stat(step), person, _SEARCH) for step in folders)
        except (OSError, ValueError):
            return False

    def reachable(self, folder: str, person: Person) -> bool:
        """Tell whether somebody could reach what is in a folder; false if it does not exist."""
        statuses = map(self._status, self._resolve(os.path.abspath(folder)))
        return all(status is not None and _may(status, person, _SEARCH) for status in statuses)

    def _resolve(self, path: str, links: int = 0) -> tuple[str, ...]:
        """Return every path that is passed in opening a file; the last is the file, or the first that is missing."""
        steps: tuple[str, ...] = ("/",)
        here = ""
        for name in path.split("/"):
            if name in {"", "."}:
                continue
            here = f"{here}/{name}"
            known = self._steps.get(here)
            steps = self._steps[here] = known if known is not None else self._enter(steps, name, links)
            if self._status(steps[-1]) is None:
                break
        return steps

    def _enter(self, steps: tuple[str, ...], name: str, links: int) -> tuple[str, ...]:
        if name == "..":
            return (*steps, *self._resolve(os.path.dirname(steps[-1])))
        here = os.path.join(steps[-1], name)
        status = self._status(here)
        if status is None or not stat.S_ISLNK(status.st_mode) or links == _MOST_LINKS:
            return (*steps, here)
        try:
            target = os.path.join(steps[-1], os.readlink(here))
        except OSError:
            return (*steps, here)
        return (*steps, here, *self._resolve(target, links + 1))

    def _status(self, path: str) -> os.stat_result | None:
        if path not in self._statuses:
            try:
                self._statuses[path] = os.lstat(path)
            except (OSError, ValueError):
                self._statuses[path] = None
        return self._statuses[path]

    def _may_change(self, path: str, person: Person) -> bool:
        key = (path, person.uid)
        known = self._answers.get(key)
        if known is None:
            status = self._status(path)
            known = self._answers[key] = status is not None and _may_modify(status, person) and not _read_only(path)
        return known

    def _may_create(self, path: str, person: Person) -> bool:
        folder = os.path.dirname(path)
        status = self._status(folder) if self._status(path) is None else None
        return status is not None and _may(status, person, _WRITE) and not _read_only(folder)


def _may_modify(status: os.stat_result, person: Person) -> bool:
    if stat.S_ISLNK(status.st_mode):
        # Replacing a link requires rights to its folder.
        return False
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL:
        # Many programs are given it in the place of a file; what is written to it is gone.
        return False
    if status.st_uid == person.uid or (person is _ANYONE and status.st_uid):
        return True
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        # In a sticky folder such as /tmp, the files of others are safe.
        return False
    return _may(status, person, _WRITE)


def _may(status: os.stat_result, person: Person, right: int) -> bool:
    if person is _ANYONE:
        shifts = (6 * bool(status.st_uid), 3 * bool(status.st_gid), 0)
        return any(status.st_mode >> shift & right for shift in shifts)
    shift = 6 if status.st_uid == person.uid else 3 if status.st_gid in person.groups else 0
    return bool(status.st_mode >> shift & right)


def _read_only(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


class AuditedPath(NamedTuple):
    """A path that none of these may change; ``role`` says why, as in `root reads` it. For ``wanted`` see Auditor.

    ``is_sentence`` means that the role is complete without the path.
    """

    path: str
    role: str
    persons: tuple[Person, ...]
    wanted: bool = False
    remedy: str = _TO_ROOT
    is_sentence: bool = False


def check(plan: Plan, environ: Mapping[str, str], host: Host, diags: Diagnostics) -> None:
    """As root, report files that the wrong user could change, and secrets that other users can read."""
    persons = persons_of(plan, host)
    if not persons:
        return
    auditor = Auditor()
    others = _without_tailscaled(plan, persons)
    report(_subjects(plan, environ, host, persons, others), auditor, diags)
    _check_reach(plan, others, auditor, diags)
    secrets = plan.settings.secrets
    files = [source.path for source in secrets if source.path is not None]
    if plan.settings.config_path is not None and any(
        source.path is None and not is_in_environment(source, environ) for source in secrets
    ):
        files.append(plan.settings.config_path)
    for path in files:
        readers = (person for person in others if auditor.readable(path, person))
        diags.warn(*(f"{path} can be read by {person.title}; give it mode 0400" for person in readers))


def _check_reach(plan: Plan, others: tuple[Person, ...], auditor: Auditor, diags: Diagnostics) -> None:
    """Report a socket of tailscaled's that another process reaches: everyone may read and dial through it."""
    if plan.tailscaled is None:
        return
    path, own = plan.settings.tailnet.socket, plan.tailscale_user
    folder = os.path.realpath(os.path.dirname(path))
    for closed in (plan.settings.run_dir, plan.settings.tailnet.state_dir):
        # The supervisor closes them.
        if f"{folder}/".startswith(f"{os.path.realpath(closed)}/"):
            return
    reachers = (person for person in others if own is None or person.uid != own.uid)
    person = next((person for person in reachers if auditor.reachable(folder, person)), None)
    if person is not None:
        diags.problem(
            f"have tailscaled's socket at {path}",
            f"{person.title} reaches it there, and through it the tailnet and a pending login link",
            "leave TS_SOCKET unset, name a folder that does not exist yet, or close that one to all but tailscaled's "
            "user (mode 0700)",
        )


def report(subjects: Iterable[AuditedPath], auditor: Auditor, diags: Diagnostics) -> None:
    """Report what somebody could change, each path once."""
    reported = set()
    for subject in subjects:
        found = auditor.changer(subject.path, subject.persons, wanted=subject.wanted)
        if found is not None and found[0] not in reported:
            step, person = found
            reported.add(step)
            reason = subject.role
            if not subject.is_sentence:
                on_the_way = f"it is on the way to {subject.path}, which {reason}"
                reason = f"{reason} it" if step == subject.path else on_the_way
            diags.problem(f"trust {step}", f"{reason}, and {person.title} can change it", subject.remedy)


def why_not_run(spec: ProcessSpec) -> str:
    """Return why root must not run a program, whoever else may be here; empty if it may, or if this is not root."""
    auditor = Auditor()
    for subject in programs(spec, (_ANYONE,)) if os.geteuid() == 0 else ():
        found = auditor.changer(subject.path, subject.persons, wanted=subject.wanted)
        if found is not None:
            return f"it was not run, as {found[1].title} can change {found[0]}"
    return ""


def persons_of(plan: Plan, host: Host) -> tuple[Person, ...]:
    """Return every user that processes run as, except root; none without root, as there is then one user for all."""
    if host.uid != 0:
        return ()
    named = {"the app's user": plan.app_user, "tailscaled's user": plan.tailscale_user}
    named |= {f"{spec.name}'s user": spec.user for spec in plan.processes}
    found: dict[int, Person] = {}
    for whose, user in named.items():
        if user is not None and user.uid and user.uid not in found:
            found[user.uid] = Person(f"{whose} {user.name}", user.uid, host.groups_of(user))
    return tuple(found.values())


def _without_tailscaled(plan: Plan, persons: tuple[Person, ...]) -> tuple[Person, ...]:
    """Return all but tailscaled's own user, which may change what belongs to tailscaled."""
    users = [spec.user for spec in plan.processes if spec != plan.tailscaled]
    uids = {user.uid for user in (*users, plan.app_user) if user is not None}
    return tuple(person for person in persons if person.uid in uids)


def _subjects(
    plan: Plan, environ: Mapping[str, str], host: Host, persons: tuple[Person, ...], others: tuple[Person, ...]
) -> Iterator[AuditedPath]:
    settings, tailnet = plan.settings, plan.settings.tailnet
    serve_config = tailnet.serve_config if tailnet.mode != "off" else None
    if settings.config_path is not None:
        yield AuditedPath(settings.config_path, _READ_BY_ROOT, persons)
    for path in (serve_config, *(source.path for source in settings.secrets)):
        if path is not None:
            yield AuditedPath(path, _READ_BY_ROOT, others)
    for path, wanted in _own_code().items():
        yield AuditedPath(path, _READ_BY_ROOT, persons, wanted)
    yield from _named_by_variables(_TRUSTED, environ, host.cwd, persons)
    created = {settings.run_dir: persons}
    if tailnet.mode != "off":
        created[tailnet.state_dir] = others
    if tailnet.mode == "embedded" and plan.tailscale_user != plan.app_user:
        created[tailnet.socket] = others
    for path, who in created.items():
        remedy = (
            f"{_TO_ROOT}; a volume that anyone may write to, as an emptyDir of Kubernetes, is mounted at {path} itself"
        )
        yield AuditedPath(os.path.dirname(path), f"root makes {path} in", who, remedy=remedy)
    for spec in plan.processes:
        yield from _process(spec, plan, persons)


def _process(spec: ProcessSpec, plan: Plan, persons: tuple[Person, ...]) -> Iterator[AuditedPath]:
    uid = 0 if spec.user is None else spec.user.uid
    # The app may change its own programs.
    if uid == 0 or plan.app_user is None or uid != plan.app_user.uid:
        yield from programs(spec, tuple(person for person in persons if person.uid != uid))


def _own_code() -> dict[str, bool]:
    """Return what the supervisor itself runs, and whether it would run it if it were created later.

    This is the interpreter, its module path, loaded modules, and setpriv.
    """
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    # Whoever may add a module to a folder may replace one of a later folder.
    added = (os.path.join(path, "*") for path in sys.path if path)
    return {
        **dict.fromkeys((sys.executable, *(file for file in files if file)), False),
        **dict.fromkeys((*kernel.SETPRIV_PATHS, *added), True),
    }


def _named_by_variables(
    variables: Mapping[str, str], environ: Mapping[str, str], cwd: str, persons: tuple[Person, ...]
) -> Iterator[AuditedPath]:
    for name, separators in variables.items():
        text = environ.get(name)
        for path in _paths(name, text, separators) if text else ():
            yield from _loaded(os.path.join(cwd, path), f"{name} names", persons)


def _paths(name: str, text: str, separators: str) -> Iterator[str]:
    """Yield the paths in a variable; an empty one is the working directory."""
    for separator in separators[1:]:
        text = text.replace(separator, separators[0])
    for path in text.split(separators[0]) if separators else [text]:
        # ld.so(8): a library's name alone is searched for in the system's folders, and $ORIGIN is the program's.
        if name not in _LOADED or not ("$" in path or (name in {"LD_AUDIT", "LD_PRELOAD"} and "/" not in path)):
            yield path


def _loaded(path: str, role: str, persons: tuple[Person, ...]) -> Iterator[AuditedPath]:
    """Yield a file, or a folder with the files in it, and what could be added there."""
    yield AuditedPath(path, role, persons, wanted=True)
    try:
        names = os.listdir(path)
    except (OSError, ValueError):
        return
    for file in (os.path.join(path, name) for name in (*names, "*")):
        if not os.path.isdir(file):
            yield AuditedPath(file, role, persons, wanted=True)


def programs(spec: ProcessSpec, persons: tuple[Person, ...]) -> Iterator[AuditedPath]:
    """Yield all that a command runs, where PATH is searched for it in vain, and what variables have it load."""
    call: Call | None = Call(list(spec.argv), spec.env, spec.cwd)
    for _ in range(_MOST_NESTED):
        if call is None or not call.words:
            return
        yield from _named_by_variables(VARIABLES, call.env, call.cwd, persons)
        by_path = "/" not in call.words[0]
        remedy = _OUT_OF_PATH if by_path else _TO_ROOT
        program = None
        for path in call.candidates:
            if os.path.isfile(path) and os.access(path, os.X_OK):
                program = path
                break
            role = f"PATH leads {spec.name} there first" if by_path else f"{spec.name} runs it"
            yield AuditedPath(path, role, persons, wanted=True, remedy=remedy, is_sentence=True)
        if program is None:
            return
        yield AuditedPath(program, f"{spec.name} runs", persons, remedy=remedy)
        for script in command_chain.scripts(program, call):
            yield from _loaded(script, f"{spec.name} runs", persons)
        call = command_chain.following(program, call)
