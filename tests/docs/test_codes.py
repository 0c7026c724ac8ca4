"""The exit codes and API paths in the code are in the reference."""

from __future__ import annotations

import ast
import re

import msgspec

from tests.conventions.tree import modules, read


def test_every_exit_code_is_documented() -> None:
    """A constant named EX_… is an exit code, and is in the table or the section on `run` of the commands' page."""
    page = read("docs/reference/commands.md")
    codes = {
        node.value.value
        for module in modules("supervisor")
        for node in module.tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("EX_")
        if isinstance(node.value, ast.Constant)
    }
    assert {64, 69, 70, 75, 76, 77, 78} <= codes
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    run = page.partition("## `run`")[2].partition("\n## ")[0]
    assert not [code for code in codes if code not in told and str(code) not in run]
    assert all(str(code) in run for code in (126, 127))


def test_every_path_in_the_openapi_document_has_its_place_on_the_page() -> None:
    """The page for people mentions each path of the OpenAPI document."""
    page = read("docs/reference/api.md")
    document = msgspec.json.decode(read("docs/reference/openapi.json"))
    missing = []
    for path in document["paths"]:
        base, _, last = path.rpartition("/")
        if path not in page and f"`…/{last}`" not in page.partition(f"{base}/")[2]:
            missing.append(path)
    assert not missing
