"""The page of spans documents everything that is sent."""

from __future__ import annotations

import ast
import re

from supervisor.telemetry.spans import (
    CONNECT,
    DISCONNECT,
    MAINTENANCE,
    RESTART,
    RESTORE,
    SERVE,
    SNAPSHOT,
    SPAWN,
    STOP,
)
from tests.conventions.tree import ROOT, modules

NAME = re.compile(r"(?:supervisor|process|http|url|error|service)(?:\.[a-z_]+)+")
SENDERS = ("supervisor.telemetry.spans", "supervisor.web.app")


def test_every_span_and_attribute_has_its_line() -> None:
    """The names in the code are on the page, and the page has no others."""
    page = (ROOT / "docs/reference/tracing.md").read_text()
    texts = {
        node.value
        for module in modules("supervisor")
        if module.name in SENDERS
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    spans = {SPAWN, STOP, RESTART, CONNECT, DISCONNECT, SERVE, SNAPSHOT, RESTORE, MAINTENANCE}
    attributes = {text for text in texts if NAME.fullmatch(text)}
    assert len(attributes) > 15
    told = set(re.findall(r"`([a-z_.]+)`", page))
    assert not (spans | attributes) - told
    assert (
        not {name for name in told if NAME.fullmatch(name)} - attributes - spans - {"service.name", "service.version"}
    )
