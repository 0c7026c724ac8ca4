"""Checks of the API that schemathesis lacks, for what the OpenAPI document cannot express."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import schemathesis

if TYPE_CHECKING:
    from schemathesis import Case, CheckContext, Response


@schemathesis.check
def a_wrong_frame_is_refused_in_the_frame(_context: CheckContext, response: Response, case: Case[Any]) -> None:
    """An invalid frame is refused in the response; the HTTP status does not show it."""
    if case.path == "/api/rpc" and response.status_code == 200 and case.meta and case.meta.generation.mode.is_negative:
        assert response.json()["ok"] is False, "a wrong frame was accepted"


@schemathesis.check
def only_what_excludes_each_other_is_refused(_context: CheckContext, response: Response, case: Case[Any]) -> None:
    """A valid query for the log is refused only if it combines ``after`` and ``last``."""
    if case.path == "/api/logs" and response.status_code == 400 and case.meta and case.meta.generation.mode.is_positive:
        assert {"after", "last"} <= case.query.keys(), "a right query was refused"
