"""A name stands for one thing in the package, and no two modules lead to each other."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tests.conventions.tree import Module, imports, modules


def more_than_once(names: list[str]) -> set[str]:
    """Return the names that come more than once."""
    return {name for name, count in Counter(names).items() if count > 1}


def test_no_two_files_have_the_same_name() -> None:
    """A file is found by its name alone."""
    names = [Path(module.path).name for module in modules("supervisor") if module.path.endswith(".py")]
    assert not more_than_once(names) - {"__init__.py"}


def test_no_two_classes_have_the_same_name() -> None:
    """A class is found by its name alone."""
    nodes = [node for module in modules("supervisor") for node in ast.walk(module.tree)]
    assert not more_than_once([node.name for node in nodes if isinstance(node, ast.ClassDef)])


def reached_from(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Return all that a module's imports lead to."""
    found: set[str] = set()
    left = [start]
    while left:
        new = graph[left.pop()] - found
        found |= new
        left += new
    return found


def graph_of(package: tuple[Module, ...]) -> dict[str, set[str]]:
    """Return which module imports which others of its package, lazily or for their types only too."""
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
    """Whoever reads a module with all that it needs comes to an end."""
    graph = graph_of(modules("supervisor"))
    assert not {name for name in graph if name in reached_from(name, graph)}
