"""The cost of lines as real programs write them, compared with `sed` and `jq`, and of the worst lines."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.log_shapes import JQ, PLAINEST_SED, REAL, SED, WORST, Shape
from benchmarks.logs import merge_cost_ns
from benchmarks.measure import Bench, Measure, Result
from benchmarks.peers import Job, Ours, python
from benchmarks.running import cpu_ns, free_port, http_ms, running, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 1_000_000
WORST_BYTES = 40_000_000
TIMES_AS_MUCH = 5.0
HEALTH_MS = 10.0
_CODE = re.compile(r"\x1b\[[0-9;:]*m")
_NUMBER = re.compile(r"n=\d{8}")
_SHAPES = {shape.name: shape for shape in REAL}
# Measures lines without and with a thousand secrets, and tailscaled's lines, in a pipeline of its own: no setting
# allows that many secrets, and no child may have that name.
_IN_PROCESS = """
import asyncio, json, os, sys, time
from supervisor.logs.lines import Source
from supervisor.logs.pipeline import LogPipeline
from supervisor.logs.redact import Redactor
process, form, secrets, path = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
data = open(path, "rb").read()
chunks = [data[at:at + 65536].rpartition(b"\\n")[0] + b"\\n" for at in range(0, len(data) - 65536, 65536)]
async def main():
    names = ["supervisor", process]
    redactor = Redactor(f"secret-{number:08d}-of-many" for number in range(secrets))
    pipeline = LogPipeline(format=form, color=False, redactor=redactor, history_lines=2000, names=names,
                           out_fd=os.open("/dev/null", os.O_WRONLY))
    pipeline.start(asyncio.get_running_loop())
    source = Source(process, "stdout")
    begin = time.process_time()
    for chunk in chunks:
        pipeline._take(source, chunk, chunk.count(b"\\n"))
    print(json.dumps((time.process_time() - begin) * 1e6 / sum(chunk.count(b"\\n") for chunk in chunks)))
asyncio.run(main())
"""


def _row(shape: str, *, json_logs: bool, tool: tuple[str, ...] | None) -> Callable[[Bench], dict[str, Result]]:
    def take(bench: Bench) -> dict[str, Result]:
        lines = LINES // (10 if bench.quick else 1)
        with tempfile.TemporaryDirectory(prefix="bench-lines-") as folder:
            path = _written(Path(folder) / "lines", _SHAPES[shape], lines)
            found = {"ours": _ours(bench, _SHAPES[shape], path, lines, json_logs=json_logs)}
            if tool is not None and shutil.which(tool[0]):
                found[tool[0]] = Result(_cpu_of(tool, path) / lines)
                if tool is SED:
                    found["plainest sed"] = Result(_cpu_of(PLAINEST_SED, path) / lines)
            return found

    return take


def _written(path: Path, shape: Shape, lines: int) -> Path:
    with path.open("w") as file:
        file.writelines(f"{shape.line(number)}\n" for number in range(lines))
    return path


def _cpu_of(words: tuple[str, ...], path: Path) -> float:
    """Return the processor time of a program that reads this file, in µs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with path.open("rb") as lines:
        subprocess.run(words, stdin=lines, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e6


def _ours(bench: Bench, shape: Shape, path: Path, lines: int, *, json_logs: bool) -> Result:
    """Let a child write the file; return the cost of a line, and whether the output is right."""
    folder = path.parent
    done = folder / "done"
    words = [bench.programs["replay"], str(path), "1", str(done), str(folder / "go")]
    # Includes the child's share: writing costs it what reading costs us.
    cpu = merge_cost_ns(Ours(), Job({shape.process: words}, json_logs=json_logs), folder, done.exists)
    compared = _compared(folder / "merged", shape, lines, json_logs=json_logs)
    return Result(None if cpu is None else cpu / 1000 / lines, compared)


def _compared(merged: Path, shape: Shape, lines: int, *, json_logs: bool) -> str:
    """Return the number of lines that are missing, or differ from what is expected, in order."""
    expected = 0
    wrong = 0
    with merged.open(encoding="utf-8") as file:
        for line in file:
            if not _NUMBER.search(line):
                continue
            if json_logs:
                record = json.loads(line)
                is_right = f"n={expected:08d}" in record["message"] and record["process"] == shape.process
            else:
                is_right = line.partition("│ ")[2] == _CODE.sub("", shape.line(expected)) + "\n"
            wrong += not is_right
            expected += 1
    return f"lost {max(0, lines - expected)}, wrong {wrong}"


def _in_process(shape: Shape, form: str, secrets: int, lines: int) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-lines-") as folder:
        path = _written(Path(folder) / "lines", shape, lines)
        words = [python(), "-I", "-c", _IN_PROCESS, shape.process, form, str(secrets), str(path)]
        return float(json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout))


def daemon(bench: Bench) -> dict[str, Result]:
    """tailscaled's lines, in the pipeline alone."""
    lines = LINES // (100 if bench.quick else 10)
    with tempfile.TemporaryDirectory(prefix="bench-lines-") as folder:
        path = _written(Path(folder) / "lines", _SHAPES["daemon"], lines)
        sed = _cpu_of(SED, path) / lines
    return {"ours": Result(_in_process(_SHAPES["daemon"], "json", 0, lines)), "sed": Result(sed)}


def secrets(bench: Bench) -> dict[str, Result]:
    """The cost with a thousand secrets, relative to none."""
    lines = LINES // (100 if bench.quick else 10)
    shape = _SHAPES["ansi"]
    return {"ours": Result(_in_process(shape, "pretty", 1000, lines) / _in_process(shape, "pretty", 0, lines))}


def worst(bench: Bench) -> dict[str, Result]:
    """Return the cost of the worst lines relative to usual ones, and the slowest health answer meanwhile."""
    size = WORST_BYTES // (10 if bench.quick else 1)
    dearest, slowest = (0.0, ""), 0.0
    for json_logs, usual in ((False, _SHAPES["ansi"]), (True, _SHAPES["json"])):
        usual_us, usual_bytes, _ = _endured(bench, usual, size, json_logs=json_logs)
        for shape in WORST:
            line_us, line_bytes, health_ms = _endured(bench, shape, size, json_logs=json_logs)
            # Compared by bytes or by lines, whichever is worse.
            times = line_us / usual_us / max(1.0, line_bytes / usual_bytes)
            dearest = max(dearest, (times, f"{shape.name}, {'json' if json_logs else 'pretty'}"))
            slowest = max(slowest, health_ms)
    return {"ours": Result(dearest[0], f"{dearest[1]}; slowest health {slowest:.1f} ms")}


def _endured(bench: Bench, shape: Shape, size: int, *, json_logs: bool) -> tuple[float, float, float]:
    """Return the cost of a line of this shape, its length, and the slowest health answer meanwhile."""
    with tempfile.TemporaryDirectory(prefix="bench-lines-") as name:
        folder, port = Path(name), free_port()
        go, done = folder / "go", folder / "done"
        block = [f"{shape.line(number)}\n" for number in range(2000)]
        times = max(1, min(size // len("".join(block).encode()), 2_000_000 // len(block)))
        (folder / "lines").write_text("".join(block))
        words = [bench.programs["replay"], str(folder / "lines"), str(times), str(done), str(go)]
        with running(Ours(), Job({"moltis": words}, http_port=port, json_logs=json_logs)) as run:
            wait_for(lambda: http_ms(port, "/health"))
            time.sleep(1)
            pids = run.own_pids(())
            before = sum(map(cpu_ns, pids))
            go.touch()
            slowest = 0.0
            for _ in cycle([0]):
                slowest = max(slowest, http_ms(port, "/health") or 5000.0)
                if done.exists():
                    break
                time.sleep(0.005)
            time.sleep(0.5)
            cpu = sum(map(cpu_ns, pids)) - before
        lines = times * len(block)
        return cpu / 1000 / lines, len("".join(block).encode()) / len(block), slowest


def _reached(most: float, tool: str = "", part: float | None = None) -> Callable[[dict[str, Result]], bool]:
    def judge(found: dict[str, Result]) -> bool:
        value, note = found["ours"]
        if value is None or value > most or (note and note != "lost 0, wrong 0"):
            return False
        peer = found.get(tool)
        return part is None or peer is None or (peer.value is not None and value <= peer.value * part)

    return judge


def _worst_reached(found: dict[str, Result]) -> bool:
    value, note = found["ours"]
    health = re.search(r"health ([\d.]+) ms", note)
    return value is not None and value <= TIMES_AS_MUCH and health is not None and float(health[1]) <= HEALTH_MS


def _measure(name: str, title: str, target: str, most: float, **options: object) -> Measure:
    tool = options.get("tool")
    part = options.get("part")
    assert part is None or isinstance(part, float)
    words = tool if isinstance(tool, tuple) else None
    judge = _reached(most, words[0] if words else "", part)
    take = _row(str(options["shape"]), json_logs=bool(options["json_logs"]), tool=words)
    return Measure(f"line-{name}", title, "µs", target, judge, take, 2)


_ANSI = "Moltis' text with colours"
_JSON = "Moltis' JSON"
_WARN = "Moltis' JSON of level WARN"
MEASURES = (
    _measure(
        "ansi", f"{_ANSI} → pretty", "≤ 3.0 µs, ≤ 1/3 of sed", 3.0, shape="ansi", json_logs=False, tool=SED, part=1 / 3
    ),
    _measure("ansi-json", f"{_ANSI} → JSON", "≤ 4.5 µs", 4.5, shape="ansi", json_logs=True, tool=SED),
    _measure(
        "json", f"{_JSON} → JSON", "≤ 4.0 µs, ≤ 1/4 of jq", 4.0, shape="json", json_logs=True, tool=JQ, part=1 / 4
    ),
    _measure("json-pretty", f"{_JSON} → pretty", "≤ 2.5 µs", 2.5, shape="json", json_logs=False, tool=JQ),
    _measure("warn", f"{_WARN} → JSON", "≤ 4.0 µs", 4.0, shape="warn", json_logs=True, tool=JQ),
    _measure("plain", "plain text → pretty", "≤ 0.85 µs", 0.85, shape="plain", json_logs=False, tool=SED),
    Measure("line-daemon", "tailscaled's lines → JSON, in the pipeline", "µs", "≤ 5 µs", _reached(5.0), daemon, 2),
    Measure("line-secrets", "1,000 secrets: times the cost of none", "x", "≤ 5 x", _reached(TIMES_AS_MUCH), secrets, 2),
    Measure(
        "line-worst",
        "the worst lines: times the usual cost, of as many bytes or lines",
        "x",
        "≤ 5 x, health ≤ 10 ms",
        _worst_reached,
        worst,
        2,
    ),
)
