// Backups: their state, the snapshots, and orders to take or restore one.

import { ask, sentence } from "./api.js";
import { confirmed } from "./dialog.js";
import { byId, complain, el, fact, fill, say, show } from "./dom.js";
import { moment, plural, size, span } from "./format.js";
import { orderButton } from "./order-button.js";
import { names } from "./processes.js";

const DOTS = { idle: "ok", snapshot: "ok", maintenance: "ok", held: "bad", "held: choose": "bad", replaced: "bad", without: "warn" };
const WORDS = {
  starting: "checking the repository",
  restoring: "restoring",
  held: "held",
  "held: choose": "held: choose which files to use",
  idle: "waiting for the next snapshot",
  snapshot: "taking a snapshot",
  maintenance: "maintaining the repository",
  standby: "standing by: another instance is at work",
  replaced: "another instance has taken over",
  without: "started without a backup: no snapshots are taken",
};
const REASONS = { interval: "scheduled", asked: "requested", adopt: "files found at the first start", "before restore": "before a restore", stop: "at a stop" };
let seen = null;

/** Sets the buttons up. */
export function setUp() {
  const about = { world, error: byId("backups-error"), told: byId("backups-told") };
  orderButton(byId("backup-now"), { ...about, order: () => ask("POST", "backups") });
  orderButton(byId("start-without"), {
    ...about,
    order: () => ask("POST", `processes/${encodeURIComponent(names()[0])}/start`, { without_backup: true }),
    first: () => confirmed("Start without a backup?", "Everything starts with the files that are here. Nothing is restored, and no snapshots are taken until the container is restarted.", "Start without a backup"),
  });
}

/** Shows the current state. */
export function take(told, nowMs) {
  seen = told;
  const isOn = told.state !== "off";
  show(byId("backups"), isOn);
  show(byId("to-backups"), isOn);
  if (!isOn) return;
  const isBad = Boolean(told.why || told.warning);
  say(byId("backups-state"), WORDS[told.state] || told.state);
  byId("backups-dot").className = `dot ${isBad && DOTS[told.state] !== "bad" ? "warn" : DOTS[told.state] || "warn"}`;
  const why = told.why ? [told.why, told.what_to_do] : told.warning ? [`the last snapshot is not whole: ${told.warning}`] : [];
  byId("backups-why").className = `alert ${told.held && told.why ? "error" : "warn"}`;
  complain(byId("backups-why"), why.filter(Boolean).map(sentence).join(" "));
  show(byId("backups-progress"), told.progress !== null);
  if (told.progress !== null) byId("backups-progress").value = told.progress;
  const mayChoose = told.state === "held: choose";
  show(byId("start-without"), told.held && (mayChoose || told.state === "held"));
  say(byId("backup-now"), mayChoose ? "Keep the files that are here" : "Back up now");
  fill(byId("backups-list"), told.snapshots, (all) => all.map((one) => rowOf(one, nowMs)));
  tick(nowMs);
}

/** Updates relative times. */
export function tick(nowMs) {
  if (!seen || seen.state === "off") return;
  const [last] = seen.snapshots;
  const ago = (text) => `${span((nowMs - Date.parse(text)) / 1000)} ago`;
  const facts = [
    ["Last snapshot", last ? `${ago(last.at)}, ${size(last.added_bytes)} new in ${span(last.duration_s)}` : "none yet"],
    ["Size", last ? `${size(last.size_bytes)} in ${plural(last.files, "file")}` : "–"],
    ["Next", seen.next && seen.state === "idle" ? `in ${span((Date.parse(seen.next) - nowMs) / 1000)}` : "–"],
    ["Generation", String(seen.generation)],
    ["Repository", seen.repository || "–"],
  ];
  fill(byId("backups-facts"), facts, (all) => all.map(([name, text]) => fact(name, text)));
}

/** Clears the section. */
export function clear() {
  seen = null;
  show(byId("backups"), false);
  show(byId("to-backups"), false);
}

function world() {
  return JSON.stringify([seen?.state, seen?.held, seen?.why, seen?.snapshots[0]?.id]);
}

function rowOf(one, nowMs) {
  const id = one.id.slice(0, 8);
  const at = moment(Date.parse(one.at), nowMs);
  const button = el("button", { class: "button secondary small", type: "button", text: "Restore this one", "aria-label": `Restore ${id} of ${at}` });
  const error = el("p", { class: "alert error", role: "alert", hidden: true });
  const told = el("p", { class: "hint", role: "status" });
  orderButton(button, {
    order: () => ask("POST", `backups/${one.id}/restore`, { confirm: true }),
    world,
    error,
    told,
    first: () => confirmed(
      `Restore the snapshot of ${at}?`,
      `The app is stopped, its folders are replaced with this snapshot (${size(one.size_bytes)}), and it is started again. The current files are saved as a snapshot first. Identity and settings stay.`,
      "Restore this one",
    ),
  });
  return el("li", { class: "part snapshot" },
    el("span", {},
      el("span", { class: "mono", text: id }), " ",
      el("span", { class: "num", text: at }), " ",
      one.whole ? "" : el("span", { class: "badge warn", text: "not whole" }), " ",
      one.replaced ? el("span", { class: "badge warn", text: "of a replaced instance" }) : "", " ",
      el("span", { class: "quiet num", text: `${one.generation}.${one.sequence}, ${size(one.size_bytes)}, ${REASONS[one.reason] || one.reason || ""}` })),
    button, error, told);
}
