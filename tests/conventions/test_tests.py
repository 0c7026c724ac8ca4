"""Tests have docstrings, and each package has tests."""

from __future__ import annotations

import ast

from tests.conventions.tree import modules, tracked

LONGEST_TURN_S = 0.05
PACKAGES = sorted({path.split("/")[1] for path in tracked() if path.startswith("supervisor/") and path.count("/") > 1})


def test_every_package_has_tests() -> None:
    """The tests of a package are in the folder with its name."""
    paths = tracked()
    assert not {name for name in PACKAGES if not any(path.startswith(f"tests/{name}/test_") for path in paths)}


def test_every_test_says_what_it_is_about() -> None:
    """Each test has a docstring of one line."""
    tests = [
        (module.path, node.name, ast.get_docstring(node) or "")
        for module in modules("tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert not [(path, name) for path, name, said in tests if len(said.splitlines()) != 1]


def is_nap(node: ast.AST) -> bool:
    """Return whether this is a call of sleep for longer than is needed to let others run."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func) not in {"time.sleep", "asyncio.sleep", "anyio.sleep"}:
        return False
    length_s = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    return not isinstance(length_s, int | float) or length_s > LONGEST_TURN_S


def test_no_test_takes_a_nap() -> None:
    """A test waits for what it needs, up to a deadline: a fixed pause is too long here and too short elsewhere."""
    tests = [module for module in modules("tests") if module.name.split(".")[-1].startswith("test_")]
    assert not [(module.path, ast.unparse(node)) for module in tests for node in ast.walk(module.tree) if is_nap(node)]
