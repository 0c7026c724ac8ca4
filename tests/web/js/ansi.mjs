import assert from "node:assert/strict";
import { test } from "node:test";
import { contrast, indexed, parts, readable } from "./panel/ansi.js";

const styles = (line) => parts(line).map(({ text, style }) => [text, style.fg, style.bg]);

test("the colours of every kind are understood", () => {
  assert.deepEqual(styles("plain"), [["plain", null, null]]);
  assert.deepEqual(styles("\x1b[31mred\x1b[0m and \x1b[97;44mwhite on blue"), [["red", 1, null], [" and ", null, null], ["white on blue", 15, 4]]);
  assert.deepEqual(styles("\x1b[38;5;208ma\x1b[48;5;1mb\x1b[39mc"), [["a", [255, 135, 0], null], ["b", [255, 135, 0], 1], ["c", null, 1]]);
  assert.deepEqual(styles("\x1b[38;2;1;2;300ma\x1b[38:2::9:8:7mb\x1b[38:2:9:8:7mc"), [["a", [1, 2, 255], null], ["b", [9, 8, 7], null], ["c", [9, 8, 7], null]]);
  assert.deepEqual(styles("\x1b[38;5ma\x1b[38mb\x1b[999mc"), [["a", 0, null], ["b", null, null], ["c", null, null]]);
});

test("switches go on and off", () => {
  const [one, two, three] = parts("\x1b[1;2;3;4;7;9ma\x1b[22;24mb\x1b[mc").map((part) => part.style);
  assert.deepEqual([one.bold, one.faint, one.italic, one.underline, one.inverse, one.strike], Array(6).fill(true));
  assert.deepEqual([two.bold, two.faint, two.italic, two.underline], [false, false, true, false]);
  assert.equal(three.italic, false);
});

test("no character is lost", () => {
  const line = "\x1b[31m\x1b[1ma\x1b[0mb\x1b[";
  assert.equal(parts(line).map((part) => part.text).join(""), "ab\x1b[");
});

test("the 256 colours are those of xterm", () => {
  assert.deepEqual([indexed(7), indexed(16), indexed(231), indexed(232), indexed(255), indexed(999)], [7, [0, 0, 0], [255, 255, 255], [8, 8, 8], [238, 238, 238], [238, 238, 238]]);
});

test("every colour can be read on every ground", () => {
  for (const ground of [[255, 255, 255], [15, 17, 21], [128, 128, 128], [200, 30, 30]]) {
    for (let number = 16; number < 256; number += 1) {
      assert.ok(contrast(readable(indexed(number), ground), ground) >= 4.49, `${number} on ${ground}`);
    }
  }
  assert.deepEqual(readable([228, 228, 231], [15, 17, 21]), [228, 228, 231]);
  assert.equal(Math.round(contrast([0, 0, 0], [255, 255, 255])), 21);
});
