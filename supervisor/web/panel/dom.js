// Small helpers for the page. Nothing here turns text into markup.

/** The element of this id. */
export const byId = (id) => document.getElementById(id);

/** Makes an element: `class`, `text`, `on…` and attributes; what is null is left out. */
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

/** Writes a text, where it is another one. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes text for people, in which `words` between backticks are code. */
export function prose(text) {
  return text.split("`").map((part, at) => (at % 2 ? el("code", { text: part }) : part));
}

/** Shows or hides. */
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** Makes a node's children anew, where what they show has changed. */
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

/** Says an error where it happened; none takes it away. */
export function complain(node, text) {
  fill(node, text || "", prose);
  show(node, Boolean(text));
}

/** Runs `hide` and, where it took the focus away, gives the focus to `fallback`. */
export function keepFocus(fallback, hide) {
  const before = document.activeElement;
  hide();
  const isLost = before && before !== document.body && (!before.isConnected || !before.getClientRects().length);
  if (isLost) fallback.focus({ preventScroll: true });
}

/** Copies a node's text; returns what came of it, for people. */
export async function copied(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return "Copied.";
  } catch {
    // Without https a browser gives no clipboard to a page.
    getSelection().selectAllChildren(node);
    return document.execCommand("copy") ? "Copied." : "The browser does not let this page copy; the text is marked, so copy it by hand.";
  }
}
