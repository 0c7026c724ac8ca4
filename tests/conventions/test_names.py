"""Names are unique in the package, and imports have no cycles."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tests.conventions.tree import Module, imports, modules


def more_than_once(names: list[str]) -> set[str]:
    """Return the names that occur more than once."""
    return {name for name, count in Counter(names).items() if count > 1}


def test_no_two_files_have_the_same_name() -> None:
    """A file can be found by its name alone."""
    names = [Path(module.path).name for module in modules("supervisor") if module.path.endswith(".py")]
    assert not more_than_once(names) - {"__init__.py"}


def test_no_two_classes_have_the_same_name() -> None:
    """A class can be found by its name alone."""
    nodes = [node for module in modules("supervisor") for node in ast.walk(module.tree)]
    assert not more_than_once([node.name for node in nodes if isinstance(node, ast.ClassDef)])


def reached_from(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Return all modules that a module imports, directly or indirectly."""
    found: set[str] = set()
    left = [start]
    while left:
        new = graph[left.pop()] - found
        found |= new
        left += new
    return found


def graph_of(package: tuple[Module, ...]) -> dict[str, set[str]]:
    """Return which modules of the package each module imports, including lazily or only for types."""
    names = {module.name for module in package}
    graph = {}
    for module in package:
        found = imports(module)
        graph[module.name] = ({*found} | {name.rpartition(".")[0] for name in found}) & names - {
            module.name,
            "supervisor",
        }
    return graph


def test_no_module_leads_back_to_itself() -> None:
    """Imports have no cycles, so that a module can be read with all that it needs."""
    graph = graph_of(modules("supervisor"))
    assert not {name for name in graph if name in reached_from(name, graph)}
