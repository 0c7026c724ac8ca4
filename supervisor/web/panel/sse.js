// A parser for server-sent events that accepts bytes in pieces of any size.

/** Parses one stream; `onEvent({kind, id, data})` gets each event, with `data` as text. */
export class EventParser {
  constructor(onEvent) {
    this.lastId = "";
    this._onEvent = onEvent;
    this._decoder = new TextDecoder();
    this._rest = "";
    this._clear();
  }

  /** Parses the next bytes. */
  feed(bytes) {
    let text = this._rest + this._decoder.decode(bytes, { stream: true });
    // A carriage return at the end may be followed by a line feed in the next piece.
    const held = text.endsWith("\r") ? "\r" : "";
    if (held) text = text.slice(0, -1);
    const lines = text.split(/\r\n|\n|\r/);
    this._rest = lines.pop() + held;
    for (const line of lines) this._line(line);
  }

  _line(line) {
    if (line === "") return this._dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this._kind = value;
    else if (name === "data") this._data.push(value);
    else if (name === "id" && !value.includes("\0")) this._id = value;
  }

  _dispatch() {
    if (this._id !== null) this.lastId = this._id;
    const event = { kind: this._kind || "message", id: this.lastId, data: this._data.join("\n") };
    const isEvent = this._data.length > 0;
    this._clear();
    if (isEvent) this._onEvent(event);
  }

  _clear() {
    this._kind = "";
    this._data = [];
    this._id = null;
  }
}
