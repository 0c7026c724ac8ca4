"""Audits file permissions: no user may change what another user's process, root's above all, reads or runs."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple
from supervisor.system import kernel, spawn

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
# execve(2): how much of a script's first line counts; and more programs than anyone lets run each other.
_SHEBANG_BYTES = 256
_MOST_NESTED = 10
# Wrappers, and their options that a value follows; what comes after all of these is a command.
_WRAPPERS: dict[str, tuple[str, ...]] = {
    "env": ("-u", "--unset", "-C", "--chdir"),
    "nice": ("-n", "--adjustment"),
    "ionice": ("-c", "--class", "-n", "--classdata"),
    "timeout": ("-s", "--signal", "-k", "--kill-after"),
    "stdbuf": ("-i", "--input", "-o", "--output", "-e", "--error"),
    **dict.fromkeys(("nohup", "setsid", "catatonit"), ()),
    **dict.fromkeys(("tini", "tini-static"), ("-p", "-e")),
    "dumb-init": ("-r", "--rewrite"),
}
# Interpreters, and their options that no script follows.
_INTERPRETERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ash", "bash", "dash", "sh"), ("-c",)),
    **dict.fromkeys(("node", "perl", "ruby"), ("-e",)),
    "python": ("-c", "-m"),
}
# Variables that name certificates to trust and libraries to load.
_PATH_VARIABLES = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
    *("LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD", "OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES"),
)
_TO_ROOT = "give it to root, with write access for no one else"
_OUT_OF_PATH = f"take that folder out of PATH, or {_TO_ROOT}"
_READ_BY_ROOT = "root reads"


class Person(NamedTuple):
    """A user that processes run as; ``title`` is how messages call that user."""

    title: str
    uid: int
    groups: frozenset[int]


class Auditor:
    """Finds who could change a file. It caches what it has seen, so each path is looked up once."""

    def __init__(self) -> None:
        self._statuses: dict[str, os.stat_result | None] = {}
        self._steps: dict[str, tuple[str, ...]] = {}
        self._answers: dict[tuple[str, int], bool] = {}

    def changer(self, path: str, persons: tuple[Person, ...], *, wanted: bool = False) -> tuple[str, Person] | None:
        """Return the first of a path, its parents, and the targets of links among them that somebody could change.

        ``wanted`` means that a program is searched for there, so that creating a missing file counts as a change.
        """
        for step in self._resolve(os.path.abspath(path)):
            for person in persons:
                if self._may_change(step, person) or (wanted and self._may_create(step, person)):
                    return step, person
        return None

    def readable(self, path: str, person: Person) -> bool:
        """Tell whether somebody could read a file."""
        try:
            *folders, file = self._resolve(os.path.abspath(path))
            return _may(os.stat(file), person, _READ) and all(_may(os.stat(step), person, _SEARCH) for step in folders)
        except (OSError, ValueError):
            return False

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
    if status.st_uid == person.uid:
        return True
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        # In a sticky folder such as /tmp, the files of others are safe.
        return False
    return _may(status, person, _WRITE)


def _may(status: os.stat_result, person: Person, right: int) -> bool:
    shift = 6 if status.st_uid == person.uid else 3 if status.st_gid in person.groups else 0
    return bool(status.st_mode >> shift & right)


def _read_only(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


class _Subject(NamedTuple):
    """A path that none of these may change; ``role`` says why, as in `root reads` it. For ``wanted`` see Auditor."""

    path: str
    role: str
    persons: tuple[Person, ...]
    wanted: bool = False
    remedy: str = _TO_ROOT


def check(plan: Plan, environ: Mapping[str, str], host: Host, diags: Diagnostics) -> None:
    """As root, report files that the wrong user could change, and secrets that other users can read."""
    persons = persons_of(plan, host) if host.uid == 0 else ()
    if not persons:
        return
    auditor = Auditor()
    others = _without_tailscaled(plan, persons)
    reported = set()
    for subject in _subjects(plan, environ, persons, others):
        found = auditor.changer(subject.path, subject.persons, wanted=subject.wanted)
        if found is not None and found[0] not in reported:
            step, person = found
            reported.add(step)
            reason = subject.role
            if not subject.wanted:
                on_the_way = f"it is on the way to {subject.path}, which {reason}"
                reason = f"{reason} it" if step == subject.path else on_the_way
            diags.problem(f"trust {step}", f"{reason}, and {person.title} can change it", subject.remedy)
    secrets = plan.settings.secrets
    files = [source.path for source in secrets if source.path is not None]
    if plan.settings.config_path is not None and any(
        source.path is None and source.name not in environ for source in secrets
    ):
        files.append(plan.settings.config_path)
    for path in files:
        readers = (person for person in others if auditor.readable(path, person))
        diags.warn(*(f"{path} can be read by {person.title}; give it mode 0400" for person in readers))


def persons_of(plan: Plan, host: Host) -> tuple[Person, ...]:
    """Return every user except root that processes run as."""
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
    plan: Plan, environ: Mapping[str, str], persons: tuple[Person, ...], others: tuple[Person, ...]
) -> Iterator[_Subject]:
    settings, tailnet = plan.settings, plan.settings.tailnet
    serve_config = tailnet.serve_config if tailnet.mode != "off" else None
    if settings.config_path is not None:
        yield _Subject(settings.config_path, _READ_BY_ROOT, persons)
    for path in (serve_config, *(source.path for source in settings.secrets)):
        if path is not None:
            yield _Subject(path, _READ_BY_ROOT, others)
    for path in _own_code():
        yield _Subject(path, _READ_BY_ROOT, persons)
    yield from _named_by_variables("/", environ, persons)
    created = {settings.run_dir: persons}
    if tailnet.mode != "off":
        created[tailnet.state_dir] = others
    if tailnet.mode == "embedded" and plan.tailscale_user != plan.app_user:
        created[tailnet.socket] = others
    for path, who in created.items():
        remedy = (
            f"{_TO_ROOT}; a volume that anyone may write to, as an emptyDir of Kubernetes, is mounted at {path} itself"
        )
        yield _Subject(os.path.dirname(path), f"root makes {path} in", who, remedy=remedy)
    for spec in plan.processes:
        uid = 0 if spec.user is None else spec.user.uid
        # The app may change its own programs.
        if uid == 0 or plan.app_user is None or uid != plan.app_user.uid:
            strangers = tuple(person for person in persons if person.uid != uid)
            yield from _programs(spec, strangers)
            yield from _named_by_variables(spec.cwd, spec.env, strangers)


def _own_code() -> Iterable[str]:
    """Return what the supervisor itself runs: the interpreter, its module path, loaded modules, and setpriv."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    folders = (path for path in sys.path if path)
    return dict.fromkeys([sys.executable, *kernel.SETPRIV_PATHS, *folders, *(file for file in files if file)])


def _named_by_variables(cwd: str, environ: Mapping[str, str], persons: tuple[Person, ...]) -> Iterator[_Subject]:
    for name in _PATH_VARIABLES:
        for path in environ.get(name, "").replace(" ", ":").split(":"):
            if path:
                yield _Subject(os.path.join(cwd, path), f"{name} names", persons)


def _programs(spec: ProcessSpec, persons: tuple[Person, ...]) -> Iterator[_Subject]:
    """Yield each program that a command runs, and where PATH is searched for it in vain."""
    words, search = list(spec.argv), spec.env.get("PATH", os.defpath)
    for _ in range(_MOST_NESTED):
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
        script = _script(program, words[1:], spec.cwd)
        if script:
            yield _Subject(script, f"{spec.name} runs", persons)
        words, search = _next_command(program, words[1:], search)


def _next_command(program: str, arguments: list[str], search: str) -> tuple[list[str], str]:
    """Return the command that a program runs in turn, a script's interpreter or what a wrapper is given, and PATH."""
    try:
        # Whoever may change the file may have put a pipe in its place.
        fd = os.open(program, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            first, *_ = (file.read(_SHEBANG_BYTES) or b"").split(b"\n")
    except OSError:
        first = b""
    if first.startswith(b"#!"):
        return os.fsdecode(first[2:]).split(), search
    return _wrapped(os.path.basename(program), arguments, search)


def _wrapped(name: str, arguments: list[str], search: str) -> tuple[list[str], str]:
    """Return the command among a wrapper's arguments, empty if there is none, and the PATH that it is found in."""
    valued = _WRAPPERS.get(name)
    folder, at = "", 0
    while valued is not None and at < len(arguments):
        word = arguments[at]
        option, assigns, value = word.partition("=")
        if word in valued:
            at += 1
            value = "".join(arguments[at : at + 1])
        elif not word.startswith("-") and not (name == "env" and assigns):
            break
        if option in {"-C", "--chdir"}:
            folder = value
        elif option == "PATH":
            search = value
        at += 1
        if word == "--":
            break
    # A duration is the first of the words after timeout's options.
    words = arguments[at + (name == "timeout") :] if valued is not None else []
    if folder and words and "/" in words[0]:
        words[0] = os.path.join(folder, words[0])
    return words, search


def _script(program: str, arguments: list[str], cwd: str) -> str | None:
    """Return the script among an interpreter's arguments."""
    without_script = _INTERPRETERS.get(os.path.basename(program).rstrip("0123456789."), ())
    for word in arguments if without_script else ():
        if word in without_script:
            return None
        path = os.path.join(cwd, word)
        if not word.startswith("-") and os.path.isfile(path):
            return path
    return None
