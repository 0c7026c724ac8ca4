"""Lists the files that a command runs, with those that wrappers and interpreters among its words run in turn."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple
from supervisor.system import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# execve(2): how much of a script's first line counts.
_SHEBANG_BYTES = 256
# More commands than anyone has run each other; the kernel allows for five scripts.
_MOST_NESTED = 40
# Programs that run the first program among their arguments; options and their values are before it.
_WRAPPERS = frozenset(
    (
        *("env", "nice", "ionice", "chrt", "taskset", "numactl", "prlimit", "choom", "timeout", "nohup", "setsid"),
        *("stdbuf", "unbuffer", "tini", "tini-static", "dumb-init", "catatonit", "chroot", "unshare", "nsenter"),
        *("setpriv", "runuser", "su", "sudo", "doas", "gosu", "su-exec", "setuidgid", "envdir", "envuidgid"),
        *("softlimit", "chpst", "s6-setuidgid", "s6-envdir", "s6-softlimit"),
    )
)
# Of these, those that take variables or programs from a folder; the others may take it as the working directory.
_RULED_BY_FOLDER = ("chroot", "chpst", "envdir", "s6-envdir")
# Those that run it as the user named first, or by an option; as root if there is none.
_BY_FIRST_WORD = ("gosu", "su-exec", "setuidgid", "s6-setuidgid")
_BY_OPTION = {**dict.fromkeys(("runuser", "sudo", "doas", "chpst"), ("-u", "--user")), "setpriv": ("--reuid",)}
_ROOT = ("root", "0", "+0")
# Programs that are what their first argument says.
_MANY_IN_ONE = ("busybox", "toybox")
_SPLITTING = re.compile(r"(?:^|(?<=\s))(?:-[a-z0]*S|--split-string)=?")
_PLAIN_PATH = re.compile(r"[\w./+@%-]*/[\w./+@%-]*")
_OPTION = re.compile(r"-[^=/]*=?")


class _Interpreter(NamedTuple):
    """``loads``: options with a file to load; ``instead``: options that no script follows."""

    loads: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    takes_script: bool = True


_SHELL = _Interpreter(("--rcfile", "--init-file"), ("-c",))
_NODE = _Interpreter(("-r", "--require", "--import", "--loader", "--experimental-loader"), ("-e", "--eval", "-p"))
_AWK = _Interpreter(("-f", "--file"), takes_script=False)
_MAKE = _Interpreter(("-f", "--file", "--makefile", "-C", "--directory"), takes_script=False)
_INTERPRETERS = {
    **dict.fromkeys(("ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "zsh"), _SHELL),
    **dict.fromkeys(("bun", "node", "nodejs"), _NODE),
    **dict.fromkeys(("python", "pypy"), _Interpreter(instead=("-c", "-m"))),
    **dict.fromkeys(("perl", "ruby"), _Interpreter(("-I", "-r"), ("-e",))),
    **dict.fromkeys(("deno", "lua", "luajit"), _Interpreter(instead=("-e",))),
    **dict.fromkeys(("tclsh", "wish", "guile"), _Interpreter(instead=("-c",))),
    "php": _Interpreter(("-c", "-f"), ("-r",)),
    "Rscript": _Interpreter(instead=("-e",)),
    "expect": _Interpreter(("-f",), ("-c",)),
    "java": _Interpreter(("-jar", "-cp", "-classpath", "--class-path", "-javaagent:"), takes_script=False),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk", "sed"), _AWK),
    **dict.fromkeys(("make", "gmake"), _MAKE),
}


class File(NamedTuple):
    """A file that is run or loaded; ``by_path`` if PATH leads there.

    ``is_missing`` means that it is not there, or not fit to run, so that whoever creates it is who has it run.
    """

    path: str
    by_path: bool = False
    is_missing: bool = False


class _Command(NamedTuple):
    """A command. ``scripts`` are those met so far; ``depth`` is how many commands led to this one."""

    words: Sequence[str]
    search: str
    cwd: str
    scripts: set[str]
    depth: int = 0


def files(words: Sequence[str], search: str, cwd: str) -> Iterator[File]:
    """Yield each file that a command runs in a working directory, and where PATH is searched for one in vain."""
    return _run(_Command(words, search, cwd, set()))


def _run(command: _Command) -> Iterator[File]:
    if not command.words or command.depth > _MOST_NESTED:
        return
    by_path = "/" not in command.words[0]
    program = None
    for path in spawn.program_candidates(command.words[0], command.search, command.cwd):
        if _is_executable(path):
            program = path
            break
        yield File(path, by_path, is_missing=True)
    if program is None:
        return
    yield File(program, by_path)
    first_line = _first_line(program)
    inner = command._replace(words=command.words[1:], depth=command.depth + 1)
    if first_line.startswith(b"#!") and program not in command.scripts:
        command.scripts.add(program)
        yield from _run(inner._replace(words=os.fsdecode(first_line[2:]).split()))
    yield from _run_by(os.path.basename(program), inner)


def _run_by(name: str, rest: _Command) -> Iterator[File]:
    """Yield what a program of this name runs and loads because of its arguments."""
    if name in _MANY_IN_ONE and rest.words:
        name, rest = rest.words[0], rest._replace(words=rest.words[1:])
    if _user(name, rest.words) not in _ROOT:
        return
    interpreter = _INTERPRETERS.get(name.rstrip("0123456789."))
    if name in _WRAPPERS:
        yield from _wrapped(name, rest)
        return
    if interpreter is not None:
        yield from _loaded(interpreter, rest)
    for word in rest.words:
        # An unknown program may be a wrapper too; data may be executable, as everything is on some file systems.
        path = _named(word, rest.cwd)
        if _is_executable(path) and _first_line(path).startswith((b"#!", b"\x7fELF")):
            yield File(path)


def _wrapped(name: str, rest: _Command) -> Iterator[File]:
    """Yield what a wrapper runs: the first program among its arguments, and what could become one before that."""
    words, search, cwd = _split(rest.words) if name == "env" else rest.words, rest.search, rest.cwd
    bare, has_path = [], False
    for number, word in enumerate(words):
        variable, assigns, value = word.partition("=")
        path, is_option = _named(word, cwd), word.startswith("-")
        inner = rest._replace(words=words[number:], search=search, cwd=cwd)
        if assigns and variable.isidentifier():
            search = value if variable == "PATH" else search
        elif is_option and ("/" not in word or not os.path.exists(path)):
            continue
        elif any(map(_is_executable, spawn.program_candidates(word, search, cwd))):
            yield from _run(inner)
            return
        elif os.path.isdir(path):
            cwd = path
            if name in _RULED_BY_FOLDER:
                yield File(path)
        elif "/" in word:
            has_path = has_path or not is_option
            yield _file(cwd, path)
        else:
            bare.append(inner)
    for inner in () if has_path else bare:
        yield from _run(inner)


def _user(name: str, words: Sequence[str]) -> str:
    """Return the user that a program changes to before it runs another; root if it does not."""
    if name in _BY_FIRST_WORD and words:
        return words[0].partition(":")[0]
    for word, following in zip(words, (*words[1:], "root"), strict=False):
        option, _, value = word.partition("=")
        if option in _BY_OPTION.get(name, ()):
            return (value or following).partition(":")[0]
    return "root"


def _split(words: Sequence[str]) -> Sequence[str]:
    """Return env's arguments, with what follows its option -S taken apart."""
    line = " ".join(words)
    return _SPLITTING.sub(" ", line).split() if _SPLITTING.search(line) else words


def _loaded(interpreter: _Interpreter, rest: _Command) -> Iterator[File]:
    """Yield the script among an interpreter's arguments, and what its options load."""
    previous = ""
    for number, word in enumerate(rest.words):
        option = next((option for option in interpreter.loads if word.startswith(option)), None)
        loaded = word if previous in interpreter.loads else word[len(option) :].lstrip("=") if option else ""
        if loaded:
            yield from (_file(rest.cwd, part) for part in loaded.split(":") if part)
        elif word.startswith("-") and any(_is_option(word, option) for option in interpreter.instead):
            given = rest.words[number + 1 : number + 2]
            if interpreter is _SHELL and given and _PLAIN_PATH.fullmatch(given[0]):
                yield from _run(rest._replace(words=given))
            return
        elif interpreter.takes_script and not word.startswith("-"):
            script = _file(rest.cwd, word)
            yield script
            if not script.is_missing:
                return
        previous = word


def _is_option(word: str, option: str) -> bool:
    """Tell whether a word is this option, maybe with others before it, as in ``-ec``."""
    return word == option or (len(option) == len("-c") and bool(re.fullmatch(f"-[a-z]*{option[1]}", word)))


def _named(word: str, cwd: str) -> str:
    """Return the path that an argument is, or that an option of the form ``--option=path`` or ``-o/path`` has."""
    return os.path.join(cwd, _OPTION.sub("", word, count=1) if word.startswith("-") else word)


def _file(cwd: str, name: str) -> File:
    path = os.path.join(cwd, name)
    return File(path, is_missing=not os.path.exists(path))


def _is_executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _first_line(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_SHEBANG_BYTES).split(b"\n")[0]
    except OSError:
        return b""
