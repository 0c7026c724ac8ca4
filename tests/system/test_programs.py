"""Which file a command refers to, and why one cannot be run."""

from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from supervisor.core.process import ProcessSpec
from supervisor.system import spawn
from supervisor.system.spawn import NOT_EXECUTABLE, NOT_FOUND, SpawnError

if TYPE_CHECKING:
    from collections.abc import Iterator


def script(path: Path, mode: int = 0o755) -> str:
    """Create a script, and return its path."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("name", "env_path", "found"),
    [
        ("./server", "/bin", "server"),
        (".//server", "/bin", "server"),
        ("././/server", "/bin", ".//server"),
        ("sub/tool", "/bin", "sub/tool"),
        ("server", "/nowhere:", "server"),
        ("server", ".", "./server"),
        ("tool", "/nowhere:sub", "sub/tool"),
    ],
)
def test_whatever_is_relative_begins_at_the_working_directory(
    tmp_path: Path, name: str, env_path: str, found: str
) -> None:
    """As for a shell in that directory; the directory of this process does not matter."""
    script(tmp_path / "server")
    script(tmp_path / "sub/tool")
    assert spawn.find_program(name, env_path, str(tmp_path)) == str(tmp_path) + "/" + found
    with pytest.raises(SpawnError, match="no such") as caught:
        spawn.find_program(name, env_path, "/")
    assert caught.value.code == NOT_FOUND


def test_the_first_that_can_be_run_counts(tmp_path: Path) -> None:
    """As with execvp(3), one that may not be run is skipped, and reported only if there is no other."""
    first, second = script(tmp_path / "a/it", 0o644), script(tmp_path / "b/it")
    path = f"{tmp_path}/a:{tmp_path}/b"
    assert spawn.program_candidates("it", path, "/") == [first, second]
    assert spawn.find_program("it", path, "/") == second
    os.chmod(second, 0o644)
    with pytest.raises(SpawnError, match="a/it: it is not executable"):
        spawn.find_program("it", path, "/")
    os.unlink(second)
    with pytest.raises(SpawnError, match="a/it: it is not executable") as caught:
        spawn.find_program("it", path, "/")
    assert caught.value.code == NOT_EXECUTABLE


def test_a_folder_and_a_device_are_told_as_what_they_are(tmp_path: Path) -> None:
    """Neither is reported as "no such file"."""
    with pytest.raises(SpawnError, match="it is a folder"):
        spawn.find_program(str(tmp_path), "", "/")
    with pytest.raises(SpawnError, match="it is not a regular file"):
        spawn.find_program("/dev/null", "", "/")


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ("#!/bin/sh\r", "its lines end with CR LF"),
        ("#! /bin/sh\r", "its lines end with CR LF"),
        ("#!/usr/bin/env sh\r", "its lines end with CR LF"),
        ("#!/no/such/shell -e", "its first line names /no/such/shell, which does not exist"),
        ("#!\t/etc/passwd/sh", "its first line names /etc/passwd/sh, which does not exist"),
        ("#!no-such-shell", "its first line names no-such-shell, which does not exist"),
    ],
)
def test_what_a_script_lacks_is_told_and_not_that_it_does_not_exist(tmp_path: Path, first: str, why: str) -> None:
    """The kernel reports "no such file" for the script; it exists, but its interpreter does not."""
    (tmp_path / "app").write_bytes(f"{first}\necho up\r\n".encode())
    (tmp_path / "app").chmod(0o755)
    with pytest.raises(SpawnError, match=why) as caught:
        spawn.find_program("./app", "", str(tmp_path))
    assert caught.value.code == NOT_FOUND


@pytest.mark.parametrize("first", ["#!/bin/sh", "#! /bin/sh -e\r", "#!./own", "#!/usr/bin/env sh", "#!", "#!\n"])
def test_what_a_script_has_is_not_called_missing(tmp_path: Path, first: str) -> None:
    """This includes an interpreter next to it; the kernel reports anything else that is wrong."""
    script(tmp_path / "own")
    (tmp_path / "app").write_bytes(f"{first}\n".encode())
    (tmp_path / "app").chmod(0o755)
    assert spawn.find_program("./app", "", str(tmp_path)) == f"{tmp_path}/app"


def elf(loader: str, machine: bytes) -> bytes:
    """Return the head of a 64-bit program with a loader, and without code."""
    name = loader.encode() + b"\0"
    program_header = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(name), len(name), 1)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 0, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header[:18] + machine + header[20:] + program_header + name


def test_a_program_for_another_c_library_is_told_as_that(tmp_path: Path) -> None:
    """For a binary from Alpine in a Debian image, the kernel reports that the binary does not exist."""
    machine = Path(sys.executable).read_bytes()[18:20]
    program = tmp_path / "app"
    for loader, found in (("/lib/ld-musl-x86_64.so.1.none", False), (str(tmp_path / "loader"), True)):
        (tmp_path / "loader").touch()
        program.write_bytes(elf(loader, machine))
        program.chmod(0o755)
        if found:
            assert spawn.find_program(str(program), "", "/") == str(program)
        else:
            with pytest.raises(SpawnError, match=f"its loader {loader} is missing") as caught:
                spawn.find_program(str(program), "", "/")
            assert caught.value.code == NOT_FOUND
    # Whatever a head claims, it is parsed or left to the kernel.
    for broken in (elf("/x", machine)[:60], elf("/x", machine)[:80], elf("/x", machine)[:32] + b"\xff" * 40):
        program.write_bytes(broken)
        assert spawn.find_program(str(program), "", "/") == str(program)
    assert spawn.find_program("/bin/sh", "", "/") == "/bin/sh"


def test_a_disk_without_programs_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mode allows the program to be run, but its volume is mounted noexec."""
    program = script(tmp_path / "app")
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(SpawnError, match="it is not executable"):
        spawn.find_program(program, "", "/")
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_NOEXEC))
    with pytest.raises(SpawnError, match="mounted noexec"):
        spawn.find_program(program, "", "/")


@pytest.fixture
def own_machine() -> Iterator[None]:
    """Determine this interpreter's processor anew during the test and after it."""
    spawn._read_own_machine.cache_clear()
    yield
    spawn._read_own_machine.cache_clear()


@pytest.mark.usefixtures("own_machine")
@pytest.mark.parametrize("executable", [sys.executable, ""])
def test_without_proc_nothing_is_for_another_processor(monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    """If this machine's own kind is unknown, the kernel decides."""
    head = spawn._head
    monkeypatch.setattr(spawn, "_head", lambda path: b"" if path.startswith("/proc/") else head(path))
    monkeypatch.setattr(sys, "executable", executable)
    assert bool(spawn._own_machine()) == bool(executable)
    for program in (executable or "/bin/sh", "/bin/sh"):
        assert spawn.find_program(program, "", "/") == program
    monkeypatch.undo()
    # It is read anew while it is unknown.
    assert spawn._own_machine()


@pytest.mark.parametrize(
    ("registered", "runs"),
    [
        ("enabled\ninterpreter /q\nflags: F\noffset 0\nmagic {magic}\nmask {mask}\n", True),
        ("enabled\ninterpreter /q\nflags: F\noffset 0\nmagic {magic}\n", True),
        ("enabled\ninterpreter /q\nflags: F\noffset 18\nmagic 1500\n", True),
        ("disabled\ninterpreter /q\nflags: F\noffset 0\nmagic {magic}\nmask {mask}\n", False),
        ("enabled\ninterpreter /q\nflags: F\noffset 0\nmagic {other}\nmask {mask}\n", False),
        ("enabled\ninterpreter /q\nflags: \nextension .x\n", False),
        ("enabled\n", False),
    ],
)
def test_an_emulator_runs_what_it_is_registered_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    registered: str,
    runs: bool,  # noqa: FBT001 - a parameter
) -> None:
    """One for another kind of program, which any package may have registered, does not run this one."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x15\0"
    other = head[:18] + b"\xb7\0"
    program = tmp_path / "program"
    program.write_bytes(head + bytes(44))
    program.chmod(0o755)
    (tmp_path / "emulators").mkdir()
    text = registered.format(magic=head.hex(), other=other.hex(), mask="ff" * 16 + "feffffff")
    (tmp_path / "emulators/qemu").write_text(text)
    monkeypatch.setattr(spawn, "_EMULATORS", str(tmp_path / "emulators"))
    if runs:
        assert spawn.find_program(str(program), "", "/") == str(program)
    else:
        with pytest.raises(SpawnError, match="for another processor"):
            spawn.find_program(str(program), "", "/")


def test_what_is_gone_when_it_is_started_was_not_found() -> None:
    """It has its own status, as in a shell: 127, while everything else that prevents a program from running is 126."""
    spec = ProcessSpec("app", ("program",), {})
    assert spawn._explained(spec, FileNotFoundError(errno.ENOENT, "", "program")).code == NOT_FOUND
    assert spawn._explained(spec, OSError(errno.ENOEXEC, "", "program")).code == NOT_EXECUTABLE


def test_a_name_that_is_not_text_is_told_as_text(tmp_path: Path) -> None:
    """The message goes into JSON."""
    with pytest.raises(SpawnError, match=r"cannot run /\\udce9: no such file") as caught:
        spawn.find_program(os.fsdecode(b"/\xe9"), "/bin", str(tmp_path))
    assert caught.value.why.isprintable()


def test_what_the_locale_cannot_encode_is_told() -> None:
    """A TOML file in UTF-8 may contain it with a locale of ISO 8859-1; a lone surrogate stands for that here."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SpawnError, match="set LC_ALL=C") as caught:
        spawn.spawn(ProcessSpec("redis", ("true",), {"PATH": os.environ["PATH"], "PRICE": "\ud800"}), ())
    assert caught.value.code == NOT_EXECUTABLE
    assert os.listdir("/proc/self/fd") == before
