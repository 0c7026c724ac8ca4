"""Reads incidents from their folder, the log, and the API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.waiting import wait_until
from tests.tailnet.node import Node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.running import Run


def get(run: Run, path: str) -> Any:
    """Return the API's response over the control socket."""
    status, answer = Node(run).call("GET", path)
    assert status == 200, answer
    return answer


def recorded(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the incidents of one kind in the folder, the oldest first."""
    paths = sorted((folder / "incidents").glob(f"*-{kind}*.json")) if folder.exists() else []
    return [json.loads(path.read_text()) for path in paths]


def wait_recorded(folder: Path, kind: str, **fields: object) -> dict[str, Any]:
    """Wait until an incident of this kind with these fields is in the folder, and return it."""

    def look() -> dict[str, Any] | None:
        found = (each for each in recorded(folder, kind) if fields.items() <= each.items())
        return next(found, None)

    return wait_until(look, what=f"an incident {kind} {fields}")


def story(run: Run, kind: str) -> dict[str, Any]:
    """Wait until an incident of this kind is logged, and return its story."""
    run.wait_for("incident")

    def look() -> dict[str, Any] | None:
        return next((each["story"] for each in run.all("incident") if each["story"]["kind"] == kind), None)

    return wait_until(look, what=f"the story of an incident {kind}")
