"""The JSON format: one valid object per line, with our fields next to the app's own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.characters import is_clean
from supervisor.logs import json_record
from supervisor.logs.format import LONGEST_RECORD_BYTES, shortened
from supervisor.logs.json_format import JsonFormat
from supervisor.logs.lines import Source
from supervisor.logs.parse import parse_batch
from supervisor.logs.sanitize import sanitize
from tests.logs.rig import Rig, said_json

SOURCE = Source("moltis", "stdout")
OURS = ["timestamp", "level", "process", "stream", "message"]
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
# Raw control characters are shown, which makes an object plain text; escaped ones are tested separately.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
NAMES = st.one_of(
    st.sampled_from(["timestamp", "level", "process", "stream", "message", "app", "fields", "msg", "event"]),
    TEXT,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def one(line: bytes) -> list[dict[str, Any]]:
    """Return the records that the log writes for this line."""
    text, _ = sanitize(line.replace(b"\n", b"") + b"\n")
    out = JsonFormat().lines(parse_batch(SOURCE, text, text, text.count(b"\n"), records=True), 0.0)
    assert all(len(part) <= 16 * 1024 for part in out.splitlines())
    return [json.loads(part) for part in out.decode().split("\n")[:-1]]


def check(record: dict[str, Any]) -> None:
    """Check the fields that are always ours."""
    assert list(record)[:5] == OURS
    assert UTC.fullmatch(record["timestamp"])
    assert record["level"] in {"debug", "info", "warning", "error", "critical"}
    assert (record["process"], record["stream"]) == SOURCE
    assert isinstance(record["message"], str)


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.booleans())
def test_an_apps_own_fields_are_kept(theirs: dict[str, Any], ascii_only: bool) -> None:  # noqa: FBT001 - hypothesis'
    """Each object results in one valid object; fields that are not lifted are unchanged, big numbers too."""
    (record,) = one(json.dumps(theirs, ensure_ascii=ascii_only).encode(errors="surrogatepass"))
    check(record)
    for key, value in theirs.items():
        if key not in {*OURS, "app", "fields", "msg", "event"} and "message" not in theirs and not ascii_only:
            assert record[key] == value


@given(st.binary(max_size=300), st.sampled_from([b"", b"{", b'{"a":', b'{"message":"']))
def test_anything_else_is_a_message(data: bytes, begin: bytes) -> None:
    """Malformed JSON and arbitrary bytes result in valid JSON."""
    for record in one(begin + data):
        check(record)


@pytest.mark.parametrize("line", ['{"a":"\\ud800"}', '{"a":NaN}', '{"a":1}}', "{}x", "[1]", '{"a":' + "[" * 5000, "{"])
def test_malformed_objects_are_plain_text(line: str) -> None:
    """A malformed object becomes the message, unchanged."""
    (record,) = one(line.encode())
    assert record["message"] == line
    assert list(record) == OURS


def test_moltis_lines_are_lifted() -> None:
    """`fields.message` becomes the message, the rest stays; keys that clash with ours are moved under app."""
    line = {
        "timestamp": "2026-08-21T10:00:00.000001Z",
        "level": "WARN",
        "fields": {"message": "slow", "ms": 12345678901234567890123},
        "target": "moltis::httpd",
        "process": "theirs",
        "stream": 7,
    }
    (record,) = one(json.dumps(line).encode())
    assert record == {
        "timestamp": "2026-08-21T10:00:00.000001Z",
        "level": "warning",
        "process": "moltis",
        "stream": "stdout",
        "message": "slow",
        "fields": {"ms": 12345678901234567890123},
        "target": "moltis::httpd",
        "app": {"process": "theirs", "stream": 7},
    }


def test_what_is_no_level_or_time_of_ours_moves_under_app() -> None:
    """Nothing is lost, and a field named app is kept there too."""
    (record,) = one(b'{"timestamp":"12:00","level":"loud","app":{"x":1},"message":{"a":1}}')
    assert record["app"] == {"level": "loud", "timestamp": "12:00", "app": {"x": 1}}
    assert record["message"] == '{"a":1}'


MESSAGES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
FIELDS = st.dictionaries(NAMES.filter(lambda name: name != "message"), VALUES, max_size=3)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["INFO", "WARN", "ERROR", "DEBUG", "TRACE"]),
            MESSAGES,
            FIELDS,
            st.dictionaries(st.sampled_from(["target", "span", "threadId", "process", "odd"]), VALUES, max_size=2),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_objects_of_moltis_are_rendered_together_as_they_are_alone(
    objects: list[tuple[str, str, dict[str, Any], dict[str, Any]]],
) -> None:
    """The fast path for a batch of such objects only gives the same result as the general path."""
    lines = [
        json.dumps(
            {"timestamp": "2026-08-21T10:00:00.1Z", "level": level, "fields": {"message": message, **fields}, **more},
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        for level, message, fields, more in objects
    ]
    text, _ = sanitize(b"".join(line + b"\n" for line in lines))
    batch = parse_batch(SOURCE, text, text, text.count(b"\n"), records=True)
    if b"\\" not in text and not any({"process", "odd"} & more.keys() for _, _, _, more in objects):
        assert batch.tracing is not None
    places = range(len(lines))
    alone = batch._replace(tracing=None, records=json_record.decode(text[:-1].split(b"\n"), places))
    together = [json.loads(line) for line in JsonFormat().lines(batch, 0.0).decode().split("\n")[:-1]]
    assert together == [json.loads(line) for line in JsonFormat().lines(alone, 0.0).decode().split("\n")[:-1]]
    levels = [record["level"] for record in together]
    assert dict(batch.levels) == {place: level for place, level in enumerate(levels) if level != "info"}


async def test_long_lines_stay_below_16_kib() -> None:
    """Escapes make a line longer: it is split again, but not inside an escape."""
    data = b'"' * 15_000 + b"\n" + b"\\" * 40_000 + b"\n" + json.dumps({"message": '"' * 9000}).encode() + b"\n"
    records = await said_json(data)
    for record in records:
        assert len(json.dumps(record, separators=(",", ":"))) <= 16 * 1024
    text = "".join(record["message"].removesuffix(" [line continues]") for record in records)
    assert text.count('"') >= 15_000
    assert text.count("\\") >= 40_000


async def test_secrets_in_escaped_forms_are_masked() -> None:
    """Secrets are masked even if they appear only after decoding the JSON."""
    data = b'{"message":"\\u0067eheim\\/4711","x":"geheim\\/4711"}\n'
    (record,) = await said_json(data, secrets=["geheim/4711"])
    assert (record["message"], record["x"]) == ("[redacted]", "[redacted]")


async def test_escaped_control_characters_are_shown() -> None:
    """An escaped colour code in a message is not passed on."""
    (record,) = await said_json(b'{"message":"\\u001b[31mred\\u001b[0m \\u001b[2J\\u0000 a\\nb"}\n')
    assert record["message"] == "red \\x1b[2J\\x00 a\nb"


def test_escaped_characters_of_a_name_stay_escaped() -> None:
    """They are control and invisible characters, which the name of a field would bring to the terminal."""
    text = b'{"msg":"ascii","a\\u007f":1}\n{"msg":"\xc3\xa9","\\u007f\\u200b":2}\n'
    out = JsonFormat().lines(parse_batch(SOURCE, text, text, 2, records=True), 0.0)
    assert is_clean(out)
    first, second = map(json.loads, out.splitlines())
    assert (first["a\x7f"], second["\x7f\u200b"]) == (1, 2)


@pytest.mark.parametrize("texts", [{"last_lines": ["\U000e0001" * 400] * 2}, {"why": "\U000e0001" * 800}])
def test_a_record_of_what_json_spells_longest_is_shortened(texts: dict[str, Any]) -> None:
    """Each of these characters takes fourteen bytes in a record."""
    event, fields = shortened("exited", texts)
    assert len(JsonFormat().event("info", event, fields, 0.0)) <= LONGEST_RECORD_BYTES + 200


async def test_own_records() -> None:
    """Values are fields; a name that clashes with ours is kept, and no record is longer than platforms accept."""
    rig = Rig(format="json", secrets=["geheimnis"])
    rig.log.record("error", "exited", child="moltis", code=1, none=None, process="x", why="geheimnis", odd={1: {2}})
    rig.log.record("info", "long", last_lines=["x" * 15_000] * 10, not_a_number=float("nan"), lone="\ud800")
    first, second = rig.end_json()
    assert [first[key] for key in OURS[1:]] == ["error", "supervisor", "log", "exited"]
    assert (first["child"], first["code"]) == ("moltis", 1)
    assert first["process_"] == "x"
    assert first["why"] == "[redacted]"
    assert "none" not in first
    assert len(second["last_lines"]) == 10
    assert len(json.dumps(second)) < 16 * 1024
