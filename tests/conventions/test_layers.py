"""Dependencies point down only; web and tailnet do not import each other; the core is pure."""

from __future__ import annotations

import ast
import graphlib

from tests.conventions.tree import imports, modules

LEAVES = frozenset({"backoff", "characters", "errors", "json_input", "moltis", "namedtuples", "secret"})
CORE = LEAVES | {"core"}
CONFIG = CORE | {"system", "config"}
RUNTIME = CORE | {"logs", "system", "runtime"}
SHOWN = RUNTIME | {"telemetry"}
# What each part of the package may import besides itself; each part must be listed.
MAY_IMPORT = {
    "backoff": frozenset({"namedtuples"}),
    "characters": frozenset[str](),
    "errors": frozenset({"characters", "secret"}),
    "namedtuples": frozenset[str](),
    "json_input": frozenset[str](),
    "moltis": frozenset({"namedtuples"}),
    "secret": frozenset[str](),
    "core": LEAVES,
    "config": CORE | {"system"},
    "logs": CORE,
    "system": CORE,
    "runtime": CORE | {"logs", "system"},
    "tailnet": RUNTIME | CONFIG,
    "backup": RUNTIME | CONFIG,
    "incidents": RUNTIME | CONFIG,
    "doctor": RUNTIME | CONFIG | {"backup", "incidents", "tailnet"},
    "telemetry": RUNTIME | CONFIG,
    "web": SHOWN | CONFIG | {"doctor"},
    "commands": SHOWN | CONFIG | {"tailnet", "web", "incidents"},
    "arguments": LEAVES,
    "client": RUNTIME | CONFIG | {"arguments", "commands", "doctor"},
    "cli": RUNTIME | CONFIG | {"arguments", "client", "commands"},
    "__main__": frozenset({"cli", "system"}),
}
# Modules that wait, read a clock, do I/O or log.
IMPURE = frozenset(
    [
        "aiohttp",
        "anyio",
        "asyncio",
        "fcntl",
        "http",
        "io",
        "json",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "structlog",
        "subprocess",
        "sys",
        "tempfile",
        "tenacity",
        "threading",
        "time",
        "urllib",
    ]
)


def part(name: str) -> str:
    """Return the part of the package that a module's name belongs to."""
    return name.split(".")[1] if "." in name else ""


def test_imports_point_down() -> None:
    """A module imports only from its own part of the package and from those below it."""
    wrong = []
    for module in modules("supervisor"):
        own = part(module.name)
        # `from supervisor import __version__` is not an import of a part.
        used = {part(name) for name in imports(module) if name.startswith("supervisor.")} - {"__version__", own}
        wrong += [f"{module.path} must not import {name}" for name in sorted(used - MAY_IMPORT.get(own, frozenset()))]
    assert not wrong


def test_no_modules_import_each_other() -> None:
    """No circle of any length, not even of imports that only types need."""
    known = {module.name for module in modules("supervisor")}
    graph = {
        module.name: {name if name in known else name.rpartition(".")[0] for name in imports(module)} - {module.name}
        for module in modules("supervisor")
    }
    # Raises CycleError, which names the modules.
    graphlib.TopologicalSorter(graph).prepare()


def test_every_part_has_its_place() -> None:
    """Each part of the package is listed among the layers."""
    assert {part(module.name) for module in modules("supervisor")} - {""} == set(MAY_IMPORT)


def test_the_package_does_not_know_its_tests() -> None:
    """The package does not import anything that is not shipped with it."""
    outside = {"tests", "benchmarks", "examples", "scripts"}
    assert not [m.path for m in modules("supervisor") if outside & {name.split(".")[0] for name in imports(m)}]


def test_the_core_is_pure() -> None:
    """The core awaits nothing, and imports nothing that waits, reads a clock, does I/O or logs."""
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    for module in modules("supervisor"):
        if part(module.name) == "core":
            assert not IMPURE & {name.split(".")[0] for name in imports(module)}
            assert not [node for node in ast.walk(module.tree) if isinstance(node, waits)]
