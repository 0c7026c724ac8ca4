"""`check --json`: the plan, for programs."""

from __future__ import annotations

import io
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from supervisor.commands.check import check
from supervisor.tailnet.versions import TESTED
from tests.logs.ignorable import IGNORABLE, SELECTORS

if TYPE_CHECKING:
    from pathlib import Path

# A secret that is written differently in JSON: masking must come before encoding.
TOKEN = 'a-"long"-token-that-is-\\quoted'


def document(environ: dict[str, str]) -> tuple[int, str, dict[str, Any]]:
    """Return the exit code, the output, and its decoded JSON."""
    out, err = io.StringIO(), io.StringIO()
    code = check({"PATH": os.environ["PATH"], "HOME": "/root", **environ}, None, out, err, as_json=True)
    assert err.getvalue() == ""
    return code, out.getvalue(), json.loads(out.getvalue())


def test_the_plan() -> None:
    """It has commands, users, names of variables, and ports; no secret appears anywhere."""
    code, text, plan = document(
        {"SUPERVISOR_TOKEN": TOKEN, "SUPERVISOR_APP_COMMAND": f"moltis '{TOKEN}'", "PORT": "8111"}
    )
    app = next(process for process in plan["processes"] if process["name"] == "moltis")
    assert (code, plan["problems"], plan["listen"]) == (0, [], "*:8111")
    assert app["command"] == ["moltis", "[redacted]", "--bind", "127.0.0.2", "--port", "13131", "--no-tls"]
    assert app["critical"]
    assert "PORT" in app["environment"]
    assert plan["secrets"] == {"SUPERVISOR_TOKEN": "[redacted]"}
    assert TOKEN not in text
    assert json.dumps(TOKEN)[1:-1] not in text


def test_problems() -> None:
    """All are listed, and the exit code is 78."""
    code, _text, plan = document({"PORT": "x", "TS_TAGS": "y"})
    assert code == 78
    assert len(plan["problems"]) == 2
    assert list(plan) == ["problems"]


def test_a_program_is_shown_as_the_file_it_stands_for() -> None:
    """If there is no such file, the warning has the same words as a failed start."""
    _code, _text, plan = document({"SUPERVISOR_TAILSCALE": "off", "SUPERVISOR_APP_COMMAND": "sh"})
    assert plan["processes"][0]["program"] == shutil.which("sh")
    _code, _text, plan = document({"SUPERVISOR_TAILSCALE": "off", "SUPERVISOR_APP_COMMAND": "./no-such"})
    assert plan["processes"][0]["program"] is None
    assert any("moltis would not start: cannot run ./no-such: no such file in" in text for text in plan["warnings"])


def test_nothing_from_outside_reaches_the_terminal_raw(tmp_path: Path) -> None:
    """Escape sequences, line ends and invisible characters in a command, path or variable are made visible."""
    odd = "\x1b[2J\nproblem: none\u202e\u200b\u034f\u115f\u3164\ufff0\U000e0100"
    folder = tmp_path / f"run{odd}"
    plans = (
        {"SUPERVISOR_APP_COMMAND": f"sh -c 'echo {odd}'", f"NAME{odd}": "x", "HOME": "/root"},
        {"SUPERVISOR_RUN_DIR": str(folder)},
        {"SUPERVISOR_CONFIG": str(folder), "PORT": odd},
    )
    for environ in plans:
        out, err = io.StringIO(), io.StringIO()
        check({"PATH": os.environ["PATH"], "HOME": "/root", **environ}, None, out, err)
        text = out.getvalue() + err.getvalue()
        assert "\\x1b[2J" in text
        assert all(character == "\n" or character.isprintable() for character in text)
        assert (IGNORABLE - SELECTORS).isdisjoint(map(ord, text))
        assert "\nproblem: none" not in text


def test_a_tailscaled_that_was_never_tried_is_noted(tmp_path: Path) -> None:
    """Its --version decides; a tested version, or one that prints none, is not noted."""
    program = tmp_path / "tailscaled"
    for said, noted in (("1.999.1-t0123", True), (TESTED, False), ("", False)):
        program.write_text(f"#!/bin/sh\n[ \"$*\" = --version ] && echo '{said}'\n")
        program.chmod(0o755)
        _code, _text, plan = document({"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert any("tailscaled 1.999.1 was not tested" in text for text in plan["notices"]) == noted, said
