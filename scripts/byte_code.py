"""Compiles only what the image loads: `python -I byte_code.py FOLDER`, in the image's own interpreter.

Byte code of the supervisor and its libraries is written beside them; that of Python's own modules, if missing,
is written below FOLDER at its final path.
"""

from __future__ import annotations

import ast
import contextlib
import pkgutil
import py_compile
import sys
import sysconfig
from importlib import import_module
from pathlib import Path

import supervisor

# Loads its own modules when they are first used.
LAZY = "anyio"
# Loaded by name at run time.
CODECS = ("ascii", "cp437", "idna", "latin_1", "punycode", "utf_8_sig")


def main() -> None:
    """Load all modules that the supervisor's modules import anywhere, then compile everything that is loaded."""
    ours = Path(supervisor.__file__).parent
    names = {f"encodings.{name}" for name in CODECS}
    for path in ours.rglob("*.py"):
        names.add(".".join(path.relative_to(ours.parent).with_suffix("").parts))
        names |= imported(path)
    names |= {found.name for found in pkgutil.walk_packages(import_module(LAZY).__path__, f"{LAZY}.")}
    for name in sorted(names):
        # A module that is not installed belongs to an extra that was not requested.
        with contextlib.suppress(ImportError):
            import_module(name)
    compile_loaded(Path(sys.argv[1]))


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def compile_loaded(folder: Path) -> None:
    """Write the byte code of all modules that are loaded now."""
    libraries = Path(sysconfig.get_path("purelib"))
    for module in list(sys.modules.values()):
        source, cached = getattr(module, "__file__", None), getattr(module, "__cached__", None)
        if not source or not cached or not source.endswith(".py"):
            continue
        if libraries in Path(source).parents:
            # Unchecked: no file time is compared at the start, and copying does not invalidate it.
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(source, cfile=cached, dfile=source, doraise=True, invalidation_mode=mode)
        elif not Path(cached).exists():
            # Checked, as Debian's own: an upgrade of Python in the image replaces the source.
            target = folder / Path(cached).relative_to("/")
            mode = py_compile.PycInvalidationMode.TIMESTAMP
            py_compile.compile(source, cfile=str(target), dfile=source, doraise=True, invalidation_mode=mode)


if __name__ == "__main__":
    main()
