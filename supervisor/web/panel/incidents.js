// Incidents: an overview of the last week, the details of each, and the text for a bug report.

import { ask, sentence } from "./api.js";
import { byId, complain, copied, el, fact, fill, prose, say } from "./dom.js";
import { clock, moment, plural, size, span } from "./format.js";

const HOUR = 3600000, DAYS = 7;
const LASTING = new Set(["tailnet-away", "unhealthy"]);
const RANKS = { info: 1, warning: 2, error: 3 };
const DOTS = { info: "", warning: "warn", error: "bad" };
const DAY_NAMES = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
let seen = [];
let asked = -1;
let turn = 0;

/** Sets the dialog's buttons up. */
export function setUp() {
  byId("report-close").addEventListener("click", () => byId("report").close());
  byId("report-copy").addEventListener("click", copy);
}

/** Fetches the incidents if they have changed. */
export async function take(news, nowMs) {
  if (news.changes === asked) return;
  asked = news.changes;
  const mine = ++turn;
  try {
    const told = await ask("GET", "incidents");
    if (mine !== turn) return;
    seen = told.incidents;
    complain(byId("incidents-error"), "");
    complain(byId("incidents-why"), why(told));
    draw(nowMs);
  } catch (error) {
    if (mine !== turn) return;
    asked = -1;
    complain(byId("incidents-error"), error.message);
  }
}

/** Updates the overview of the week. */
export function tick(nowMs) {
  drawWeek(nowMs);
}

/** Fetches the incidents with the next news, whose number is of another run. */
export function anew() {
  asked = -1;
}

/** Clears the section. */
export function clear() {
  seen = [];
  asked = -1;
  turn += 1;
  byId("report").close();
  say(byId("report-text"), "");
  fill(byId("incident-list"), null, () => []);
  fill(byId("week"), null, () => []);
  say(byId("incidents-state"), "");
}

function why(told) {
  const unread = told.unread.length ? `cannot be read, and are left as they are: ${told.unread.join(", ")}` : "";
  const lost = told.why_not ? `they are only in memory, and are lost with the container: ${told.why_not}` : "";
  return [lost, unread].filter(Boolean).map(sentence).join(" ");
}

function draw(nowMs) {
  drawWeek(nowMs);
  const bad = seen.filter((one) => one.level !== "info" && nowMs - Date.parse(one.at) < DAYS * 24 * HOUR);
  const worst = bad.some((one) => one.level === "error") ? "bad" : bad.length ? "warn" : "ok";
  byId("incidents-dot").className = `dot ${worst}`;
  say(byId("incidents-state"), bad.length ? `${plural(bad.length, "incident")} in the last week` : "no warnings or errors in the last week");
  const open = new Set([...byId("incident-list").querySelectorAll("details[open]")].map((node) => node.dataset.id));
  fill(byId("incident-list"), seen, (all) => all.map((one) => rowOf(one, nowMs, open.has(one.id))));
}

/** The incidents of each hour of the last week and their worst level, by the start of the hour in local time. */
export function hoursOf(incidents, nowMs) {
  const hours = new Map();
  const first = startOfDay(nowMs, DAYS - 1);
  // A wrong clock may have set its end centuries ahead.
  const last = startOfDay(nowMs, -1) - 1;
  for (const one of incidents) {
    const begin = Date.parse(one.at);
    const end = one.until ? Date.parse(one.until) : one.open && LASTING.has(one.kind) ? nowMs : begin;
    if (Math.max(begin, end) < first) continue;
    for (let at = hourOf(Math.max(begin, first)); at <= Math.min(Math.max(end, begin), last); at += HOUR) {
      const cell = hours.get(at) || { level: "", all: [] };
      cell.all.push(one);
      if (!cell.level || RANKS[one.level] > RANKS[cell.level]) cell.level = one.level;
      hours.set(at, cell);
    }
  }
  return hours;
}

function hourOf(ms) {
  return new Date(ms).setMinutes(0, 0, 0);
}

function startOfDay(nowMs, back) {
  const at = new Date(nowMs);
  return new Date(at.getFullYear(), at.getMonth(), at.getDate() - back).getTime();
}

function drawWeek(nowMs) {
  const hours = hoursOf(seen, nowMs);
  const key = [hourOf(nowMs), [...hours].map(([at, cell]) => [at, cell.level, cell.all.length])];
  fill(byId("week"), key, () => {
    const rows = [el("span", {}), ...Array.from({ length: 24 }, (_, hour) => el("span", { class: "hour", text: hour % 6 ? "" : String(hour) }))];
    for (let back = DAYS - 1; back >= 0; back -= 1) {
      const day = new Date(startOfDay(nowMs, back));
      rows.push(el("span", { class: "day", text: back ? `${DAY_NAMES[day.getDay()]} ${day.getDate()}` : "Today" }));
      for (let hour = 0; hour < 24; hour += 1) rows.push(cellOf(new Date(day).setHours(hour), hours, nowMs));
    }
    return rows;
  });
  byId("week").setAttribute("aria-label", `The last week, hour by hour: ${worstOf(hours)}`);
}

function cellOf(at, hours, nowMs) {
  const cell = hours.get(at);
  if (!cell) return el("span", { class: `cell ${at > nowMs ? "ahead" : ""}` });
  const what = cell.all.map((one) => one.what).slice(0, 8).join("\n");
  const go = () => {
    const row = byId("incident-list").querySelector(`[data-id="${CSS.escape(cell.all[0].id)}"]`);
    if (row) row.open = true;
    row?.scrollIntoView({ block: "nearest" });
  };
  const count = cell.all.length > 1 ? String(Math.min(99, cell.all.length)) : "";
  return el("span", { class: `cell ${cell.level}`, title: `${clock(at).slice(0, 5)}\n${what}`, text: count, onclick: go });
}

function worstOf(hours) {
  const bad = [...hours].filter(([, cell]) => cell.level === "error").sort((one, other) => other[1].all.length - one[1].all.length);
  if (!bad.length) return "no failures";
  return `${plural(bad.length, "hour")} in which something failed, most of it from ${moment(bad[0][0], 0)} on`;
}

function rowOf(one, nowMs, isOpen) {
  const at = Date.parse(one.at);
  const story = el("div", { class: "story" });
  const details = el("details", { "data-id": one.id, ontoggle: () => details.open && tell(one, story) },
    el("summary", {},
      el("span", { class: `dot ${DOTS[one.level]}`, "aria-hidden": "true" }), " ",
      el("span", { class: "num quiet", text: moment(at, nowMs) }), " ",
      el("strong", { text: one.what }), " ",
      one.times > 1 ? el("span", { class: "badge", text: `${one.times} times` }) : "", " ",
      el("span", { class: "hidden", text: one.level })),
    story);
  details.open = isOpen;
  return el("li", { class: "part" }, details);
}

/** Shows the details of an incident below it. */
async function tell(one, story) {
  const until = one.until ? span((Date.parse(one.until) - Date.parse(one.at)) / 1000) : one.open && LASTING.has(one.kind) ? "not over yet" : "";
  const memory = [one.peak_bytes && `peak ${size(one.peak_bytes)}`, one.limit_bytes && `limit ${size(one.limit_bytes)}`].filter(Boolean).join(", ");
  const facts = [
    ["Why", one.why], ["Likely cause", one.cause], ["What was done", one.done],
    ["Exit code", one.code], ["Signal", one.signal], ["Had run for", one.uptime_s !== null && span(one.uptime_s)],
    ["Memory", memory], ["Lasted", until], ["Requested by", one.by], ["Version", one.version],
  ].filter(([, text]) => text !== null && text !== "" && text !== false);
  const error = el("p", { class: "alert error", role: "alert", hidden: true });
  const mine = (story._asked = {});
  story.replaceChildren(
    el("dl", { class: "facts" }, ...facts.map(([name, text]) => fact(name, ...prose(String(text))))),
    error);
  try {
    const told = await ask("GET", `incidents/${encodeURIComponent(one.id)}`);
    // It was closed and opened again meanwhile.
    if (story._asked !== mine) return;
    const lines = told.last_lines.join("\n");
    if (lines) story.append(el("pre", { text: lines, tabindex: "0", "aria-label": "Last lines" }));
    story.append(el("button", {
      class: "button secondary small", type: "button", text: "Copy for a bug report",
      "aria-label": `Copy for a bug report: ${one.what}`, onclick: () => show(told.report),
    }));
  } catch (failure) {
    complain(error, failure.message);
  }
}

function show(report) {
  say(byId("report-text"), report);
  say(byId("report-told"), "");
  byId("report").showModal();
  byId("report-copy").focus();
}

async function copy() {
  say(byId("report-told"), await copied(byId("report-text")));
}
