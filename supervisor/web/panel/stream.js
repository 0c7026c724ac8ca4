// The event stream: followed while the page is open, and resumed after the last event.

import { ApiError, ENDED, forget, isOver, sentence, send, token } from "./api.js";
import { EventParser } from "./sse.js";

const SILENCE_MS = 40000;
const CHECK_MS = 5000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;

/** The delay before a retry in ms: exponential, with half of it as jitter. */
export function waitMs(tries, chance = Math.random()) {
  const full = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(tries, 10));
  return full / 2 + (full / 2) * chance;
}

/** Follows the stream. `on` has callbacks `state`, `log`, `figures`, `anew` (a new run) and `link(kind, why)`. */
export class Stream {
  constructor(on) {
    this._on = on;
    this._id = "";
    this._tries = 0;
    this._turn = 0;
    this._wake = null;
    this._cut = null;
    this.offsetMs = 0;
    for (const [name, target] of [["online", window], ["pageshow", window], ["visibilitychange", document]]) {
      target.addEventListener(name, () => this._hurry());
    }
    addEventListener("pagehide", () => this._cut?.abort());
  }

  /** Starts following, without resuming. */
  open() {
    this.close();
    this._id = "";
    this._tries = 0;
    this._run(this._turn);
  }

  /** Stops following. */
  close() {
    this._turn += 1;
    this._cut?.abort();
    this._wake?.();
  }

  /** The current time by the supervisor's clock, in ms. */
  now() {
    return Date.now() + this.offsetMs;
  }

  async _run(turn) {
    while (turn === this._turn) {
      const why = await this._follow(turn);
      if (turn !== this._turn) return;
      this._on.link("away", why);
      await this._pause(waitMs(this._tries++));
      if (turn === this._turn) this._on.link("trying", why);
    }
  }

  /** Follows one response to its end; returns the reason of the end. */
  async _follow(turn) {
    const cut = new AbortController();
    this._cut = cut;
    this._why = "";
    let heardMs = Date.now();
    const watchdog = setInterval(() => {
      if (Date.now() - heardMs > SILENCE_MS) cut.abort();
    }, CHECK_MS);
    try {
      const response = await this._ask(cut.signal);
      this._tellTime(response);
      const parser = new EventParser((event) => turn === this._turn && this._take(event));
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        heardMs = Date.now();
        if (done) break;
        parser.feed(value);
      }
    } catch (error) {
      if (error instanceof ApiError) this._refused(error);
    } finally {
      clearInterval(watchdog);
      cut.abort();
    }
    return this._why;
  }

  _ask(signal) {
    const headers = this._id ? { "Last-Event-ID": this._id } : {};
    const path = "events?colors=on&figures=on";
    this._session = token();
    return send("GET", path, { bearer: this._session, headers, signal });
  }

  _tellTime(response) {
    const served = Date.parse(response.headers.get("Date") || "");
    const off = served + 500 - Date.now();
    // The header has whole seconds, so small differences mean nothing.
    this.offsetMs = Number.isNaN(served) || Math.abs(off) < 2000 ? 0 : off;
  }

  _refused(error) {
    if (isOver(error)) forget(this._session, ENDED);
    if (error.code !== "NO_ANSWER") this._why = error.message;
  }

  _take(event) {
    const data = JSON.parse(event.data);
    if (event.kind === "end") {
      if (data.code === "NOT_SIGNED_IN") forget(this._session, ENDED);
      this._why = sentence(data.error);
      return;
    }
    const boot = (id) => id.slice(0, id.lastIndexOf("-"));
    if (boot(event.id) !== boot(this._id)) this._on.anew();
    this._id = event.id;
    this._tries = 0;
    this._on.link("live", "");
    this._on[event.kind]?.(data);
  }

  /** Retries at once when the browser is back online or visible. */
  _hurry() {
    if (document.visibilityState === "visible") this._wake?.();
  }

  _pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this._wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
