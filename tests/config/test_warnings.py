"""Warnings of the plan: it starts, and something will not work as intended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.config.machine import IMAGE, plan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"SUPERVISOR_TAILSCALE": "off"}, "no one can reach the app"),
        ({"PORT": "80"}, "which serve uses"),
        ({"TS_SOCKS5_SERVER": "127.0.0.1:1055"}, "open door"),
        ({"SUPERVISOR_APP_BIND": "127.0.0.1"}, "every tailnet peer"),
        ({"SUPERVISOR_TOKEN": "short"}, "can be guessed"),
        ({"SUPERVISOR_PORT": "1234"}, "no effect"),
        ({"TS_EXTRA_ARGS": "--shields-up"}, "no peer reaches"),
        ({"SUPERVISOR_TAILSCALE": "off", "SUPERVISOR_APP": "off"}, "nothing to run"),
        ({"SUPERVISOR_TAILSCALE": "off", "TS_DEBUG_MTU": "1"}, "TS_DEBUG_MTU has no effect"),
        (
            {"SUPERVISOR_TAILSCALE": "attach", "TS_SOCKET": "/ts/s.sock", "TS_LOG_VERBOSITY": "1"},
            "TS_LOG_VERBOSITY has no effect",
        ),
        ({"SUPERVISOR_APP_HUNG": "1m", "SUPERVISOR_APP_HEALTH_URL": ""}, "SUPERVISOR_APP_HUNG has no effect"),
        ({"SUPERVISOR_TAILSCALE": "off", "SUPERVISOR_APP": "off", "SUPERVISOR_APP_PORT": "80"}, "neither an app nor"),
        (
            {
                "SUPERVISOR_ALERT_URL": "https://a.example/x",
                "SUPERVISOR_ALERT_FORMAT": "slack",
                "SUPERVISOR_ALERT_SECRET": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0",
            },
            "SUPERVISOR_ALERT_SECRET has no effect",
        ),
    ],
)
def test_what_is_warned_about(environ: dict[str, str], words: str) -> None:
    """It starts, and a warning says what will not work as intended."""
    assert any(words in text for text in plan(environ, IMAGE).warnings)


@pytest.mark.parametrize(
    ("port", "text", "told"),
    [
        ("8080", '{"TCP": {"8080": {"HTTP": true}}}', True),
        ("8081", '{"TCP": {"8080": {"HTTP": true}}}', False),
        ("8080", '{"Services": {"svc:a": {"TCP": {"8080": {"HTTP": true}}}}}', False),
        ("8080", '{"TCP": [8080]}', False),
        ("8080", "{", False),
    ],
)
def test_a_port_that_a_serve_file_takes_is_warned_about(tmp_path: Path, port: str, text: str, *, told: bool) -> None:
    """The panel could not be reached there; a service has addresses of its own."""
    (tmp_path / "serve.json").write_text(text)
    warnings = plan({"PORT": port, "TS_SERVE_CONFIG": f"{tmp_path}/serve.json"}, IMAGE).warnings
    assert any("change the file of TS_SERVE_CONFIG" in each for each in warnings) is told


@pytest.mark.parametrize("command", ["bash", "/bin/sh -l", "python3"])
def test_a_shell_without_a_terminal_is_told_how_to_get_one(command: str) -> None:
    """`docker run -it IMAGE bash` works with any other image; here it would exit at once, again and again."""
    (warning,) = (text for text in plan({}, IMAGE, command=command.split()).warnings if "standard input" in text)
    assert f"--entrypoint {command.split(maxsplit=1)[0].rpartition('/')[2]} IMAGE" in warning
    for other in (["sh", "-c", "exec app"], ["bash", "/start.sh"], ["python3", "-m", "app"], ["app"]):
        assert not [text for text in plan({}, IMAGE, command=other).warnings if "standard input" in text]


def test_a_variable_that_no_shell_expands_is_told() -> None:
    """A command without a shell, as in the exec form of CMD, gets `$PORT` literally."""
    words = ["app", "--listen", "$HOST:${PORT}", "--price", "$5", "--salt", "$nobody"]
    told = [text for text in plan({}, IMAGE, command=words).warnings if "no shell expands it" in text]
    assert [text.split()[2] for text in told] == ["$HOST", "$PORT"]
    for other in (["sh", "-c", "exec app --port $PORT"], ["app", "--port", "80"]):
        assert not [text for text in plan({}, IMAGE, command=other).warnings if "no shell" in text]
