import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

// As much of a page as the sections need.
class Node {
  constructor() {
    Object.assign(this, { textContent: "", hidden: true, className: "", children: [], dataset: {}, listeners: {} });
  }
  append(...nodes) { this.children.push(...nodes); }
  replaceChildren(...nodes) { this.children = nodes; }
  setAttribute(name, value) { this[name] = value; }
  removeAttribute(name) { delete this[name]; }
  hasAttribute(name) { return name in this; }
  addEventListener(name, then) { this.listeners[name] = then; }
  querySelectorAll() { return []; }
  close() {}
}
const nodes = new Map();
globalThis.localStorage = { getItem: () => JSON.stringify({ session: "mine" }) };
globalThis.document = {
  body: new Node(),
  activeElement: null,
  createElement: () => new Node(),
  querySelectorAll: () => [],
  getElementById: (id) => nodes.get(id) || nodes.set(id, new Node()).get(id),
};
const byId = document.getElementById;
const doctor = await import("./panel/doctor.js");
const incidents = await import("./panel/incidents.js");
const tailnet = await import("./panel/tailnet.js");

const NOW = Date.parse("2026-01-01T00:00:00Z");
const PENDING = {
  installed: true, choice: "connected", state: "needs login", hostname: null, auth_url_pending: true, tailscale_up: false,
  warnings: [], notes: [], health: [], exposed: [], peers: [], orders: [], serve: { urls: [], why: null, config: null },
};
let answers = [];

beforeEach(() => {
  answers = [];
  globalThis.fetch = () => new Promise((resolve, reject) => answers.push({
    say: (body) => resolve(new Response(JSON.stringify(body))),
    fail: () => reject(new TypeError("no network")),
  }));
});

/** Lets what was answered be taken. */
const taken = () => new Promise((resolve) => setTimeout(resolve, 10));
/** The text of what a node complains of. */
const complaint = (id) => (byId(id).hidden ? "" : byId(id).children.join(""));
const link = (url) => ({ auth_url: url, qr_svg: "<svg></svg>" });

test("an older login link does not come after a newer one", async () => {
  tailnet.clear();
  tailnet.take(PENDING, NOW);
  tailnet.take(PENDING, NOW);
  answers[1].say(link("https://new.example/"));
  await taken();
  answers[0].say(link("https://old.example/"));
  await taken();
  assert.equal(byId("tailnet-url").textContent, "https://new.example/");
});

test("a link that could not be fetched is told until one is", async () => {
  tailnet.clear();
  tailnet.take(PENDING, NOW);
  answers[0].fail();
  await taken();
  assert.match(complaint("tailnet-error"), /does not answer/);
  tailnet.take(PENDING, NOW);
  answers[1].say(link("https://new.example/"));
  await taken();
  assert.equal(complaint("tailnet-error"), "");
  tailnet.take(PENDING, NOW);
  tailnet.clear();
  answers[2].fail();
  await taken();
  assert.equal(complaint("tailnet-error"), "");
});

test("incidents that came are not said to be missing by an older request", async () => {
  incidents.clear();
  const all = { incidents: [], unread: [], why_not: null };
  incidents.take({ changes: 1 }, NOW);
  incidents.take({ changes: 2 }, NOW);
  answers[1].say(all);
  await taken();
  answers[0].fail();
  await taken();
  assert.equal(complaint("incidents-error"), "");
  incidents.take({ changes: 2 }, NOW);
  assert.equal(answers.length, 2);
  // The number of another run may be the same.
  incidents.anew();
  incidents.take({ changes: 2 }, NOW);
  assert.equal(answers.length, 3);
});

test("a report that comes after the end of its session is not shown", async () => {
  doctor.setUp();
  const asked = byId("doctor-go").listeners.click();
  doctor.clear();
  answers[0].fail();
  await asked;
  assert.equal(complaint("doctor-error"), "");
});

test("an incident that is opened twice has its details once", async () => {
  incidents.clear();
  incidents.take({ changes: 1 }, NOW);
  const one = { id: "one", kind: "crash", level: "error", at: "2026-01-01T00:00:00Z", until: null, what: "it crashed", uptime_s: null, times: 1 };
  answers[0].say({ incidents: [one], unread: [], why_not: null });
  await taken();
  const [details] = byId("incident-list").children[0].children;
  details.open = true;
  details.listeners.toggle();
  details.listeners.toggle();
  for (const answer of answers.slice(1)) answer.say({ last_lines: ["the last"], report: "" });
  await taken();
  // The facts, the place of an error, the lines, and the button.
  assert.equal(details.children.at(-1).children.length, 4);
});
