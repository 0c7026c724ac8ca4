// The lines that the page stores, and the rows of those that pass the filter.

import { Heights, Ring } from "./ring.js";

const MOST = 100000;
// In UTF-16 units for all messages together, about 64 MB.
const MOST_TEXT = 32 * 1024 * 1024;
// Less than a frame, so that scrolling stays smooth while many lines are filtered.
const SLICE_MS = 6;
const CLOCK_EVERY = 256;
// tailscaled begins each line with its local time, which the first column already shows.
const DAEMON = "tailscaled";
const DAEMON_TIME = /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d(?:\.\d+)? /;

/** The rows; `heightOf(line)` returns a row's height, `onLift(px)` is called when one is removed, `onReady()` after a rebuild. */
export class Rows {
  constructor({ heightOf, onLift, onReady }) {
    this._heightOf = heightOf;
    this._onLift = onLift;
    this._onReady = onReady;
    this._passes = () => true;
    this._kept = new Ring(MOST);
    this._sequence = 0;
    this._text = 0;
    // The lines at the time of the pause; null if not paused.
    this.held = null;
    this.waiting = 0;
    /** Whether lines were dropped. */
    this.hasForgotten = false;
    this._begin([]);
    this._swap();
  }

  /** The number of lines before filtering. */
  get all() {
    return this.held ? this.held.length : this._kept.size;
  }

  get size() {
    return this._rows.size;
  }

  at(index) {
    return this._rows.at(index);
  }

  list() {
    return this._rows.list();
  }

  /** Adds a line; lines beyond the limits are dropped with their rows. */
  keep(line) {
    const { process, message } = line;
    line.message = process === DAEMON ? message.replace(DAEMON_TIME, "") : message;
    line.sequence = this._sequence++;
    this._text += line.message.length;
    for (let gone = this._kept.push(line) || this._tooMuch(); gone; gone = this._tooMuch()) {
      this._text -= gone.message.length;
      this.hasForgotten = true;
    }
    if (this.held) this.waiting += this._passes(line) ? 1 : 0;
    else if (this._job) this._job.lines.push(line);
    else this._add(line);
    if (!this.held && !this._job) this._trim();
  }

  _tooMuch() {
    return this._text > MOST_TEXT ? this._kept.shift() : undefined;
  }

  _add(line, to = this) {
    if (!this._passes(line)) return;
    to._rows.push(line);
    to.heights.push(this._heightOf(line));
  }

  /** Removes the rows of dropped lines. */
  _trim() {
    const oldest = this._kept.size ? this._kept.at(0).sequence : this._sequence;
    while (this._rows.size && this._rows.at(0).sequence < oldest) {
      this._rows.shift();
      this._onLift(this.heights.shift());
    }
  }

  /** Removes all lines. */
  clear() {
    this._kept.clear();
    this._text = 0;
    this.hasForgotten = false;
    this.held = null;
    this.rebuild();
  }

  /** Pauses or resumes updates of the rows. */
  pause(on) {
    this.held = on ? this._kept.list() : null;
    this.waiting = 0;
    if (!on) this.rebuild();
  }

  /** Changes the filter. */
  filter(passes) {
    this._passes = passes;
    this.waiting = 0;
    this.rebuild();
  }

  /** Rebuilds the rows after a change of filter or width, in slices because there may be many lines. */
  rebuild() {
    const isRunning = Boolean(this._job);
    this._begin(this.held ? [...this.held] : this._kept.list());
    if (!isRunning) this._slice();
  }

  _begin(lines) {
    this._job = { lines, at: 0, _rows: new Ring(MOST + 1), heights: new Heights() };
  }

  _slice() {
    const endMs = performance.now() + SLICE_MS;
    const job = this._job;
    while (job.at < job.lines.length) {
      this._add(job.lines[job.at++], job);
      if (job.at % CLOCK_EVERY === 0 && performance.now() > endMs) return setTimeout(() => this._slice());
    }
    this._swap();
    if (!this.held) this._trim();
    this._onReady();
  }

  _swap() {
    ({ _rows: this._rows, heights: this.heights } = this._job);
    this._job = null;
  }
}
