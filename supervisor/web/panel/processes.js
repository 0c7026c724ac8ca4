// The processes: state, past exits, and orders to start, stop and restart.

import { ask, sentence } from "./api.js";
import { orderButton } from "./order-button.js";
import { byId, complain, el, fact, fill, keepFocus, say, show } from "./dom.js";
import { moment, plural, size, span } from "./format.js";

const REST = new Set(["inactive", "ended", "failed"]);
const HELD = {
  restoring: ["waits for a restore", "warn"],
  standby: ["stands by: another instance is at work", "warn"],
  held: ["held", "bad"],
  "held: choose": ["held: choose", "bad"],
};
const cards = new Map();

/** Shows the current state of all processes. */
export function take(told, nowMs) {
  const names = told.map((one) => one.name);
  if ([...cards.keys()].join() !== names.join()) build(names);
  for (const one of told) cards.get(one.name).take(one, nowMs);
}

/** Updates memory and CPU time, which change without other events. */
export function takeFigures(told) {
  for (const one of told) cards.get(one.name)?.takeFigures(one);
}

/** The names, in the order of their start. */
export function names() {
  return [...cards.keys()];
}

/** Updates relative times. */
export function tick() {
  for (const card of cards.values()) card.tick();
}

/** Removes all processes. */
export function clear() {
  build([]);
}

function build(names) {
  cards.clear();
  for (const name of names) cards.set(name, new Card(name));
  byId("process-list").replaceChildren(...[...cards.values()].map((card) => card.node));
  if (!names.length) byId("process-list").append(el("p", { class: "quiet", text: "Waiting for data…" }));
}

/** The orders that apply to a state. */
export function ordersFor(one) {
  const rests = REST.has(one.state);
  return { start: rests, stop: !rests, restart: !rests && one.state !== "backoff", "try": one.state === "backoff" };
}

/** The text for a state, and the class of its dot. */
export function wordsFor(one) {
  if (one.state === "running") return one.ready ? ["running", "ok"] : ["running, not ready", "warn"];
  if (one.state === "ended") return [one.exits.at(-1)?.code === 0 ? "ended successfully" : "ended", one.exits.at(-1)?.code === 0 ? "" : "bad"];
  if (one.state === "failed") return ["given up", "bad"];
  if (one.state === "inactive") return ["stopped", ""];
  if (one.state === "backoff") return ["failed, will be tried again", "bad"];
  if (HELD[one.state]) return HELD[one.state];
  return [one.state, "warn"];
}

class Card {
  constructor(name) {
    this.name = name;
    this.seen = null;
    this.title = el("h3", { text: name, tabindex: "-1" });
    this.dot = el("span", { class: "dot", "aria-hidden": "true" });
    this.state = el("span");
    this.critical = el("span", { class: "badge", text: "critical", hidden: true });
    this.why = el("p", { class: "alert warn", hidden: true });
    this.values = {};
    const cells = ["pid", "Uptime", "Restarts", "Memory", "CPU time", "Next try"].map((label) => {
      this.values[label] = el("span", { class: "num", text: "–" });
      return fact(label, this.values[label]);
    });
    this.next = cells.at(-1);
    this.error = el("p", { class: "alert error", role: "alert", hidden: true });
    this.told = el("p", { class: "hint", role: "status" });
    this.buttons = { start: this._button("start", "Start"), "try": this._button("try", "Try now"), restart: this._button("restart", "Restart"), stop: this._button("stop", "Stop") };
    this.command = el("code", { class: "command" });
    this.exits = el("ol", { class: "exits", tabindex: "0", "aria-label": "Last exits" });
    this.details = el("details", {}, el("summary", { text: "Last exits" }), this.exits);
    this.node = el("article", { class: "card process", "aria-label": name },
      el("div", { class: "head" }, this.title, this.critical, el("p", { class: "state", "aria-live": "polite" }, this.dot, this.state)),
      this.command, el("dl", { class: "facts figures" }, ...cells), this.why,
      el("div", { class: "actions" }, ...Object.values(this.buttons)), this.error, this.told, this.details);
  }

  _button(verb, text) {
    const label = verb === "try" ? `Try ${this.name} now` : `${text} ${this.name}`;
    const button = el("button", { class: `button ${verb === "start" || verb === "try" ? "" : "secondary"} small`, type: "button", text, "aria-label": label });
    const path = `processes/${encodeURIComponent(this.name)}/${verb === "try" ? "start" : verb}`;
    orderButton(button, { order: () => ask("POST", path), world: () => this._world(), error: this.error, told: this.told });
    return button;
  }

  _world() {
    const one = this.seen;
    return JSON.stringify([one.state, one.pid, one.since, one.restarts, one.failures]);
  }

  take(one, nowMs) {
    this.seen = one;
    this.atMs = performance.now();
    const [words, dot] = wordsFor(one);
    say(this.state, words);
    this.dot.className = `dot ${dot}`;
    show(this.critical, one.critical);
    complain(this.why, this._why(one));
    say(this.command, one.command);
    say(this.values.pid, one.pid === null ? "–" : String(one.pid));
    say(this.values.Restarts, String(one.restarts));
    keepFocus(this.title, () => {
      for (const [verb, visible] of Object.entries(ordersFor(one))) show(this.buttons[verb], visible);
      show(this.details, one.exits.length > 0);
    });
    fill(this.exits, one.exits, (exits) => exits.slice().reverse().map((end) => exitOf(end, nowMs)));
    this.takeFigures(one);
    this.tick();
  }

  _why(one) {
    if (one.state === "running" && !one.ready) return one.ready_why ? sentence(one.ready_why) : "";
    if (one.held_why) return sentence(one.held_why);
    if (one.state === "waiting" && one.ready_why) return sentence(one.ready_why);
    if (one.needs_restart) return sentence(one.needs_restart);
    const last = one.exits.at(-1);
    return ["backoff", "failed"].includes(one.state) && last ? sentence(last.reason) : "";
  }

  takeFigures(one) {
    say(this.values.Memory, one.memory_bytes === null ? "–" : size(one.memory_bytes));
    say(this.values["CPU time"], one.cpu_s === null ? "–" : span(one.cpu_s));
  }

  tick() {
    const one = this.seen;
    const passed = (performance.now() - this.atMs) / 1000;
    say(this.values.Uptime, one.uptime_s === null ? "–" : span(one.uptime_s + passed));
    show(this.next, one.next_try_in_s !== null);
    if (one.next_try_in_s !== null) say(this.values["Next try"], `in ${Math.ceil(Math.max(0, one.next_try_in_s - passed))} s`);
  }
}

function exitOf(end, nowMs) {
  const how = end.signal || (end.code === null ? "" : `code ${end.code}`);
  const head = el("p", {},
    el("span", { class: "num", text: moment(Date.parse(end.at), nowMs) }), " ",
    el("span", { class: `badge ${end.expected ? "" : "warn"}`, text: how || "?" }), ` ${sentence(end.reason)} `,
    el("span", { class: "quiet", text: `After ${span(end.uptime_s)}.` }));
  if (!end.last_lines.length) return el("li", {}, head);
  const lines = el("pre", { tabindex: "0", "aria-label": `Last ${plural(end.last_lines.length, "line")}`, text: end.last_lines.join("\n") });
  return el("li", {}, head, lines);
}
