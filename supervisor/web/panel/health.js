// Health: the verdict with its reasons, and its history.

import { sentence } from "./api.js";
import { byId, el, fill, prose, say, show } from "./dom.js";
import { moment, span } from "./format.js";

const DOTS = { pass: "ok", warn: "warn", fail: "bad" };
const WORDS = { pass: "everything works", warn: "it works, but something needs attention", fail: "something that is needed does not work" };
let seen = null;

/** Shows the current verdict. */
export function take(told, nowMs) {
  seen = told;
  say(byId("health-status"), told.status);
  say(byId("health-words"), ` – ${WORDS[told.status]}`);
  byId("health-dot").className = `dot ${DOTS[told.status]}`;
  fill(byId("health-parts"), told.checks, (checks) => Object.entries(checks).map(([name, [part]]) => partOf(name, part, nowMs)));
  fill(byId("health-changes"), told.changes || [], (changes) => changes.slice().reverse().map((change) => changeOf(change, nowMs)));
  const notes = [...(told.warnings || []).map((text) => ["warn", text]), ...(told.notices || []).map((text) => ["ok", text])];
  show(byId("health-settings"), notes.length > 0);
  fill(byId("health-notes"), notes, (all) => all.map(([kind, text]) => note(kind, text)));
  tick(nowMs);
}

/** Updates relative times. */
export function tick(nowMs) {
  if (!seen) return;
  for (const node of byId("health-parts").querySelectorAll("[data-since]")) {
    say(node, `for ${span((nowMs - Number(node.dataset.since)) / 1000)}`);
  }
}

/** Clears the section. */
export function clear() {
  seen = null;
  for (const id of ["health-parts", "health-changes", "health-notes"]) fill(byId(id), null, () => []);
  for (const id of ["health-status", "health-words"]) say(byId(id), "");
  byId("health-dot").className = "dot";
}

function partOf(name, part, nowMs) {
  const since = Date.parse(part.time);
  return el("li", { class: "part" },
    el("span", { class: `dot ${DOTS[part.status]}`, "aria-hidden": "true" }),
    el("span", { class: "mono", text: name }), " ",
    el("span", { class: `badge ${part.status}`, text: part.status }), " ",
    el("span", { text: part.observedValue }), " ",
    Number.isNaN(since) ? "" : el("span", { class: "quiet num", title: `since ${moment(since, nowMs)}`, "data-since": String(since) }),
    part.output ? reason(part.output) : "");
}

function changeOf(change, nowMs) {
  const at = Date.parse(change.at);
  return el("li", { class: change.status },
    el("span", { class: "num quiet", text: moment(at, nowMs) }), " ",
    el("span", { class: `badge ${change.status}`, text: change.status }),
    ...change.reasons.map(named));
}

/** Formats a reason, which begins with its component's name. */
function named(text) {
  const [, name, rest] = /^([a-z0-9-]+): (.*)$/s.exec(text) || ["", "", "", text];
  return name ? el("p", { class: "reason" }, el("span", { class: "mono", text: `${name}:` }), " ", ...prose(rest)) : reason(text);
}

function note(kind, text) {
  return el("li", { class: "part" }, el("span", { class: `dot ${kind}`, "aria-hidden": "true" }), reason(text));
}

function reason(text) {
  return el("p", { class: "reason" }, ...prose(sentence(text)));
}
