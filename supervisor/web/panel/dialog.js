// Asks for confirmation before an irreversible action.

import { byId, say } from "./dom.js";

// The answer to the last question, and the session that it belongs to.
let answered = Promise.resolve();
let session = 0;

/**
 * Shows the dialog; returns whether the action was confirmed. Escape counts as Cancel.
 * One question waits for the answer to another, so that no click answers both.
 */
export function confirmed(title, text, yes) {
  const asking = session;
  const ask = () => asking === session && asked(title, text, yes);
  answered = answered.then(ask, ask);
  return answered;
}

/** Answers all questions with no: whoever was asked has signed out. */
export function clear() {
  session += 1;
  byId("confirm").close();
}

function asked(title, text, yes) {
  const dialog = byId("confirm");
  say(byId("confirm-title"), title);
  say(byId("confirm-text"), text);
  say(byId("confirm-go"), yes);
  return new Promise((resolve) => {
    let answer = false;
    const go = () => {
      answer = true;
      dialog.close();
    };
    const cancel = () => dialog.close();
    byId("confirm-go").addEventListener("click", go);
    byId("confirm-cancel").addEventListener("click", cancel);
    dialog.addEventListener("close", () => {
      byId("confirm-go").removeEventListener("click", go);
      byId("confirm-cancel").removeEventListener("click", cancel);
      resolve(answer);
    }, { once: true });
    dialog.showModal();
    byId("confirm-cancel").focus();
  });
}
