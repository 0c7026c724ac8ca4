// Details of the tailnet, read-only.

import { sentence } from "./api.js";
import { byId, el, fact, fill, prose } from "./dom.js";
import { expiry, moment, plural } from "./format.js";

/** Shows the details. */
export function take(told, nowMs) {
  const day = Math.floor(nowMs / 86400000);
  const opened = new Set([...document.querySelectorAll("#tailnet-more details[open]")].map((node) => node.id));
  const shown = told.installed ? { ...told, since: 0, state: 0, day } : null;
  fill(byId("tailnet-more"), shown, () => (told.installed ? parts(told, nowMs, opened) : []));
}

function parts(told, nowMs, opened) {
  return [
    el("dl", { class: "facts" }, ...facts(told, nowMs)),
    ...list("Warnings", told.warnings, "warn"),
    ...list("Notes", told.notes, "info"),
    ...list("tailscaled says", told.health, "warn"),
    exposed(told.exposed),
    told.peers.length === 0 && !told.tailscale_up ? null : group("peers", `Peers (${told.peers.length})`, opened, peers(told.peers, nowMs)),
    told.serve.config ? group("serve", "Serve configuration", opened, config(told.serve.config)) : null,
  ].filter(Boolean);
}

function facts(told, nowMs) {
  const key = expiry(told.key_expiry, nowMs);
  const known = told.hostname !== null;
  const facts = [
    fact("App", ...urls(told.serve)),
    known ? fact("Key expiry", el("span", { class: key.warn ? "warn-text" : "num", text: key.text })) : null,
    known ? fact("Tags", ...pills(told.tags)) : null,
    known ? fact("Advertised routes", ...pills(told.advertised_routes)) : null,
    told.serve.why && told.serve.urls.length ? fact("Serve", el("span", { class: "warn-text", text: sentence(told.serve.why) })) : null,
    told.last_error ? fact("Last error", el("span", { text: `${sentence(told.last_error)} (${moment(Date.parse(told.last_error_at), nowMs)})` })) : null,
  ];
  return facts.filter(Boolean);
}

function urls({ urls: found, unpublished }) {
  if (!found.length) return [el("span", {}, ...prose(sentence(`not published: ${unpublished}`)))];
  return found.map((url) => el("a", { class: "mono", href: url, target: "_blank", rel: "noopener noreferrer", text: url }));
}

function pills(found) {
  if (!found.length) return [el("span", { class: "quiet", text: "none" })];
  return found.map((text) => el("span", { class: "badge", text }));
}

function list(title, found, kind) {
  if (!found.length) return [];
  return [el("h3", { text: title }), el("ul", { class: `notes ${kind}` }, ...found.map((text) => el("li", {}, ...prose(sentence(text)))))];
}

function exposed(found) {
  if (!found.length) return null;
  const rows = found.map((one) => el("li", {}, el("span", { class: "mono", text: `${one.host}:${one.port}` }), ` ${owner(one)}`));
  return el("div", {}, el("h3", { text: "Open to every peer, bypassing serve" }), el("ul", { class: "notes info" }, ...rows));
}

function owner(one) {
  return one.process ? `${one.process}${one.pid ? ` (pid ${one.pid})` : ""}` : "of an unknown process";
}

function group(id, title, opened, inside) {
  return el("details", { id: `tailnet-${id}`, open: opened.has(`tailnet-${id}`) }, el("summary", { text: title }), inside);
}

function config(value) {
  return el("pre", { tabindex: "0", "aria-label": "Serve configuration", text: JSON.stringify(value, null, 2) });
}

function peers(found, nowMs) {
  if (!found.length) return el("p", { class: "quiet", text: "No other device is seen in this tailnet." });
  const head = el("tr", {}, ...["Name", "Address", "Path", "Last seen"].map((text) => el("th", { scope: "col", text })));
  const rows = found.slice(0, 200).map((peer) => row(peer, nowMs));
  const rest = found.length > 200 ? el("p", { class: "quiet", text: `${plural(found.length - 200, "more device")} not shown.` }) : "";
  const table = el("table", {}, el("caption", { class: "hidden", text: "Peers" }), el("thead", {}, head), el("tbody", {}, ...rows));
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Peers" }, table, rest);
}

function row(peer, nowMs) {
  const at = Date.parse(peer.last_seen);
  const seen = peer.online ? "online" : Number.isNaN(at) ? "–" : moment(at, nowMs);
  const name = el("span", { class: "mono", text: peer.name.split(".")[0], title: peer.name });
  return el("tr", {},
    el("th", { scope: "row" }, el("span", { class: `dot ${peer.online ? "ok" : ""}`, "aria-hidden": "true" }), name),
    el("td", { class: "mono", text: peer.address || "–" }),
    el("td", { text: pathOf(peer) }),
    el("td", { class: "num", text: seen }));
}

/** The path to a peer. */
export function pathOf(peer) {
  if (peer.direct) return `direct, ${peer.direct}`;
  if (peer.relay) return `relayed, ${peer.relay}`;
  return peer.online ? "not used yet" : "–";
}
