import assert from "node:assert/strict";
import { test } from "node:test";
import { Heights, Ring, filter, rowsOf, widthOf } from "./panel/ring.js";

test("a ring keeps the last so many, in order", () => {
  const ring = new Ring(100);
  let gone = 0;
  for (let number = 0; number < 1000; number += 1) if (ring.push(number) !== undefined) gone += 1;
  assert.deepEqual(ring.list(), Array.from({ length: 100 }, (_, at) => 900 + at));
  assert.deepEqual([ring.size, gone, ring.at(0), ring.at(99), ring.shift()], [100, 900, 900, 999, 900]);
  ring.clear();
  assert.deepEqual([ring.size, ring.list()], [0, []]);
});

test("heights are found again after the first ones went", () => {
  const heights = new Heights();
  const kept = [];
  for (let number = 0; number < 20000; number += 1) {
    heights.push(1 + (number % 3));
    kept.push(1 + (number % 3));
    if (kept.length > 500) assert.equal(heights.shift(), kept.shift());
  }
  let top = 0;
  assert.equal(heights.gone, Array.from({ length: 19500 }, (_, at) => 1 + (at % 3)).reduce((sum, height) => sum + height));
  kept.forEach((height, at) => {
    assert.equal(heights.top(at), top);
    assert.equal(heights.find(top), at);
    assert.equal(heights.find(top + height - 1), at);
    top += height;
  });
  assert.deepEqual([heights.total, heights.size, heights.find(1e9)], [top, 500, 499]);
});

test("a filter lets pass what was asked for, and every gap", () => {
  const line = (level, message, process = "app") => ({ level, message, process, gap: 0 });
  assert.ok(filter({})(line("debug", "x")));
  assert.ok(filter({ level: "warning" })(line("error", "x")));
  assert.ok(!filter({ level: "warning" })(line("info", "x")));
  assert.ok(!filter({ process: "app" })(line("info", "x", "other")));
  assert.ok(filter({ text: "HELLO" })(line("info", "say hello")));
  assert.ok(!filter({ text: "a.b" })(line("info", "axb")));
  assert.ok(filter({ process: "app", level: "error", text: "x" })({ gap: 5 }));
});

test("rows are counted as a terminal breaks them", () => {
  assert.deepEqual([rowsOf("", 80), rowsOf("x".repeat(80), 80), rowsOf("x".repeat(81), 80), rowsOf("日本".repeat(20), 80), rowsOf("日本".repeat(20) + "x", 80)], [1, 1, 2, 1, 2]);
  assert.deepEqual([widthOf("é"), widthOf("日"), widthOf("🚀"), widthOf("a\tb")], [1, 2, 2, 6]);
});
