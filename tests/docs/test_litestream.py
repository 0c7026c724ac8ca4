"""The how-to's files, with the real Litestream: it is killed and restarted, and a lost disk is restored."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conventions.tree import read
from tests.process.running import running
from tests.support.waiting import wait_until

PAGE = "docs/how-to/add-a-process.md"
# In place of Moltis: writes a note ten times a second, prints how many it found, and exits on TERM.
APP = """\
#!{python} -I
import pathlib, signal, sqlite3, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
db = sqlite3.connect("{database}", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY)")
print("notes found:", db.execute("SELECT count(*) FROM notes").fetchone()[0], flush=True)
while True:
    db.execute("INSERT INTO notes DEFAULT VALUES")
    time.sleep(0.1)
"""

pytestmark = [pytest.mark.slow_fault, pytest.mark.timeout(600)]


def litestream() -> Path:
    """Build Litestream as the page says, once per user."""
    module: str = re.findall(r"go install (\S+)", read(PAGE))[0]
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moltis-supervisor"
    folder = caches / module.rpartition("/")[2].replace("@", "-")
    if not (folder / "litestream").exists():
        subprocess.run(
            ["go", "install", module], env={**os.environ, "CGO_ENABLED": "0", "GOBIN": str(folder)}, check=True
        )
    return folder


def files_of(folder: Path) -> None:
    """Write the page's files, with the folder as the root."""
    for kind, name in {"yaml": "etc/litestream.yml", "toml": "etc/supervisor.toml", "bash": "bin/start-moltis"}.items():
        block = re.findall(rf"^```{kind}\n(.*?)^```", read(PAGE), re.MULTILINE | re.DOTALL)[0]
        text = re.sub(r"(?<=[\s\"])/(?=etc/|home/|backup/)", f"{folder}/", block)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def notes(database: Path) -> int:
    """Count the notes that the app has written."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT count(*) FROM notes").fetchone()[0])


def test_litestream_copies_what_the_app_writes_and_restores_it() -> None:
    """Litestream is killed and restarted; after an ordered stop and a lost disk the next start has the notes again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files_of(folder)
        database = folder / "home/moltis/.moltis/moltis.db"
        database.parent.mkdir(parents=True)
        app = folder / "bin/moltis"
        app.write_text(APP.format(python=sys.executable, database=database))
        app.chmod(0o755)
        env = {
            "PATH": f"{folder}/bin:{litestream()}:{os.environ['PATH']}",
            "SUPERVISOR_APP_COMMAND": str(folder / "bin/start-moltis"),
        }
        toml = (folder / "etc/supervisor.toml").read_text()

        with running(env=env, toml=toml) as run:
            first = run.wait_for("started", child="litestream")["pid"]
            wait_until(lambda: list(folder.glob("backup/moltis/ltx/9/*.ltx")), 30)
            os.kill(first, signal.SIGKILL)
            run.wait_for("will be restarted", child="litestream")
            run.wait_count(2, "started", child="litestream")
            so_far = notes(database)
            # It copies once a second: after three seconds' notes, the earlier ones are in the copy.
            wait_until(lambda: notes(database) > so_far + 30, 30)
            assert run.stop(30) == 0
        written = notes(database)

        shutil.rmtree(database.parent)
        database.parent.mkdir()
        with running(env=env, toml=toml) as run:
            found = wait_until(lambda: next((r for r in run.records if "notes found" in r["message"]), None), 30)
            assert so_far <= int(found["message"].split()[-1]) <= written
