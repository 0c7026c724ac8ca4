"""The repository for the conventions' tests: its tracked files, and its code, parsed."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("supervisor", "tests", "benchmarks", "examples", "scripts")


class Module(NamedTuple):
    """A Python file: its path from the root, its name for imports, its text and its syntax tree."""

    path: str
    name: str
    text: str
    tree: ast.Module


@cache
def tracked() -> tuple[str, ...]:
    """Return the paths of all tracked files, from the root."""
    # The checkout may belong to another user: git only has to list it, not to trust it.
    words = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return tuple(path for path in listed if path and (ROOT / path).is_file())


def read(path: str) -> str:
    """Return the text of a tracked file, whatever its bytes."""
    return (ROOT / path).read_text(errors="replace")


def is_python(path: str) -> bool:
    """Return whether a file is Python, by its name or its first line."""
    if path.endswith(".py"):
        return True
    return "." not in Path(path).name and read(path).split("\n", 1)[0].startswith("#!") and "python" in read(path)[:80]


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Return the Python files of these folders; by default, of all code."""
    found = []
    for path in tracked():
        if path.split("/", 1)[0] in (folders or CODE_FOLDERS) and is_python(path):
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            text = read(path)
            found.append(Module(path, name, text, ast.parse(text, path)))
    return tuple(found)


def imports(module: Module) -> list[str]:
    """Return the names of all modules that a module imports, including lazily or only for types."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found
