// Small helpers for the page. Nothing here turns text into markup.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Creates an element with `class`, `text`, `on…` listeners and attributes; null values are left out. */
export function el(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Sets the text of a node if it has changed. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Creates nodes for text in which `words` between backticks are code. */
export function prose(text) {
  return text.split("`").map((part, at) => (at % 2 ? el("code", { text: part }) : part));
}

/** Shows or hides a node. */
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** Replaces a node's children if the data that they show has changed. */
export function fill(node, data, make) {
  const key = JSON.stringify(data);
  if (node._key === key) return;
  node._key = key;
  node.replaceChildren(...make(data));
}

/** A row of a list of facts. */
export function fact(name, ...values) {
  return el("div", { class: "fact" }, el("dt", { text: name }), el("dd", {}, ...values));
}

/** Shows an error message in a node; an empty text hides it. */
export function complain(node, text) {
  fill(node, text || "", prose);
  show(node, Boolean(text));
}

/** Runs `hide`; if that hides the focused element, `fallback` gets the focus. */
export function keepFocus(fallback, hide) {
  const before = document.activeElement;
  hide();
  const isLost = before && before !== document.body && (!before.isConnected || !before.getClientRects().length);
  if (isLost) fallback.focus({ preventScroll: true });
}

/** Copies a node's text; returns the result for people. */
export async function copied(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return "Copied.";
  } catch {
    // Browsers offer the clipboard only to pages loaded by HTTPS.
    getSelection().selectAllChildren(node);
    return document.execCommand("copy") ? "Copied." : "The browser does not let this page copy; the text is marked, so copy it by hand.";
  }
}
