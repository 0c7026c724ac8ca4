// The entry point: shows the sign-in page or the panel, and passes events to the sections.

import { signOut, token, whenEnded, whenOthersChange, whenSlow } from "./api.js";
import { worldChanged } from "./order-button.js";
import { byId, complain, say, show } from "./dom.js";
import * as backups from "./backups.js";
import * as dialog from "./dialog.js";
import * as doctor from "./doctor.js";
import * as health from "./health.js";
import * as incidents from "./incidents.js";
import * as logs from "./logs.js";
import * as processes from "./processes.js";
import * as signing from "./sign-in.js";
import { Stream } from "./stream.js";
import { MOST_CONNECTIONS, answerFor, others } from "./tabs.js";
import * as tailnet from "./tailnet.js";
import { choose, chosen } from "./theme.js";
import { clock } from "./format.js";

const VIEWS = { processes, tailnet, backups, health, incidents };
let isLive = false;
let lastNewsMs = 0;
// Why a request is slow, if known.
let slowWhy = "";
let slowCount = 0;
let awayWhy = "";

const stream = new Stream({
  state(pieces) {
    for (const [name, view] of Object.entries(VIEWS)) if (pieces[name]) view.take(pieces[name], stream.now());
    if (pieces.processes) logs.takeProcesses(pieces.processes);
    if (pieces.health) say(document.querySelector("title"), title(pieces.health.status));
    worldChanged();
  },
  log(data) {
    logs.take(data);
    doctor.hear(data.lines);
  },
  figures: (data) => processes.takeFigures(data.processes),
  anew() {
    logs.clear();
    incidents.anew();
  },
  link,
});

function title(status) {
  return status === "pass" ? "Moltis supervisor" : `${status} · Moltis supervisor`;
}

function link(kind, why) {
  const now = Date.now();
  const wasLive = isLive;
  isLive = kind === "live";
  if (isLive) lastNewsMs = now;
  if (isLive && wasLive) return;
  document.body.dataset.link = kind;
  byId("link-dot").className = `dot ${isLive ? "ok" : "warn"}`;
  if (isLive) say(byId("link"), "Live");
  else if (kind === "connecting") say(byId("link"), "Connecting…");
  else if (wasLive || kind === "away") say(byId("link"), `Not connected. Trying again… (${clock(now)})`);
  awayWhy = isLive || kind === "connecting" ? "" : staleWords(why);
  complain(byId("stale"), slowWhy || awayWhy);
}

/** Explains a slow request if other tabs of this browser use all of its connections. */
async function tellSlow(isSlow) {
  slowCount += isSlow ? 1 : -1;
  slowWhy = "";
  if (isSlow) {
    const tabs = await others();
    const isFull = tabs + (isLive ? 1 : 0) >= MOST_CONNECTIONS;
    if (isFull && slowCount) slowWhy = `This browser opens no more than ${MOST_CONNECTIONS} connections to one address, and ${tabs} other tabs of this panel use them. Close some of those tabs.`;
  }
  complain(byId("stale"), slowWhy || awayWhy);
}

function staleWords(why) {
  const since = lastNewsMs ? `The data is from ${clock(lastNewsMs)}.` : "There is no data yet.";
  return why ? `${why} ${since}` : since;
}

function showPanel() {
  const wasHidden = byId("panel").hidden;
  show(byId("sign-in"), false);
  show(byId("panel"), true);
  link("connecting", "");
  stream.open();
  if (wasHidden) byId("main").focus({ preventScroll: true });
}

function showSignIn(why) {
  stream.close();
  for (const view of [...Object.values(VIEWS), doctor]) view.clear();
  logs.clear();
  isLive = false;
  lastNewsMs = 0;
  dialog.clear();
  document.querySelectorAll("dialog[open]").forEach((open) => open.close());
  show(byId("panel"), false);
  show(byId("sign-in"), true);
  signing.tell(why);
  byId("secret").focus();
}

function follow() {
  if (token()) showPanel();
  else showSignIn("");
}

byId("theme").value = chosen();
byId("theme").addEventListener("change", (event) => {
  choose(event.target.value);
  logs.redraw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => logs.redraw());
byId("sign-out").addEventListener("click", () => {
  // Nothing stays visible until the supervisor answers, which may take long.
  signOut();
  showSignIn("You have signed out.");
});
for (const view of [tailnet, backups, incidents, logs, doctor]) view.setUp();
// Relative times stop while the panel is disconnected, since they may be wrong.
setInterval(() => isLive && [tailnet, processes, backups, health, incidents].forEach((view) => view.tick(stream.now())), 1000);
whenEnded(showSignIn);
whenSlow(tellSlow);
answerFor(() => isLive);
whenOthersChange(() => {
  if (Boolean(token()) === byId("panel").hidden) follow();
});
const fromLink = signing.setUp(showPanel);
if (location.hash.startsWith("#code=")) {
  showSignIn("");
  fromLink();
} else {
  follow();
}
