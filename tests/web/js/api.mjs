import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

const KEY = "moltis-supervisor-session";
const kept = new Map();
globalThis.localStorage = {
  getItem: (name) => kept.get(name) ?? null,
  setItem: (name, text) => kept.set(name, text),
  removeItem: (name) => kept.delete(name),
};
const { ask, forget, signIn, token, whenEnded } = await import("./panel/api.js");

const NOW = "2026-11-30T12:00:00Z";
let ended = [];

/** Answers every request with this status and document. */
function answers(status, document) {
  globalThis.fetch = async () => new Response(JSON.stringify(document), { status });
}

/** Another tab signs in: it shares the storage. */
function otherTab(session) {
  kept.set(KEY, JSON.stringify({ session, expires_at: NOW }));
}

beforeEach(() => {
  kept.clear();
  ended = [];
  whenEnded((why) => ended.push(why));
});

test("a session lasts as long as the supervisor says, whatever this machine's clock", async () => {
  answers(200, { session: "mine", expires_at: "2001-01-01T00:00:00Z" });
  await signIn("a-token");
  assert.equal(token(), "mine");
});

test("a token that looks like a code is tried while codes are throttled", async () => {
  const refusal = new Response(JSON.stringify({ code: "TOO_MANY_ATTEMPTS", error: "wait" }), { status: 429 });
  globalThis.fetch = async (path, { body }) =>
    JSON.parse(body).code ? refusal : new Response(JSON.stringify({ session: "mine", expires_at: NOW }));
  await signIn("correcthorsebattery".padEnd(20, "x"));
  assert.equal(token(), "mine");
});

test("a refusal ends the session that was refused", async () => {
  otherTab("old");
  answers(401, { code: "NOT_SIGNED_IN", error: "sign in" });
  await assert.rejects(ask("GET", "doctor"), { code: "NOT_SIGNED_IN" });
  assert.equal(token(), null);
  assert.equal(ended.length, 1);
});

test("a newer session of another tab outlives the end of this tab's own", async () => {
  otherTab("old");
  answers(401, { code: "NOT_SIGNED_IN", error: "sign in" });
  const asked = ask("GET", "doctor");
  otherTab("new");
  await assert.rejects(asked);
  forget("old", "it has ended");
  assert.equal(token(), "new");
  assert.deepEqual(ended, []);
  forget("new", "it has ended");
  assert.deepEqual([token(), ended], [null, ["it has ended"]]);
});
