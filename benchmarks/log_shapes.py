"""Log lines as real programs write them, and the most expensive ones that a child can write.

Moltis' are tracing-subscriber's, always with colours, or as JSON; tailscaled's are those of 1.102.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

TIME = "2026-11-29T00:37:57.750348Z"
# Removing colours and adding a prefix, and adding two keys to an object, with common tools. The first
# expression is the widely used one for this task; the second is the simplest that suffices for these lines.
SED = ("sed", "-E", r"s/\x1b\[([0-9]{1,3}(;[0-9]{1,2};?)?)?[mGK]//g; s/^/moltis     │ /")
PLAINEST_SED = ("sed", "-E", r"s/\x1b\[[0-9;:]*m//g; s/^/moltis     │ /")
JQ = ("jq", "-c", '. + {"process": "moltis", "stream": "stdout"}')


class Shape(NamedTuple):
    """One kind of line: ``line`` returns the line with a number, which contains ``n=%08d`` once."""

    name: str
    line: Callable[[int], str]
    process: str = "moltis"


def _ansi(level: str, color: int) -> Callable[[int], str]:
    def line(number: int) -> str:
        fields = (("path", '"/assets/v/0123abcd/app.js"'), ("n", f"{number:08d}"))
        told = " ".join(f"\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}" for name, value in fields)
        target = "\x1b[2mmoltis_web::middleware\x1b[0m\x1b[2m:\x1b[0m"
        said = "auth_gate: SPA request entering middleware"
        return f"\x1b[2m{TIME}\x1b[0m \x1b[{color}m{level:>5}\x1b[0m {target} {said} {told}"

    return line


def _json(level: str) -> Callable[[int], str]:
    def line(number: int) -> str:
        said = f"auth_gate: SPA request entering middleware n={number:08d}"
        fields = f'"message":"{said}","path":"/assets/v/0123abcd/app.js","status":200'
        return f'{{"timestamp":"{TIME}","level":"{level}","fields":{{{fields}}},"target":"moltis_web::middleware"}}'

    return line


def _daemon(number: int) -> str:
    return f"2026/11/29 00:37:57 magicsock: home is now derp-1 (test) after n={number:08d} and 12 ms of looking around"


REAL = (
    Shape("ansi", _ansi("INFO", 32)),
    Shape("json", _json("INFO")),
    Shape("warn", _json("WARN")),
    Shape("daemon", _daemon, "tailscaled"),
    Shape("plain", lambda number: f"n={number:08d} " + "x" * 89),
)
# Each of these costs at most five times as much per byte as usual lines.
WORST = (
    Shape("all colour codes", lambda number: "\x1b[31m\x1b[0m" * 20 + f"n={number:08d}"),
    Shape("all other codes", lambda number: "\x1b[K\x1b[2J" * 20 + f"n={number:08d}"),
    Shape("controls between letters", lambda number: "a\0b\0" * 40 + f"n={number:08d}"),
    Shape("newlines", lambda _number: ""),
    Shape("an object of 200 KB", lambda number: f'{{"message":"n={number:08d}","x":"{"y" * 200_000}"}}'),
    Shape("a deep object", lambda number: f'{{"n={number:08d}":' + "[" * 500 + "]" * 500 + "}"),
    Shape("no object", lambda number: _json("WARN")(number)[:-1]),
    Shape("escapes", lambda number: '{"message":"' + r"\u043f\u0440" * 12 + f' n={number:08d}"}}'),
)
