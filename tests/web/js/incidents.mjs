import assert from "node:assert/strict";
import { test } from "node:test";
import { hoursOf } from "./panel/incidents.js";

const NOW = new Date(2026, 0, 8, 12, 30).getTime();
const at = (day, hour, minute = 0) => new Date(2026, 0, day, hour, minute).toISOString();
const one = (given) => ({ kind: "crash", level: "error", until: null, open: false, what: "it crashed", ...given });
const hour = (day, hour) => new Date(2026, 0, day, hour).getTime();

test("an hour has the colour of its worst, and all that was in it", () => {
  const hours = hoursOf([one({ at: at(7, 3, 5), level: "warning" }), one({ at: at(7, 3, 59) }), one({ at: at(7, 4), level: "info" })], NOW);
  assert.deepEqual([hours.get(hour(7, 3)).level, hours.get(hour(7, 3)).all.length], ["error", 2]);
  assert.equal(hours.get(hour(7, 4)).level, "info");
});

test("what lasts takes every hour that it touches, and what goes on all until now", () => {
  const over = hoursOf([one({ kind: "tailnet-away", at: at(7, 1, 50), until: at(7, 4, 10) })], NOW);
  assert.deepEqual([...over.keys()], [hour(7, 1), hour(7, 2), hour(7, 3), hour(7, 4)]);
  const still = hoursOf([one({ kind: "unhealthy", at: at(8, 10, 50), open: true })], NOW);
  assert.deepEqual([...still.keys()], [hour(8, 10), hour(8, 11), hour(8, 12)]);
});

test("an end whose story is not complete is no length of time", () => {
  assert.deepEqual([...hoursOf([one({ at: at(3, 2), open: true })], NOW).keys()], [hour(3, 2)]);
});

test("what is older than the week is left out, but for what reaches into it", () => {
  assert.equal(hoursOf([one({ at: at(1, 23) })], NOW).size, 0);
  const long = hoursOf([one({ kind: "unhealthy", at: at(1, 20), until: at(2, 1, 30) })], NOW);
  assert.deepEqual([...long.keys()], [hour(2, 0), hour(2, 1)]);
});

test("an end in a thousand years takes no longer than the week", () => {
  const far = hoursOf([one({ kind: "unhealthy", at: at(8, 11, 50), until: "5138-11-16T09:46:40.000Z" })], NOW);
  assert.equal(far.size, 13);
  assert.equal(hoursOf([one({ at: "5138-11-16T09:46:40.000Z" })], NOW).size, 0);
});
