// The lines that this page keeps, and the filter over them. Pure.

const LEVELS = ["debug", "info", "warning", "error", "critical"];

/** A list that forgets its oldest beyond `most`; to take one out costs nothing. */
export class Ring {
  constructor(most) {
    this.most = most;
    this.clear();
  }

  /** How many there are. */
  get size() {
    return this._items.length - this._head;
  }

  /** Takes one in; returns the one that had to go. */
  push(item) {
    this._items.push(item);
    return this.size > this.most ? this.shift() : undefined;
  }

  /** Takes the oldest out. */
  shift() {
    const item = this._items[this._head];
    this._items[this._head++] = undefined;
    if (this._head > this.most) {
      this._items = this._items.slice(this._head);
      this._head = 0;
    }
    return item;
  }

  /** The one at this place, the oldest at 0. */
  at(index) {
    return this._items[this._head + index];
  }

  /** All of them, in a list of its own. */
  list() {
    return this._items.slice(this._head);
  }

  /** Forgets all. */
  clear() {
    this._items = [];
    this._head = 0;
  }
}

/** How bad a level is. */
function rank(level) {
  return Math.max(0, LEVELS.indexOf(level));
}

/** Makes a test for lines: of this process, this level and worse, with this text. Gaps always pass. */
export function filter({ process = "", level = "", text = "" }) {
  const least = level ? rank(level) : 0;
  const wanted = text.toLowerCase();
  return (line) =>
    line.gap > 0 ||
    ((!process || line.process === process) &&
      rank(line.level) >= least &&
      (!wanted || line.message.toLowerCase().includes(wanted)));
}

/** How many rows of so many columns a text fills: as a terminal breaks it, wide characters counted as two. */
export function rowsOf(text, columns) {
  return Math.max(1, Math.ceil(widthOf(text) / Math.max(8, columns)));
}

/** How many columns a text takes. */
export function widthOf(text) {
  // eslint-disable-next-line no-control-regex
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const character of text) width += columnsOf(character.codePointAt(0));
  return width;
}

function columnsOf(code) {
  if (code === 9) return 4;
  const isWide =
    (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) || (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) || (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
    code >= 0x1f000;
  return isWide ? 2 : 1;
}

/** Rows of a list with heights of their own: finds the one at a height, and forgets its first ones. */
export class Heights {
  constructor() {
    this.clear();
  }

  /** Forgets all. */
  clear() {
    this._ends = [];
    this._head = 0;
    this._base = 0;
  }

  /** How many there are. */
  get size() {
    return this._ends.length - this._head;
  }

  /** The sum of all. */
  get total() {
    return this.size ? this._ends[this._ends.length - 1] - this._base : 0;
  }

  /** Takes one in. */
  push(height) {
    const before = this._ends.length ? this._ends[this._ends.length - 1] : 0;
    this._ends.push(before + height);
  }

  /** Takes the first one out; returns its height. */
  shift() {
    const height = this._ends[this._head] - this._base;
    this._base = this._ends[this._head++];
    if (this._head > 4096 && this._head * 2 > this._ends.length) {
      this._ends = this._ends.slice(this._head);
      this._head = 0;
    }
    return height;
  }

  /** The sum of those that were taken out. */
  get gone() {
    return this._base;
  }

  /** Where the one at this place begins. */
  top(index) {
    return index <= 0 ? 0 : this._ends[this._head + index - 1] - this._base;
  }

  /** Which one is at this height. */
  find(height) {
    let low = 0;
    let high = this.size - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this._ends[this._head + middle] - this._base > height) high = middle;
      else low = middle + 1;
    }
    return Math.max(0, low);
  }
}
