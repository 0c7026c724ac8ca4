"""Where the auth key must not appear: the image's history, arguments, environments, and the output of Docker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.image.conftest import KEY
from tests.support.docker import docker

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.docker import Container

    Run = Callable[..., AbstractContextManager[Container]]

TOKEN = "an-admin-token-of-the-tests"
# Read from standard input, so that no argument contains it.
EVERYBODY = r"""cd /proc
for p in [0-9]*; do tr '\0' ' ' <$p/cmdline; tr '\0' ' ' <$p/environ; echo; done 2>/dev/null
"""


def test_the_history_of_the_image_holds_no_secret(image: str) -> None:
    """No layer names a key, a token or a credential, nor does any variable or label."""
    history = docker("history", "--no-trunc", "--format", "{{json .}}", image).stdout
    config = json.loads(docker("image", "inspect", image).stdout)[0]["Config"]
    told = (history + json.dumps(config)).lower()
    assert not [word for word in ("authkey", "tskey", "token", "secret", "password", "credential") if word in told]


def test_no_argument_and_no_child_holds_a_secret(run: Run, login: dict[str, str]) -> None:
    """With the secrets in the environment, only the supervisor has them: no child, no arguments, no log line."""
    with run(**login, SUPERVISOR_TOKEN=TOKEN) as box:
        box.settled()
        box.address()
        for user, program in (("moltis", "moltis_stand_in.py"), ("tailscale", "tailscaled")):
            # Docker passes the container's variables to what it starts, so this process gets an empty environment.
            told = box.execute("env", "-i", "sh", "-s", user=user, stdin=EVERYBODY, may_fail=True).stdout
            assert [line for line in told.splitlines() if program in line and "HOME=" in line], told
            assert KEY not in told
            assert TOKEN not in told
        assert KEY not in box.logs()
        assert TOKEN not in box.logs()


def test_with_files_docker_tells_no_secret_either(run: Run, login: dict[str, str], tmp_path: Path) -> None:
    """With *_FILE neither `docker inspect` nor a started process has them; files of mode 0400 cause no warning."""
    env = {name: text for name, text in login.items() if name != "TS_AUTHKEY"}
    env |= {"TS_AUTHKEY_FILE": "/run/secrets/key", "SUPERVISOR_TOKEN_FILE": "/run/secrets/token"}
    for name, text in (("key", KEY), ("token", TOKEN)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o400)
    with run(options=("--volume", f"{tmp_path}:/run/secrets:ro"), **env) as box:
        box.settled()
        box.address()
        told = json.dumps(box.inspect()) + box.execute("env").stdout + box.logs()
        assert KEY not in told
        assert TOKEN not in told
        assert "can be read by the app's user" not in box.logs()


def test_a_secret_file_that_the_app_can_read_is_warned_about(run: Run, login: dict[str, str], tmp_path: Path) -> None:
    """Log and `check` say so, and which mode to set."""
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o444)
    tmp_path.chmod(0o755)
    env = {name: text for name, text in login.items() if name != "TS_AUTHKEY"} | {"TS_AUTHKEY_FILE": "/run/secrets/key"}
    with run(options=("--volume", f"{tmp_path}:/run/secrets:ro"), **env) as box:
        box.wait_log("/run/secrets/key can be read by the app's user moltis; give it mode 0400")
        checked = box.execute("moltis-supervisor", "check")
        assert "can be read by the app's user" in checked.stdout + checked.stderr
        assert "[redacted]" in checked.stdout or KEY not in checked.stdout
