"""Checks of the API that schemathesis does not have, for what the document cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import schemathesis

if TYPE_CHECKING:
    from schemathesis import Case, CheckContext, Response


@schemathesis.check
def a_wrong_frame_is_refused_in_the_frame(_context: CheckContext, response: Response, case: Case[Any]) -> None:
    """The status of a frame says nothing about what is in it."""
    if case.path == "/api/rpc" and response.status_code == 200 and case.meta and case.meta.generation.mode.is_negative:
        assert response.json()["ok"] is False, "a wrong frame was accepted"


@schemathesis.check
def only_what_excludes_each_other_is_refused(_context: CheckContext, response: Response, case: Case[Any]) -> None:
    """A right query for the log is refused for one reason alone."""
    if case.path == "/api/logs" and response.status_code == 400 and case.meta and case.meta.generation.mode.is_positive:
        assert {"after", "last"} <= case.query.keys(), "a right query was refused"
