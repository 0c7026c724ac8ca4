"""A real Prometheus that scrapes a real supervisor, and queries to it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.support.waiting import wait_until
from tests.telemetry.promtool import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.running import Run

DEADLINE_S = 40.0
CONFIG = """\
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: moltis-supervisor
    authorization: {{credentials_file: {token}}}
    static_configs: [{{targets: ["{target}"]}}]
"""
STRANGER = """\
  - job_name: stranger
    authorization: {{credentials: a-token-of-another-kind}}
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """A client of a running Prometheus."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the series that result from a query now."""
        return self._results("query", query=query)

    def _results(self, path: str, **asked: str) -> list[dict[str, Any]]:
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
            return found

    def range(self, query: str, begin_s: float, end_s: float, step_s: float = 1.0) -> list[dict[str, Any]]:
        """Return the series that result from a query between two times, in seconds since the epoch."""
        return self._results("query_range", query=query, start=str(begin_s), end=str(end_s), step=str(step_s))

    def wait(self, query: str) -> list[dict[str, Any]]:
        """Wait until a query has a result, and return it: a comparison returns the series that satisfy it."""
        return wait_until(lambda: self.ask(query), DEADLINE_S, f"Prometheus to find {query}")


def target(run: Run) -> str:
    """Return the address to scrape."""
    host, port = wait_until((run.run_dir / "http").read_text).split()
    return f"{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


@contextlib.contextmanager
def scraping(address: str, token: str, folder: Path, *, stranger: bool = False) -> Iterator[Prometheus]:
    """Let a Prometheus scrape this address during a block; with ``stranger``, another job tries a wrong token."""
    (folder / "token").write_text(token)
    config = folder / "prometheus.yml"
    text = CONFIG + (STRANGER if stranger else "")
    config.write_text(text.format(token=folder / "token", target=address))
    words = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", "--web.listen-address=127.0.0.1:0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program("prometheus"), *words], stdout=log, stderr=log)
    try:
        yield Prometheus(wait_until(lambda: _address(folder / "log"), DEADLINE_S, "Prometheus to listen"))
    finally:
        process.kill()
        process.wait()


def _address(log: Path) -> str:
    """Return the address on which Prometheus listens according to its log, once it is ready."""
    text = log.read_text()
    if "Server is ready" not in text:
        return ""
    # Version 3 has its component between the two.
    found = re.search(r'msg="Listening on" .*?address=(\S+)', text)
    return found[1] if found else ""
