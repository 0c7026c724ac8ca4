// Data structures for the log, and its filter. Pure.

const LEVELS = ["debug", "info", "warning", "error", "critical"];

/** A list of at most `most` items that drops the oldest; removing one takes constant time. */
export class Ring {
  constructor(most) {
    this.most = most;
    this.clear();
  }

  /** The number of items. */
  get size() {
    return this._items.length - this._head;
  }

  /** Adds an item; returns the one that was dropped for it. */
  push(item) {
    this._items.push(item);
    return this.size > this.most ? this.shift() : undefined;
  }

  /** Removes and returns the oldest item. */
  shift() {
    const item = this._items[this._head];
    this._items[this._head++] = undefined;
    if (this._head > this.most) {
      this._items = this._items.slice(this._head);
      this._head = 0;
    }
    return item;
  }

  /** The item at an index, 0 for the oldest. */
  at(index) {
    return this._items[this._head + index];
  }

  /** All items, as a new array. */
  list() {
    return this._items.slice(this._head);
  }

  /** Removes all items. */
  clear() {
    this._items = [];
    this._head = 0;
  }
}

/** The rank of a level, higher for worse ones. */
function rank(level) {
  return Math.max(0, LEVELS.indexOf(level));
}

/** Returns a predicate for lines of a process, of a level and worse, with a text. Gaps always pass. */
export function filter({ process = "", level = "", text = "" }) {
  const least = level ? rank(level) : 0;
  const wanted = text.toLowerCase();
  return (line) =>
    line.gap > 0 ||
    ((!process || line.process === process) &&
      rank(line.level) >= least &&
      (!wanted || line.message.toLowerCase().includes(wanted)));
}

/** The number of rows that a text fills when wrapped at `columns`; wide characters take two columns. */
export function rowsOf(text, columns) {
  return Math.max(1, Math.ceil(widthOf(text) / Math.max(8, columns)));
}

/** The number of columns that a text takes. */
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

/** The heights of rows in a list: finds the row at a position, and drops rows at the start. */
export class Heights {
  constructor() {
    this.clear();
  }

  /** Removes all rows. */
  clear() {
    this._ends = [];
    this._head = 0;
    this._base = 0;
  }

  /** The number of rows. */
  get size() {
    return this._ends.length - this._head;
  }

  /** The total height. */
  get total() {
    return this.size ? this._ends[this._ends.length - 1] - this._base : 0;
  }

  /** Adds a row. */
  push(height) {
    const before = this._ends.length ? this._ends[this._ends.length - 1] : 0;
    this._ends.push(before + height);
  }

  /** Removes the first row; returns its height. */
  shift() {
    const height = this._ends[this._head] - this._base;
    this._base = this._ends[this._head++];
    if (this._head > 4096 && this._head * 2 > this._ends.length) {
      this._ends = this._ends.slice(this._head);
      this._head = 0;
    }
    return height;
  }

  /** The total height of removed rows. */
  get gone() {
    return this._base;
  }

  /** The position of the row at an index. */
  top(index) {
    return index <= 0 ? 0 : this._ends[this._head + index - 1] - this._base;
  }

  /** The index of the row at a position. */
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
