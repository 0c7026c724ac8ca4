import assert from "node:assert/strict";
import { test } from "node:test";
import { Rows } from "./panel/log-rows.js";

const line = (message, process = "app") => ({ message, process, level: "info", gap: 0 });
const messages = (rows) => rows.list().map((one) => one.message);

function made() {
  const seen = { lifted: 0, ready: 0 };
  const rows = new Rows({ heightOf: () => 20, onLift: (px) => (seen.lifted += px), onReady: () => (seen.ready += 1) });
  return { rows, seen };
}

const settled = async (rows) => {
  while (rows._job) await new Promise((resolve) => setTimeout(resolve));
};

test("the oldest lines go, by count and by size, and their rows with them", () => {
  const { rows, seen } = made();
  for (let number = 0; number < 100010; number += 1) rows.keep(line(`line ${number}`));
  assert.deepEqual([rows.size, rows.all, rows.at(0).message, seen.lifted], [100000, 100000, "line 10", 200]);
  assert.deepEqual([rows.heights.size, rows.hasForgotten], [100000, true]);
  for (let number = 0; number < 40; number += 1) rows.keep(line("x".repeat(1024 * 1024)));
  assert.deepEqual([rows.size, rows.all, rows.heights.size], [32, 32, 32]);
  rows.clear();
  assert.deepEqual([rows.size, rows.hasForgotten], [0, false]);
});

test("lines that come while many are filtered are filtered too, and none is there twice", async () => {
  const { rows } = made();
  for (let number = 0; number < 90000; number += 1) rows.keep(line(`line ${number}`));
  let calls = 0;
  rows.filter(({ message }) => {
    // Slow enough to take more than a slice.
    for (let turn = 0; turn < 200; turn += 1) calls += 1;
    return message.endsWith("7");
  });
  assert.ok(rows._job);
  for (let number = 90000; number < 110000; number += 1) rows.keep(line(`line ${number}`));
  await settled(rows);
  assert.deepEqual([rows.size, rows.at(0).message, messages(rows).at(-1)], [10000, "line 10007", "line 109997"]);
});

test("a pause holds the rows and counts what waits", async () => {
  const { rows } = made();
  rows.keep(line("one"));
  rows.pause(true);
  rows.keep(line("two"));
  assert.deepEqual([messages(rows), rows.waiting, rows.all], [["one"], 1, 1]);
  rows.pause(false);
  await settled(rows);
  assert.deepEqual([messages(rows), rows.waiting], [["one", "two"], 0]);
});

test("the time that tailscaled writes is left out, and no other", () => {
  const { rows } = made();
  rows.keep(line("2026/11/24 18:20:25 dns: Set", "tailscaled"));
  rows.keep(line("2026/11/24 18:20:25.123456 netmap", "tailscaled"));
  rows.keep(line("2026/11/24 18:20:25 mine", "app"));
  assert.deepEqual(messages(rows), ["dns: Set", "netmap", "2026/11/24 18:20:25 mine"]);
});
