"""`token`: a code for the panel."""

from __future__ import annotations

import json

from tests.client.answering import answering
from tests.client.calling import call, on_terminal

CODE = {"code": "ABCDEFGHIJKLMNOPQRST", "expires_at": "2026-11-24T06:28:46.154Z", "link": "http://moltis:8080/#code=X"}


def test_the_code_alone_goes_into_a_pipe() -> None:
    """Expiry and link are shown on terminals only; programs get the API's response."""
    with answering() as supervisor:
        supervisor.given["POST /api/session/code"] = (200, CODE)
        assert call(supervisor.folder, "token") == (0, f"{CODE['code']}\n", "")
        assert json.loads(call(supervisor.folder, "token", "--json").out) == CODE
        shown = on_terminal(supervisor.folder, "token", TZ="UTC").out
        assert CODE["code"] in shown
        assert "until 06:28" in shown
        assert CODE["link"] in shown
