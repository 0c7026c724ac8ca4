"""What a command runs in turn: the command that a wrapper is given, a script's interpreter, an interpreter's script."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple
from supervisor.system import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# execve(2): how much of a script's first line counts.
_SHEBANG_BYTES = 256


class Call(NamedTuple):
    """A command as it is run: relative paths are based on ``cwd``, and ``env`` has the PATH that it is found in."""

    words: list[str]
    env: Mapping[str, str]
    cwd: str

    @property
    def candidates(self) -> list[str]:
        """Return the files that its first word may refer to, in order of precedence."""
        search = self.env.get("PATH", os.defpath)
        return spawn.program_candidates(self.words[0], search, self.cwd) if self.words else []


class _Options(NamedTuple):
    """The options of a program: ``short`` is as for getopt(3), ``long`` has those that take a value.

    No script follows the ``last`` of an interpreter's; the values of those in ``loads`` are paths that it loads. The
    value of those in ``apart`` is always the next word.
    """

    short: str = ""
    long: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    loads: tuple[str, ...] = ()
    apart: str = ""


_ENV = _Options("C:S:u:a:", ("chdir", "split-string", "unset", "argv0"))
# What comes after the options of these is a command.
_WRAPPERS = {
    "env": _ENV,
    "nice": _Options("n:", ("adjustment",)),
    "ionice": _Options("c:n:p:P:u:", ("class", "classdata", "pid", "pgid", "uid")),
    "timeout": _Options("k:s:", ("kill-after", "signal")),
    "stdbuf": _Options("i:o:e:", ("input", "output", "error")),
    **dict.fromkeys(("nohup", "setsid", "catatonit"), _Options()),
    **dict.fromkeys(("tini", "tini-static"), _Options("p:e:")),
    "dumb-init": _Options("r:", ("rewrite",)),
}
_SHELLS = frozenset({"ash", "bash", "csh", "dash", "ksh", "mksh", "sh", "tcsh", "zsh"})
_INTERPRETERS = {
    **dict.fromkeys(_SHELLS, _Options("", ("rcfile", "init-file"), ("c", "s"), apart="oO")),
    "fish": _Options("C:d:f:", ("init-command",), ("c", "command")),
    "node": _Options(
        "e:p:r:C:",
        ("eval", "print", "require", "import", "env-file"),
        ("e", "p", "eval", "print"),
        ("r", "require", "import", "env-file"),
    ),
    "perl": _Options("e:E:I:M::m::i::F::C::D::d::V::x::", (), ("e", "E"), ("I",)),
    **dict.fromkeys(("pypy", "python"), _Options("c:m:Q:W:X:", ("check-hash-based-pycs",), ("c", "m"))),
    "ruby": _Options("e:I:r:C:E:F:K::T::W::i::x::", (), ("e",), ("I", "r")),
}


def following(program: str, call: Call) -> Call | None:
    """Return what a command runs in turn, None if nothing; ``program`` is the file that its first word refers to."""
    interpreter = _interpreter(program)
    if interpreter:
        return call._replace(words=[*interpreter, program, *call.words[1:]])
    name = os.path.basename(program)
    if name == "env":
        return _after_env(call)
    if name not in _WRAPPERS:
        return None
    _, rest = _parse(call.words[1:], _WRAPPERS[name])
    # A duration is the first of the words after timeout's options.
    return call._replace(words=rest[name == "timeout" :])


def scripts(program: str, call: Call) -> Iterator[str]:
    """Yield the files and folders that an interpreter is given to run or load; a script also where it is missing."""
    name = os.path.basename(program).rstrip("0123456789.")
    options = _INTERPRETERS.get(name)
    if options is None:
        return
    found, rest = _parse(call.words[1:], options)
    yield from (os.path.join(call.cwd, value) for letter, value in found if letter in options.loads and "/" in value)
    if not rest or rest[0] == "-" or any(letter in options.last for letter, _ in found):
        return
    # Not every option that takes a value is known here: its value, which is no file, would be taken for the script.
    paths = [os.path.join(call.cwd, word) for word in rest]
    path = next(filter(os.path.isfile, paths), paths[0])
    yield path
    if path != paths[0] and name in {"pypy", "python"} and os.path.isdir(paths[0]):
        yield paths[0]
    if name in {"bash", "sh"} and not os.path.exists(path):
        # They search PATH for a name alone.
        for candidate in call._replace(words=rest).candidates if "/" not in rest[0] else ():
            yield candidate
            if os.path.exists(candidate):
                return


def _interpreter(program: str) -> list[str]:
    """Return the words before a script's path when the kernel runs it, empty if it is no script."""
    try:
        # Whoever may change the file may have put a pipe in its place.
        fd = os.open(program, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            first, *_ = (file.read(_SHEBANG_BYTES) or b"").split(b"\n")
    except OSError:
        return []
    if not first.startswith(b"#!"):
        return []
    # All that follows the interpreter is one word.
    named, *argument = os.fsdecode(first[2:]).strip().split(maxsplit=1) or [""]
    return [named if "/" in named else f"./{named}", *argument] if named else []


def _after_env(call: Call) -> Call:
    """Return what env(1) runs: it clears and changes variables, then the folder, whatever the order of its options."""
    found, rest = _parse(call.words[1:], _ENV, call.env)
    clears = rest[:1] == ["-"] or any(name in {"i", "ignore-environment"} for name, _ in found)
    env = {} if clears else dict(call.env)
    cwd = call.cwd
    for name, value in found:
        if name in {"u", "unset"}:
            env.pop(value, None)
        elif name in {"C", "chdir"}:
            cwd = os.path.join(call.cwd, value)
    at = int(rest[:1] == ["-"])
    while at < len(rest) and "=" in rest[at]:
        name, _, env[name] = rest[at].partition("=")
        at += 1
    return Call(rest[at:], env, cwd)


def _parse(
    words: list[str], options: _Options, env: Mapping[str, str] | None = None
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the options among arguments with their values, and the words after them.

    ``env`` is what `env --split-string` expands variables from.
    """
    found: list[tuple[str, str]] = []
    rest = list(words)
    while rest and rest[0][:1] in {"-", "+"} and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        given = list(_long(word, options, rest) if word.startswith("--") else _short(word, options, rest))
        found += given
        for name, value in given:
            if env is not None and name in {"S", "split-string"}:
                rest[:0] = _split(value, env)
    return found, rest


def _long(word: str, options: _Options, rest: list[str]) -> Iterator[tuple[str, str]]:
    name, assigns, value = word[2:].partition("=")
    # getopt_long(3) accepts abbreviations.
    valued = next((each for each in options.long if each.startswith(name)), None)
    if valued is not None and not assigns:
        value = rest.pop(0) if rest else ""
    yield valued or name, value


def _short(word: str, options: _Options, rest: list[str]) -> Iterator[tuple[str, str]]:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in options.apart:
            yield letter, rest.pop(0) if rest else ""
            continue
        _, _, after = options.short.partition(letter)
        if not after.startswith(":"):
            yield letter, ""
            continue
        attached = letters or after.startswith("::") or not rest
        yield letter, letters if attached else rest.pop(0)
        return


def _split(text: str, env: Mapping[str, str]) -> list[str]:
    """Split a text as `env --split-string` does, in all that is usual."""
    # Loaded when needed: few commands need it.
    from shlex import split

    try:
        words = split(text)
    except ValueError:
        words = text.split()
    return [re.sub(r"\$\{(\w+)\}", lambda match: env.get(match[1], ""), word) for word in words]
