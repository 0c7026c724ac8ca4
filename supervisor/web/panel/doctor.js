// The doctor: the report, a check of the event stream in this browser, and the text for a bug report.

import { ask, sentence } from "./api.js";
import { byId, complain, copied, el, fill, prose, say, show } from "./dom.js";
import { plural } from "./format.js";

const DOTS = { ok: "ok", note: "warn", problem: "bad" };
const BADGES = { ok: "pass", note: "warn", problem: "fail" };
// The supervisor logs this before it responds: a proxy that buffers the stream delays this line too.
const SAID = "everything was checked";
const HEARD_MS = 3000;
let heard = () => {};
let turn = 0;

/** Sets the buttons up. */
export function setUp() {
  byId("doctor-go").addEventListener("click", check);
  byId("doctor-copy").addEventListener("click", copy);
}

/** Looks for the doctor's line in new lines of the log. */
export function hear(lines) {
  if (lines.some((line) => line.process === "supervisor" && line.message.startsWith(SAID))) heard();
}

/** Clears the section; a report that is still being made belongs to the session that asked for it. */
export function clear() {
  turn += 1;
  fill(byId("doctor-found"), null, () => []);
  for (const id of ["doctor-level", "doctor-told", "doctor-text"]) say(byId(id), "");
  byId("doctor-dot").className = "dot";
  complain(byId("doctor-error"), "");
  show(byId("doctor-share"), false);
}

async function check() {
  const button = byId("doctor-go");
  if (button.hasAttribute("aria-disabled")) return;
  button.setAttribute("aria-disabled", "true");
  say(button, "Checking…");
  say(byId("doctor-told"), "This takes a few seconds.");
  complain(byId("doctor-error"), "");
  const mine = turn;
  const line = new Promise((resolve) => { heard = () => resolve(true); });
  try {
    const report = await ask("GET", "doctor");
    const late = new Promise((resolve) => { setTimeout(resolve, HEARD_MS, false); });
    const stream = ofStream(await Promise.race([line, late]));
    if (mine === turn) take(report, stream);
  } catch (error) {
    if (mine !== turn) return;
    complain(byId("doctor-error"), error.message);
    say(byId("doctor-told"), "");
  } finally {
    button.removeAttribute("aria-disabled");
    say(button, "Check everything");
  }
}

/** A finding that only this page can make: whether the event stream arrives without delay. */
function ofStream(isPrompt) {
  return {
    group: "tailnet",
    check: "event-stream",
    level: isPrompt ? "ok" : "problem",
    looked_at: "how soon a line of the log gets to this page",
    found: isPrompt ? "at once" : `not within ${HEARD_MS / 1000} s: something between here and the supervisor delays the stream`,
    why: "a proxy that buffers event streams shows everything late, here and in the app",
    what_to_do: isPrompt ? null : "disable its buffering (nginx: `proxy_buffering off`), or open the panel in the tailnet",
    page: "reference/api.md",
  };
}

function take(report, stream) {
  const findings = [...report.findings, stream];
  const count = (level) => findings.filter((each) => each.level === level).length;
  const worst = ["problem", "note", "ok"].find((level) => count(level));
  byId("doctor-dot").className = `dot ${DOTS[worst]}`;
  say(byId("doctor-level"), count("problem") ? plural(count("problem"), "problem") : "no problem");
  say(byId("doctor-told"), `${plural(findings.length, "finding")}: ${plural(count("problem"), "problem")}, ${plural(count("note"), "note")}, ${count("ok")} ok.`);
  fill(byId("doctor-found"), findings, groupsOf);
  say(byId("doctor-text"), `${report.text}\n## seen in the browser\n- ${stream.level}: ${stream.check}: ${stream.found}\n`);
  show(byId("doctor-share"), true);
}

/** The findings by group, groups with problems first. */
function groupsOf(findings) {
  const groups = [...new Set(findings.map((each) => each.group))].map((group) => [group, findings.filter((each) => each.group === group)]);
  const weight = ([, found]) => found.filter((each) => each.level === "problem").length * 100 + found.filter((each) => each.level === "note").length;
  return groups.sort((one, other) => weight(other) - weight(one)).map(([group, found]) => groupOf(group, found));
}

function groupOf(group, found) {
  const title = group.charAt(0).toUpperCase() + group.slice(1);
  const [well, rest] = [found.filter((each) => each.level === "ok"), found.filter((each) => each.level !== "ok")];
  rest.sort((one, other) => Number(other.level === "problem") - Number(one.level === "problem"));
  return el("div", {},
    el("h3", { text: title }),
    rest.length ? el("ul", { class: "plain", "aria-label": title }, ...rest.map(findingOf)) : null,
    well.length ? el("details", {}, el("summary", { text: `${well.length} ok` }), el("ul", { class: "plain" }, ...well.map(findingOf))) : null);
}

function findingOf(found) {
  const isWell = found.level === "ok";
  return el("li", { class: "part" },
    el("span", { class: `dot ${DOTS[found.level]}`, "aria-hidden": "true" }),
    el("span", { class: "mono", text: found.check }), " ",
    el("span", { class: `badge ${BADGES[found.level]}`, text: found.level }), " ",
    el("span", {}, ...prose(found.found)),
    found.what_to_do ? el("p", { class: "reason" }, el("strong", { text: "To do: " }), ...prose(sentence(found.what_to_do))) : null,
    isWell ? null : el("p", { class: "reason quiet" }, ...prose(`Looked at ${found.looked_at}. Why it matters: ${found.why}.`), found.page ? ` More: docs/${found.page}` : ""));
}

async function copy() {
  say(byId("doctor-copied"), await copied(byId("doctor-text")));
}
