// The log: stored in a ring and filtered as it arrives; only visible rows are in the page.

import { Line } from "./log-line.js";
import { byId, complain, el, say, show } from "./dom.js";
import { Rows } from "./log-rows.js";
import { filter, rowsOf } from "./ring.js";
import { clock, plural } from "./format.js";

const OVERSCAN_PX = 200;
const HAND_MS = 1000;
const UPWARDS = new Set(["ArrowUp", "PageUp", "Home"]);
const DOWNWARDS = new Set(["ArrowDown", "PageDown", " "]);
const TELL_MS = 1000;
const REMARK_MS = 5000;
// Browsers cannot position elements beyond about 30 million pixels.
const MOST_MOVED_PX = 1_000_000;
const drawn = new Map();
const rows = new Rows({ heightOf, onLift: lift, onReady: redrawAll });
let wanted = { process: "", level: "info", text: "" };
let whenFiltered = () => {};
let follows = true;
let touchedMs = -HAND_MS;
let lastPx = 0;
let paintedPx = 0;
let originPx = 0;
let due = false;
let gaps = 0;
let note = "";
let toldMs = 0;
let tellLater = 0;
let metrics = { row: 20, columns: 80, wide: true };

/** Adds new lines, and the number of lines lost before them. */
export function take({ lines, lost }) {
  if (lost > 0) rows.keep({ gap: lost, id: `gap-${gaps++}`, message: "", level: "", process: "" });
  for (const line of lines) rows.keep({ ...line, gap: 0 });
  draw();
}

/** Updates the list of processes to filter by. */
export function takeProcesses(found) {
  const names = [...found.map((one) => one.name), "supervisor"];
  const select = byId("log-process");
  if ([...select.options].slice(1).map((option) => option.value).join() === names.join()) return;
  const chosen = select.value;
  select.replaceChildren(el("option", { value: "", text: "All" }), ...names.map((name) => el("option", { value: name, text: name })));
  select.value = names.includes(chosen) ? chosen : "";
}

/** Redraws all rows for a new theme. */
export function redraw() {
  rows.rebuild();
}

/** Removes all lines. */
export function clear() {
  rows.clear();
  say(byId("log-pause"), "Pause");
}

let lifted = 0;

/** Keeps the visible rows in place when rows above them are removed. */
function lift(height) {
  if (!follows) lifted += height;
}

function heightOf(line) {
  if (line.gap) return metrics.row;
  const taken = metrics.wide ? 0 : metrics.row;
  return rowsOf(line.message, metrics.columns) * metrics.row + taken;
}

/** Removes all rows from the page; the visible ones are then added at their new positions. */
function putAnew() {
  byId("log-rows").replaceChildren();
  drawn.clear();
  originPx = rows.heights.gone;
}

/** Redraws after a change of filter, width or pause. */
function redrawAll() {
  putAnew();
  lifted = 0;
  whenFiltered();
  whenFiltered = () => {};
  draw();
}

function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    paint();
  });
}

function paint() {
  const box = byId("log");
  if (!box.clientHeight) return;
  // While a person scrolls, the end stays in place; a moving end could not be reached.
  paintedPx = follows || !byHand() ? rows.heights.total : Math.min(paintedPx, rows.heights.total);
  byId("log-space").style.setProperty("height", `${paintedPx}px`);
  if (follows) box.scrollTop = rows.heights.total;
  else if (lifted) box.scrollTop -= lifted;
  // Scrolling by the program does not count as scrolling to the end.
  if (follows || lifted) lastPx = box.scrollTop;
  lifted = 0;
  if (rows.heights.gone - originPx > MOST_MOVED_PX) putAnew();
  byId("log-rows").style.setProperty("transform", `translateY(${originPx - rows.heights.gone}px)`);
  const top = box.scrollTop - OVERSCAN_PX;
  const bottom = Math.min(paintedPx, box.scrollTop + box.clientHeight + OVERSCAN_PX);
  const inSight = new Set();
  for (let at = rows.heights.find(Math.max(0, top)); at < rows.size && rows.heights.top(at) < bottom; at += 1) {
    const line = rows.at(at);
    inSight.add(line);
    let node = drawn.get(line);
    if (!node) {
      node = Line(line, wanted.text);
      drawn.set(line, node);
      // Rows keep their position; the container moves when rows are removed at the top.
      node.style.setProperty("top", `${rows.heights.top(at) + rows.heights.gone - originPx}px`);
      byId("log-rows").append(node);
    }
  }
  for (const [line, node] of drawn) {
    if (inSight.has(line)) continue;
    node.remove();
    drawn.delete(line);
  }
  tell();
}

// Based on what is painted, since nobody can have scrolled away from lines that are not on the page yet.
function isAtEnd() {
  const box = byId("log");
  return box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
}

function byHand() {
  return performance.now() - touchedMs < HAND_MS;
}

function tell() {
  const isPart = wanted.process || wanted.level || wanted.text;
  const words = isPart ? `${plural(rows.size, "line")} of ${rows.all.toLocaleString("en")}` : plural(rows.all, "line");
  say(byId("log-count"), rows.hasForgotten && !rows.held ? `${words}, the last of more` : words);
  if (!rows.held) return say(byId("log-told"), note);
  // Limited to once a second, because screen readers read it out.
  const early = toldMs + TELL_MS - performance.now();
  if (early > 0 && byId("log-told").textContent.startsWith("Paused")) {
    tellLater ||= setTimeout(() => {
      tellLater = 0;
      draw();
    }, early);
    return;
  }
  toldMs = performance.now();
  say(byId("log-told"), `Paused. ${plural(rows.waiting, "new line")} waiting.`);
}

/** Shows a message for a few seconds. */
function remark(text) {
  note = text;
  say(byId("log-told"), text);
  setTimeout(() => {
    if (note === text) note = "";
    draw();
  }, REMARK_MS);
}

function measure() {
  const box = byId("log");
  const probe = el("div", { class: "line probe" }, el("span", { class: "message", text: "0".repeat(10) }));
  byId("log-space").append(probe);
  const message = probe.firstChild;
  const range = document.createRange();
  range.selectNodeContents(message);
  const character = range.getBoundingClientRect().width / 10;
  const wide = matchMedia("(min-width: 760px)").matches;
  const next = { row: message.getBoundingClientRect().height, columns: Math.floor((message.clientWidth + 0.5) / character), wide };
  probe.remove();
  if (!character || JSON.stringify(next) === JSON.stringify(metrics)) return;
  metrics = next;
  rows.rebuild();
}

function pause(on) {
  rows.pause(on);
  say(byId("log-pause"), on ? "Resume" : "Pause");
  draw();
}

function setFollow(on) {
  follows = on;
  byId("log-follow").setAttribute("aria-pressed", String(on));
  if (on) draw();
}

function goToEnd() {
  // The rest of a scroll that is under way is ignored.
  touchedMs = -HAND_MS;
  setFollow(true);
}

/** All lines that pass the filter, as text. */
function text() {
  return rows.list().map((line) => (line.gap ? `… ${plural(line.gap, "line")} skipped` : `${line.at} ${line.process} ${line.level.toUpperCase()} ${line.message}`)).join("\n") + "\n";
}

async function copy() {
  complain(byId("log-error"), "");
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text());
    else copyOldWay();
    remark(`Copied ${plural(rows.size, "line")}.`);
  } catch {
    complain(byId("log-error"), "The browser does not allow copying here. Use Download instead.");
  }
}

// Browsers offer no clipboard to pages loaded without TLS.
function copyOldWay() {
  const area = el("textarea", { class: "hidden", readonly: true });
  area.value = text();
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  byId("log-copy").focus();
  if (!done) throw new Error("refused");
}

function download() {
  const url = URL.createObjectURL(new Blob([text()], { type: "text/plain" }));
  const link = el("a", { href: url, download: `moltis-log-${clock(Date.now()).replaceAll(":", "")}.txt` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function choose() {
  wanted = { process: byId("log-process").value, level: byId("log-level").value, text: byId("log-search").value };
  whenFiltered = () => {
    if (!rows.held) remark(wanted.text ? `${plural(rows.size, "line")} found.` : "");
  };
  rows.filter(filter(wanted));
}

/** Sets the controls up. */
export function setUp() {
  const box = byId("log");
  for (const id of ["log-process", "log-level"]) byId(id).addEventListener("change", choose);
  byId("log-search").addEventListener("input", choose);
  byId("log-pause").addEventListener("click", () => pause(!rows.held));
  byId("log-follow").addEventListener("click", () => (follows ? setFollow(false) : goToEnd()));
  byId("log-copy").addEventListener("click", copy);
  byId("log-download").addEventListener("click", download);
  // Scrolling up stops following; scrolling back to the end resumes it.
  for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) {
    box.addEventListener(kind, (event) => {
      touchedMs = performance.now();
      // A scroll starts slowly, and the next line would move the view back to the end.
      if (box.scrollTop > 0 && (event.deltaY < 0 || UPWARDS.has(event.key))) setFollow(false);
      else if (event.key === "End") goToEnd();
      else if (isAtEnd() && (event.deltaY > 0 || DOWNWARDS.has(event.key))) setFollow(true);
      setTimeout(draw, HAND_MS);
    }, { passive: true });
  }
  box.addEventListener("scroll", () => {
    const atEnd = isAtEnd();
    // A resized box scrolls on its own; only a person can scroll away from the end.
    if (byHand() && box.scrollTop < lastPx - 2 && !atEnd && follows) setFollow(false);
    else if (atEnd && !follows && box.scrollTop > lastPx) setFollow(true);
    lastPx = box.scrollTop;
    draw();
  });
  rows.filter(filter(wanted));
  new ResizeObserver(measure).observe(box);
  show(byId("log-error"), false);
}
