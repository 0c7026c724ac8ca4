"""The texts looked for in tailscaled's output are in one list, which can be compared with the source of any version."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from scripts.tailscaled_texts import BUS, PATHS, relied
from supervisor.tailnet.versions import TESTED
from tests.conventions.tree import Module, modules, read

if TYPE_CHECKING:
    from collections.abc import Iterator

# The modules that read tailscaled's output, and which of the texts looked for there are not tailscaled's.
READERS: dict[str, frozenset[str]] = {
    "supervisor.tailnet.executor": frozenset({"attach", "embedded", "hostname"}),
    "supervisor.tailnet.localapi": frozenset({"etag"}),
    "supervisor.tailnet.log": frozenset({"url"}),
    "supervisor.tailnet.preferences": frozenset({"0.0.0.0/0", "::/0"}),
    "supervisor.tailnet.tailnet_service": frozenset({"attach", "lo"}),
    "supervisor.tailnet.view": frozenset({"tag not permitted", "expired", "used up", "0001-01-01", "-[0-9]{1,4}"}),
    "supervisor.tailnet.wire": frozenset(),
    "supervisor.tailnet.serve.desired": frozenset({"http", "https", "auto", "tls-terminated-tcp"}),
    "supervisor.tailnet.serve.diff": frozenset({"http", "https", "80", "443", "https:"}),
    "supervisor.tailnet.serve.publisher": frozenset({"off", "serve", "unix:"}),
    "supervisor.core.retry": frozenset({"tag not permitted", "expired", "used up"}),
    "supervisor.core.login_machine": frozenset(),
    "supervisor.core.policy": frozenset(),
}
_LOOKS = frozenset({"startswith", "endswith", "removeprefix", "removesuffix", "get", "find", "index", "count"})


def constants(module: Module) -> dict[str, ast.expr]:
    """Return the values of a module's own names."""
    found: dict[str, ast.expr] = {}
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def strings(node: ast.expr, names: dict[str, ast.expr]) -> Iterator[str]:
    """Yield the strings in an expression, and in the names that it uses."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
        elif isinstance(part, ast.Name) and part.id in names:
            yield from strings(names[part.id], {name: value for name, value in names.items() if name != part.id})


def looked_for(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions used to compare, find or extract something, or as keys of a mapping."""
    if isinstance(node, ast.Compare):
        yield from (node.left, *node.comparators)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOOKS:
        yield from node.args[:1]
    elif isinstance(node, ast.Subscript):
        yield node.slice
    elif isinstance(node, ast.Dict):
        yield from (key for key in node.keys if key is not None)
    elif isinstance(node, ast.comprehension):
        yield node.iter


def test_every_text_is_in_the_list() -> None:
    """This holds for each module that reads tailscaled's output or sends it something."""
    known = {row.text for row in relied()}
    missing = {}
    for module in modules("supervisor"):
        if module.name in READERS:
            names = constants(module)
            nodes = (part for node in ast.walk(module.tree) for part in looked_for(node))
            texts = {text for node in nodes for text in strings(node, names) if len(text) > 1}
            missing[module.name] = texts - known - READERS[module.name]
    assert {name: texts for name, texts in missing.items() if texts} == {}
    assert missing.keys() == READERS.keys()


def test_no_other_module_asks_the_local_api() -> None:
    """A module that uses its client reads tailscaled's output: it is listed above, or only passes the client on."""
    users = {module.name for module in modules("supervisor") if re.search(r"\bapi\.\w+\(", module.text)}
    handed_on = {"supervisor.tailnet.serve.certificates", "supervisor.client.control", "supervisor.doctor.facts"}
    assert users - READERS.keys() <= handed_on


def test_every_path_is_in_the_list() -> None:
    """Each request uses one of them."""
    text = next(module.text for module in modules("supervisor") if module.name == "supervisor.tailnet.localapi")
    asked = set(re.findall(r'(?:_ask|_exchange)\("[A-Z]+", f?"([\w-]+/?)', text)) | set(
        re.findall(r'f"([\w-]+)\?', text)
    )
    assert asked == {*PATHS, BUS}


def test_the_tested_version_is_the_pinned_one() -> None:
    """Messages about another version compare it with this one."""
    assert f"TAILSCALE_VERSION={TESTED}\n" in read("scripts/tailscaled.pin")
