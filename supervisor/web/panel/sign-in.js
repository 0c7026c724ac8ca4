// The sign-in page, with help for each refusal.

import { printCode, signIn } from "./api.js";
import { byId, complain, say, show } from "./dom.js";
import { roughly } from "./format.js";

const HELP = {
  WRONG_CREDENTIALS: "This is neither the token nor a valid code. A code works once, within 15 minutes: print a new one, or check that the token is complete.",
};

/** The help text for a refused sign-in. */
export function helpFor(error) {
  if (error.code === "TOO_MANY_ATTEMPTS") {
    return `Too many wrong tokens or codes were entered. A correct one is accepted at any time; try another guess in ${roughly(error.retryS)}.`;
  }
  return HELP[error.code] || error.message;
}

/** Sets the page up; `done()` is called after each sign-in. */
export function setUp(done) {
  const field = byId("secret");
  const go = byId("sign-in-go");

  async function attempt(text) {
    if (go.getAttribute("aria-disabled")) return;
    complain(byId("sign-in-error"), "");
    go.setAttribute("aria-disabled", "true");
    say(go, "Signing in…");
    try {
      await signIn(text);
      field.value = "";
      done();
    } catch (error) {
      complain(byId("sign-in-error"), helpFor(error));
      field.focus();
    } finally {
      go.removeAttribute("aria-disabled");
      say(go, "Sign in");
    }
  }

  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (text) attempt(text);
  });
  byId("print-code").addEventListener("click", print);
  addEventListener("hashchange", () => fromLink(attempt));
  return () => fromLink(attempt);
}

/** Signs in with the code in the link from the log, and removes it from the address bar. */
function fromLink(attempt) {
  const found = /^#code=([^&]+)/.exec(location.hash);
  if (!found) return false;
  history.replaceState(null, "", location.pathname + location.search);
  attempt(plain(found[1]));
  return true;
}

function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    // No such escape: a link that was cut off is refused like any wrong code.
    return text;
  }
}

async function print() {
  const told = byId("print-code-told");
  say(told, "Asked…");
  try {
    await printCode();
    say(told, "A new code is in the container's log, valid for one sign-in within 15 minutes.");
  } catch (error) {
    if (error.code === "TOKEN_SET") show(byId("print-code"), false);
    say(told, printHelp(error));
  }
}

function printHelp(error) {
  if (error.code === "TOKEN_SET") return "An admin token is set here, so no codes are printed. Sign in with the value of SUPERVISOR_TOKEN.";
  if (error.code === "CODE_PRINTED_ALREADY") {
    return `A code was printed less than a minute ago: look for it in the container's log. Another can be printed in ${roughly(error.retryS)}.`;
  }
  return helpFor(error);
}

/** Shows the reason for the sign-in page. */
export function tell(why) {
  complain(byId("sign-in-why"), why);
  complain(byId("sign-in-error"), "");
  say(byId("print-code-told"), "");
}
