"""Writes docs/reference/settings.md from the one table of settings: `python scripts/settings_page.py > PAGE`."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING

from supervisor.config import parsers
from supervisor.config.settings import SETTINGS
from supervisor.config.tailscale_env import PASSTHROUGH_PREFIXES, REFUSED

if TYPE_CHECKING:
    from supervisor.config.settings import Setting

HEAD = """\
# Settings

<!-- This page is written by scripts/settings_page.py from supervisor/config/settings.py. -->

Every setting is an environment variable.
The same names may stand in the `[settings]` table of a TOML file, which `--config` or `SUPERVISOR_CONFIG` names.
The environment beats the file.
An empty value counts as none, except for `SUPERVISOR_APP_HEALTH_URL`.
`moltis-supervisor check` shows what your settings lead to, without starting anything.

A setting with a bad value keeps the supervisor from starting: it lists every problem at once and ends with 78.
A `SUPERVISOR_` or `TS_` name that is not known is a warning with the nearest known name.

Durations are written as `500ms`, `10s`, `5m`, `1h`, or put together as `1m30s`.
A secret may also be read from a file: `NAME_FILE=/path`, or `NAME=file:/path`.
Secret files are read anew at each use, so a changed file needs no restart.
"""
TABLES = """\
## Further processes

The TOML file may add processes, one `[process.NAME]` table each.
A name has at most 32 characters of `a-z`, `0-9` and `-`.

```toml
[settings]
SUPERVISOR_LOG_FORMAT = "json"

[process.worker]
command = ["/usr/local/bin/worker", "--queue", "mail"]
after = ["moltis"]
health = "http://127.0.0.2:9000/health"
```

| field | default | meaning |
|---|---|---|
| `command` | needed | the program and its arguments, a list of words |
| `user` | the app's | whom it runs as |
| `env` | none | variables of its own, a table |
| `critical` | `false` | whether its failing for good ends the container with 70 |
| `after` | none | the processes that must be ready before it is started |
| `restart` | `"always"` | `always`, `on-failure` or `never` |
| `stop_signal` | `"TERM"` | what asks it to end |
| `stop_timeout` | `SUPERVISOR_STOP_TIMEOUT` | how long it may take to end before it is killed |
| `health` | alive | a URL that answers 2xx, or `tcp://HOST:PORT` that takes a connection, when it is ready |
"""


def page() -> str:
    """Return the whole page."""
    sections = groupby(SETTINGS, key=lambda row: row.section)
    return "\n".join([HEAD, *(_section(name, list(rows)) for name, rows in sections), TABLES, _others()])


def _section(name: str, rows: list[Setting]) -> str:
    lines = [f"## {name}", "", "| name | form | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(_row, rows), ""])


def _row(row: Setting) -> str:
    names = " ".join(f"`{name}`" for name in (row.name, *row.aliases))
    default = row.said or (f"`{row.default}`" if row.default else "none")
    when = "".join(f" Only with `{name}={'|'.join(words)}`." for name, words in row.when)
    form = "a secret" if row.parser is parsers.SECRET else row.parser.form
    return f"| {names} | {_cell(form)} | {_cell(default)} | {_cell(row.meaning)}{_cell(when)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _others() -> str:
    lines = [
        "## Names of the official image that are not honoured",
        "",
        "These keep the supervisor from starting, since what they ask for would silently not happen.",
        "A name that ends with `*` stands for every name that begins so.",
        "",
        "| name | why not | what to do |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {_cell(why)} | {_cell(remedy)} |" for name, why, remedy in REFUSED]
    prefixes = ", ".join(f"`{prefix}*`" for prefix in PASSTHROUGH_PREFIXES)
    return "\n".join([*lines, "", f"Other names that begin with {prefixes} go to tailscaled and to nobody else.", ""])


if __name__ == "__main__":
    sys.stdout.write(page())
