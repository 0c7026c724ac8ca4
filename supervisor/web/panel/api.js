// The session, and requests to the supervisor.

const KEY = "moltis-supervisor-session";
/** Shown on the sign-in page when the session has ended. */
export const ENDED = "Your session has ended: it lasts 12 hours, and no longer than the supervisor runs. Sign in again.";
const SLOW_MS = 3000;
let kept = null;
let onEnded = () => {};
let onSlow = () => {};

/** An error response: `code` for the program, `message` for people. */
export class ApiError extends Error {
  constructor(status, code, text, retryS = 0) {
    super(text);
    this.status = status;
    this.code = code;
    this.retryS = retryS;
  }
}

/** Calls `then(why)` when the session has ended. */
export function whenEnded(then) {
  onEnded = then;
}

/** Calls `then(true)` when a request has had no response for a while, and `then(false)` when it ends. */
export function whenSlow(then) {
  onSlow = then;
}

/** The session's token; null if nobody is signed in. Its expiry is left to the supervisor, since clocks may differ. */
export function token() {
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) || null;
  } catch {
    // No storage: the session lasts as long as the page.
  }
  return kept && kept.session;
}

function keep(session) {
  kept = session;
  try {
    if (session) localStorage.setItem(KEY, JSON.stringify(session));
    else localStorage.removeItem(KEY);
  } catch {
    // As above.
  }
}

/** Calls `then` when another tab has signed in or out. */
export function whenOthersChange(then) {
  addEventListener("storage", (event) => {
    if (event.key === KEY || event.key === null) then();
  });
}

/** Signs in with a token or a code. Text that looks like a code is tried as a code first. */
export async function signIn(text) {
  const looksLikeCode = /^[A-Z2-7]{20}$/.test(text.toUpperCase().replace(/[\s-]/g, ""));
  if (looksLikeCode) {
    try {
      return keep(await call("POST", "session", { code: text }, null));
    } catch (error) {
      // It may be a token, which is accepted while codes are throttled too.
      if (!isOver(error)) throw error;
    }
  }
  keep(await call("POST", "session", { token: text }, null));
}

/** Ends the session, first here and then at the supervisor. */
export async function signOut() {
  const old = token();
  keep(null);
  if (old) await call("DELETE", "session", undefined, old).catch(() => {});
}

/** Forgets a session that has ended, and says why; another tab may have a newer one, which stays. */
export function forget(session, why) {
  if (session !== token()) return;
  keep(null);
  onEnded(why);
}

/** Whether an error means that the session has ended; while the throttle is active that is 429 as well. */
export function isOver(error) {
  return error.status === 401 || (error.status === 429 && error.code === "TOO_MANY_ATTEMPTS");
}

/** Sends a request and returns the response; throws ApiError unless it succeeds. */
export async function send(method, path, { body, bearer, headers = {}, signal } = {}) {
  const sent = { ...headers };
  if (bearer) sent.Authorization = `Bearer ${bearer}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  let isSlow = false;
  const slow = setTimeout(() => onSlow((isSlow = true)), SLOW_MS);
  try {
    response = await fetch(`./api/${path}`, {
      method, headers: sent, signal, cache: "no-store",
      // The end of a session outlives a page that is closed at once.
      keepalive: method === "DELETE",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "NO_ANSWER", "The supervisor does not answer. Check the connection, and try again.");
  } finally {
    clearTimeout(slow);
    if (isSlow) onSlow(false);
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  const told = await response.json().catch(() => ({}));
  const text = told.error || `a proxy responded with status ${response.status}; try again in a moment`;
  const retryS = Number(response.headers.get("Retry-After")) || 0;
  return new ApiError(response.status, told.code || "UNKNOWN", sentence(text), retryS);
}

/** Turns an error's text into a sentence. */
export function sentence(text) {
  const ended = /[.!?…]$/.test(text) ? text : `${text}.`;
  return ended.charAt(0).toUpperCase() + ended.slice(1);
}

async function call(method, path, body, bearer) {
  const response = await send(method, path, { body, bearer });
  return response.status === 204 ? null : response.json();
}

/** Sends a request with the session, and returns the JSON; if the session has ended, the sign-in page is shown. */
export async function ask(method, path, body) {
  const bearer = token();
  try {
    return await call(method, path, body, bearer);
  } catch (error) {
    if (isOver(error)) forget(bearer, ENDED);
    throw error;
  }
}

/** Requests a new code in the log, which needs no session. */
export function printCode() {
  return call("POST", "session/code", undefined, null);
}
