// Buttons that give orders: each shows "Asked…" until the world has changed, and never believes its own click.

import { complain, say } from "./dom.js";

const PATIENCE_MS = 30000;
const open = new Set();

/**
 * Makes a button give an order: `order()` sends it, `world()` tells what it is about, errors go to `error`.
 * Where `first` is given a click begins only after a yes from it.
 */
export function orderButton(button, { order, world, error, told, first = null, patienceMs = PATIENCE_MS }) {
  const text = button.textContent;
  const label = button.getAttribute("aria-label");
  let waiting = null;

  function end(note = "") {
    if (!waiting) return;
    clearTimeout(waiting.timer);
    open.delete(waiting);
    waiting = null;
    button.removeAttribute("aria-disabled");
    say(button, text);
    if (label) button.setAttribute("aria-label", label);
    say(told, note);
  }

  async function begin(...given) {
    if (waiting) return;
    const mine = { before: world(), answered: false, look: () => {} };
    mine.look = () => {
      if (mine.answered && world() !== mine.before) end();
    };
    waiting = mine;
    open.add(mine);
    complain(error, "");
    say(told, "");
    button.setAttribute("aria-disabled", "true");
    say(button, "Asked…");
    if (label) button.setAttribute("aria-label", `Asked… ${label}`);
    try {
      await order(...given);
      mine.answered = true;
      mine.timer = setTimeout(() => end("The order was taken, and nothing has changed yet. The log may say why."), patienceMs);
      mine.look();
    } catch (failure) {
      end();
      if (failure.handled !== true) complain(error, failure.message);
    }
  }

  async function click() {
    if (!waiting && (first === null || (await first()))) begin();
  }

  if (button.type !== "submit") button.addEventListener("click", click);
  return { begin, end };
}

/** Looks whether the world has changed; called with all news. */
export function worldChanged() {
  for (const waiting of [...open]) waiting.look();
}
