import assert from "node:assert/strict";
import { test } from "node:test";
import { isOver, sentence } from "./panel/api.js";
import { ordersFor, wordsFor } from "./panel/processes.js";
import { helpFor } from "./panel/sign-in.js";
import { waitMs } from "./panel/stream.js";
import { pathOf } from "./panel/tailnet-more.js";
import { controlsFor } from "./panel/tailnet.js";
import { clock, expiry, plural, roughly, size, span } from "./panel/format.js";

const NOW = Date.parse("2026-01-01T00:00:00Z");

test("spans, sizes and counts are said as people say them", () => {
  assert.deepEqual([-5, 0, 59.9, 60, 3599, 3600, 90061].map(span), ["0 s", "0 s", "59 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "1 d 1 h"]);
  assert.deepEqual([1, 59, 60, 7200, 86400 * 15].map(roughly), ["1 second", "59 seconds", "1 minute", "2 hours", "15 days"]);
  assert.deepEqual([0, 1023, 1024, 1048575, 1048576, 156 * 2 ** 20, 3 * 2 ** 30].map(size), ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 MiB", "156 MiB", "3.0 GiB"]);
  assert.deepEqual([plural(1, "line"), plural(12345, "line")], ["1 line", "12,345 lines"]);
  assert.match(clock(NOW), /^\d\d:\d\d:\d\d$/);
});

test("a key that expires is warned of weeks ahead", () => {
  assert.deepEqual(expiry(null, NOW), { text: "does not expire", warn: false });
  assert.deepEqual(expiry("2026-06-01T00:00:00Z", NOW), { text: "in 151 days (2026-06-01)", warn: false });
  assert.deepEqual(expiry("2026-01-20T00:00:00Z", NOW), { text: "in 19 days (2026-01-20)", warn: true });
  assert.deepEqual(expiry("2025-12-31T00:00:00Z", NOW), { text: "expired on 2025-12-31", warn: true });
});

test("the wait before the next try grows, with chance in it, and has an end", () => {
  assert.deepEqual([waitMs(0, 0), waitMs(0, 1), waitMs(1, 1), waitMs(99, 0), waitMs(99, 1)], [250, 500, 1000, 7500, 15000]);
});

test("a session is over at 401, and at 429 for wrong credentials", () => {
  const over = (status, code) => isOver({ status, code });
  assert.deepEqual([over(401, "NOT_SIGNED_IN"), over(429, "TOO_MANY_ATTEMPTS"), over(429, "CODE_PRINTED_ALREADY"), over(503, "TOO_MANY_STREAMS"), over(0, "NO_ANSWER")], [true, true, false, false, false]);
  assert.equal(sentence("it broke; mend it"), "It broke; mend it.");
  assert.match(helpFor({ code: "TOO_MANY_ATTEMPTS", retryS: 30 }), /30 seconds/);
  assert.equal(helpFor({ code: "OTHER", message: "As it is." }), "As it is.");
});

test("a process has the orders that make sense in its state", () => {
  const shown = (state) => Object.entries(ordersFor({ state })).filter(([, on]) => on).map(([name]) => name).join();
  assert.deepEqual(["running", "inactive", "backoff", "failed", "ended"].map(shown), ["stop,restart", "start", "stop,try", "start", "start"]);
  assert.deepEqual(wordsFor({ state: "running", ready: false, exits: [] }), ["running, not ready", "warn"]);
});

test("the tailnet has the controls that make sense in its state", () => {
  const told = { installed: true, tailscale_up: false, choice: "connected", state: "connecting", hostname: "a.b", auth_url_pending: false };
  const shown = (more) => Object.entries(controlsFor({ ...told, ...more })).filter(([, on]) => on).map(([name]) => name);
  assert.deepEqual(shown({ installed: false }), []);
  assert.deepEqual(shown({ tailscale_up: true, state: "connected" }), ["disconnect", "forget", "key-details", "tailnet-actions"]);
  assert.deepEqual(shown({ choice: "disconnected", state: "disconnected by you" }), ["reconnect", "forget", "key-details", "tailnet-actions"]);
  assert.deepEqual(shown({ choice: "forgotten", state: "disconnected by you", hostname: null }), ["login-link", "key-details", "tailnet-actions"]);
  assert.ok(shown({ state: "needs login", hostname: null }).includes("login-link"));
  assert.ok(!shown({ state: "needs login", hostname: null, auth_url_pending: true }).includes("login-link"));
});

test("how a peer is reached", () => {
  assert.deepEqual([pathOf({ direct: "192.0.2.1:1", relay: "fra" }), pathOf({ relay: "fra" }), pathOf({ online: true }), pathOf({})], ["direct, 192.0.2.1:1", "relayed, fra", "not used yet", "–"]);
});
