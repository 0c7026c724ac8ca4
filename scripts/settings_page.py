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
The same names can be used in the `[settings]` table of a TOML file, given with `--config` or `SUPERVISOR_CONFIG`.
The environment takes precedence over the file.
An empty value is the same as an unset one, except for `SUPERVISOR_APP_HEALTH_URL`.
`moltis-supervisor check` shows the resulting plan without starting anything.

If a setting is invalid, the supervisor does not start: it lists all problems at once and exits with 78.
An unknown `SUPERVISOR_` or `TS_` name is a warning that suggests the closest known name.

Durations are written as `500ms`, `10s`, `5m` or `1h`, or combined as in `1m30s`.
A secret can also be read from a file: `NAME_FILE=/path`, or `NAME=file:/path`.
Secret files are reread at each use, so changing one needs no restart.
"""
TABLES = """\
## Further processes

The TOML file can define further processes, one `[process.NAME]` table each.
A name consists of at most 32 characters from `a-z`, `0-9` and `-`.

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
| `command` | required | the program and its arguments, a list of strings |
| `user` | the app's | the user that runs it |
| `env` | none | additional environment variables, a table |
| `critical` | `false` | whether the container exits with 70 if it fails permanently |
| `after` | none | processes that must be ready before it is started, or ended for good with success |
| `restart` | `"always"` | `always`, `on-failure` or `never` |
| `stop_signal` | `"TERM"` | the signal that stops it |
| `stop_timeout` | `SUPERVISOR_STOP_TIMEOUT` | time it gets to exit before it is killed |
| `health` | running | a URL that returns 2xx, or `tcp://HOST:PORT` that accepts a connection, once it is ready |
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
        "## Names of the official image that are not supported",
        "",
        "With one of these the supervisor does not start, because the setting would silently have no effect.",
        "A name that ends with `*` stands for all names with that prefix.",
        "",
        "| name | why not | what to do |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {_cell(why)} | {_cell(remedy)} |" for name, why, remedy in REFUSED]
    prefixes = ", ".join(f"`{prefix}*`" for prefix in PASSTHROUGH_PREFIXES)
    return "\n".join([*lines, "", f"Other names that begin with {prefixes} are passed to tailscaled only.", ""])


if __name__ == "__main__":
    sys.stdout.write(page())
