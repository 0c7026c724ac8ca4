import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser } from "./panel/sse.js";

const TEXT = "retry: 2000\n\nevent: state\nid: b-1\ndata: {\"a\":\"é 日本 🚀\"}\n\n: nothing new\n\nevent: log\r\nid: b-7\r\ndata: one\r\ndata:two\r\n\r\ndata: bare\n\nid: b-9\n\nevent: log\n\n";
const EVENTS = [
  { kind: "state", id: "b-1", data: "{\"a\":\"é 日本 🚀\"}" },
  { kind: "log", id: "b-7", data: "one\ntwo" },
  { kind: "message", id: "b-7", data: "bare" },
];

function parsed(pieces) {
  const found = [];
  const parser = new EventParser((event) => found.push(event));
  for (const piece of pieces) parser.feed(piece);
  return [found, parser];
}

test("events come out the same wherever the bytes are cut", () => {
  const bytes = new TextEncoder().encode(TEXT);
  for (let first = 0; first <= bytes.length; first += 1) {
    const [found] = parsed([bytes.slice(0, first), bytes.slice(first)]);
    assert.deepEqual(found, EVENTS, `cut at ${first}`);
  }
  const [found, parser] = parsed(Array.from(bytes, (_, at) => bytes.slice(at, at + 1)));
  assert.deepEqual(found, EVENTS);
  assert.equal(parser.lastId, "b-9");
});

test("an event whose end has not come is none yet", () => {
  const [found] = parsed([new TextEncoder().encode("event: log\nid: b-2\ndata: x\n")]);
  assert.deepEqual(found, []);
});
