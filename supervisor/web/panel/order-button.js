// Buttons that send orders: each shows "Asked…" until the state that it affects has changed.

import { complain, say } from "./dom.js";

const PATIENCE_MS = 30000;
const open = new Set();

/**
 * Sets a button up: `order()` sends the order, `world()` returns the state that it affects, errors go to `error`.
 * If `first` is given, a click has an effect only after `first` has returned true.
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
      mine.timer = setTimeout(() => end("The order was accepted, but nothing has changed yet. The log may show why."), patienceMs);
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

/** Checks whether the affected states have changed; called after each event. */
export function worldChanged() {
  for (const waiting of [...open]) waiting.look();
}
