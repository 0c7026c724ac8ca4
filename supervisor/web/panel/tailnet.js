// The tailnet: its state, and orders to connect and disconnect.

import { ApiError, ask, sentence } from "./api.js";
import { orderButton } from "./order-button.js";
import { confirmed } from "./dialog.js";
import { byId, complain, el, fact, fill, keepFocus, say, show } from "./dom.js";
import * as more from "./tailnet-more.js";
import { moment, span } from "./format.js";

const BAD = new Set(["key expired", "key refused", "tailscaled down", "state not kept"]);
const LOGIN = new Set(["needs login", "key expired", "key refused", "disconnected by you"]);
let seen = null;
let shownLink = "";
let neededLogin = null;
// The id of the order with the last key.
let keyOrder = null;
// The number of the last request for the login link, and of the last one whose answer counts.
let linksAsked = 0;
let linkAnswered = 0;
let linkFailed = false;

/** Shows the current state. */
export function take(told, nowMs) {
  seen = told;
  const is = controlsFor(told);
  say(byId("tailnet-state"), told.state);
  byId("tailnet-dot").className = `dot ${dotOf(told)}`;
  complain(byId("tailnet-why"), whyOf(told));
  byId("tailnet-why").className = `alert ${told.choice === "connected" && told.installed ? "warn" : "info"}`;
  fill(byId("tailnet-facts"), factsOf(told), (facts) => facts.map(([name, text]) => fact(name, ...text.map(code))));
  keepFocus(byId("tailnet-title"), () => {
    for (const [id, visible] of Object.entries(is)) show(byId(id), visible);
  });
  const needsLogin = LOGIN.has(told.state) && !told.hostname;
  if (needsLogin !== neededLogin) byId("key-details").open = needsLogin;
  neededLogin = needsLogin;
  takeLink(told);
  // A device that keeps its login is connected again, so its state shows nothing about the key.
  const answer = keyOrder && told.orders.find((order) => order.id === keyOrder);
  if (answer?.state === "failed" && told.hostname) {
    complain(byId("key-error"), sentence(`the key was not accepted, and the device keeps its login: ${answer.why}`));
  }
  more.take(told, nowMs);
  tick(nowMs);
}

/** Updates relative times. */
export function tick(nowMs) {
  const since = seen?.since ? Date.parse(seen.since) : NaN;
  say(byId("tailnet-since"), Number.isNaN(since) ? "" : `since ${moment(since, nowMs)} · ${span((nowMs - since) / 1000)}`);
}

/** Clears the section. */
export function clear() {
  seen = null;
  shownLink = "";
  neededLogin = null;
  keyOrder = null;
  linkAnswered = linksAsked;
  linkFailed = false;
  for (const id of ["tailnet-facts", "tailnet-more"]) fill(byId(id), null, () => []);
  for (const id of ["tailnet-why", "tailnet-error", "key-error"]) complain(byId(id), "");
  say(byId("tailnet-state"), "…");
  say(byId("tailnet-since"), "");
  byId("tailnet-dot").className = "dot";
  byId("auth-key").value = "";
  show(byId("tailnet-link"), false);
}

/** The visibility of the controls in a state. */
export function controlsFor(told) {
  const off = !told.installed;
  const away = told.choice !== "connected";
  const needsLogin = LOGIN.has(told.state) && !told.hostname;
  return {
    reconnect: !off && !told.tailscale_up && !needsLogin,
    "login-link": !off && needsLogin && !told.auth_url_pending,
    disconnect: !off && (told.tailscale_up || !away),
    forget: !off && Boolean(told.hostname),
    "key-details": !off,
    "tailnet-actions": !off,
  };
}

function dotOf(told) {
  if (told.tailscale_up) return told.warnings.length || told.serve.why ? "warn" : "ok";
  if (!told.installed || told.choice !== "connected") return "";
  return BAD.has(told.state) ? "bad" : "warn";
}

function whyOf(told) {
  if (!told.installed) return "The tailnet is off: SUPERVISOR_TAILSCALE is off.";
  return [told.why, told.what_to_do && `What to do: ${told.what_to_do}`].filter(Boolean).map(sentence).join(" ");
}

function factsOf(told) {
  if (!told.installed) return [];
  const facts = [
    ["Device", told.hostname ? [told.hostname] : []],
    ["Tailnet", told.tailnet ? [told.tailnet] : []],
    ["Addresses", told.addresses || (told.tailscale_ip ? [told.tailscale_ip] : [])],
    ["Account", told.login_name ? [told.login_name] : []],
    ["Version", told.version ? [told.version] : []],
  ];
  return facts.filter(([, values]) => values.length);
}

function code(text) {
  return el("span", { class: "mono", text });
}

async function takeLink(told) {
  const mine = ++linksAsked;
  if (!told.auth_url_pending) {
    linkAnswered = mine;
    endLinkError();
    shownLink = "";
    show(byId("tailnet-link"), false);
    return;
  }
  try {
    const { auth_url: url, qr_svg: svg } = await ask("GET", "tailscale/auth-url");
    // An answer to an earlier request has an older link.
    if (mine <= linkAnswered) return;
    linkAnswered = mine;
    endLinkError();
    if (url === shownLink) return;
    shownLink = url;
    const isWeb = /^https?:/.test(url);
    const anchor = byId("tailnet-url");
    say(anchor, url);
    if (isWeb) anchor.href = url;
    else anchor.removeAttribute("href");
    // Scripts in an image cannot run.
    const whole = svg.includes("xmlns=") ? svg : svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"');
    byId("tailnet-qr").src = `data:image/svg+xml,${encodeURIComponent(whole)}`;
    show(byId("tailnet-link"), true);
  } catch (error) {
    if (mine <= linkAnswered || !(error instanceof ApiError) || error.code === "NO_AUTH_URL") return;
    linkFailed = true;
    complain(byId("tailnet-error"), error.message);
  }
}

function endLinkError() {
  if (linkFailed) complain(byId("tailnet-error"), "");
  linkFailed = false;
}

/** The error for an order that was not confirmed. */
function refusedByOwner() {
  return Object.assign(new Error(), { handled: true });
}

async function disconnect(body, warned = null) {
  try {
    await ask("POST", "tailscale/disconnect", warned ? { ...body, confirm: true } : body);
  } catch (error) {
    if (error.code !== "CONFIRMATION_NEEDED") throw error;
    if (!(await confirmed("Disconnect?", error.message, "Disconnect"))) throw refusedByOwner();
    await ask("POST", "tailscale/disconnect", { ...body, confirm: true });
  }
}

function sureToForget() {
  const warning = seen?.before_disconnect ? ` ${sentence(seen.before_disconnect)}` : "";
  const text = `It logs ${seen?.hostname || "this device"} out of the tailnet: to come back, it needs a new auth key or a login link. The app keeps running.${warning}`;
  return confirmed("Forget this device?", text, "Forget this device");
}

/** Sets the controls up. */
export function setUp() {
  // The owner's choice is left out, since the order itself changes it.
  const world = () =>
    JSON.stringify([seen?.state, seen?.since, seen?.auth_url_pending, seen?.why, seen?.last_error_at, seen?.hostname]);
  const about = { world, error: byId("tailnet-error"), told: byId("tailnet-told") };
  const connect = () => ask("POST", "tailscale/connect", {});
  orderButton(byId("reconnect"), { ...about, order: connect });
  orderButton(byId("login-link"), { ...about, order: connect });
  orderButton(byId("disconnect"), { ...about, order: () => disconnect({}) });
  orderButton(byId("forget"), { ...about, first: sureToForget, order: () => disconnect({ forget: true }, seen?.before_disconnect) });
  const withKey = orderButton(byId("connect"), {
    ...about,
    error: byId("key-error"),
    order: async (key) => {
      keyOrder = (await ask("POST", "tailscale/connect", { auth_key: key })).order;
    },
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId("auth-key");
    const key = field.value.trim();
    if (!key) {
      complain(byId("key-error"), "Paste an auth key first: it begins with tskey-.");
      field.focus();
      return;
    }
    // The page does not store it.
    field.value = "";
    keyOrder = null;
    withKey.begin(key);
  });
}
