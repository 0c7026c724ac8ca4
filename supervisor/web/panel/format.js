// Formats times, durations and sizes. Pure: the current time is an argument.

const MINUTE = 60, HOUR = 3600, DAY = 86400;

/** A duration in at most two units, with digits padded to a constant width. */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < MINUTE) return `${s} s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)} min ${pad(s % MINUTE)} s`;
  if (s < DAY) return `${Math.floor(s / HOUR)} h ${pad(Math.floor((s % HOUR) / MINUTE))} min`;
  return `${Math.floor(s / DAY)} d ${Math.floor((s % DAY) / HOUR)} h`;
}

/** A duration in one unit. */
export function roughly(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < MINUTE) return plural(s, "second");
  if (s < HOUR) return plural(Math.floor(s / MINUTE), "minute");
  if (s < DAY) return plural(Math.floor(s / HOUR), "hour");
  return plural(Math.floor(s / DAY), "day");
}

/** A count with its noun. */
export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** An amount of bytes. */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = -1;
  while (value >= 1023.95 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** The local time of day. */
export function clock(ms) {
  const at = new Date(ms);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(pad).join(":");
}

/** The local date and time; the date is left out if it is today. */
export function moment(ms, nowMs) {
  const at = new Date(ms);
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return at.toDateString() === new Date(nowMs).toDateString() ? clock(ms) : `${day} ${clock(ms)}`;
}

/** When a key expires; `warn` is whether that is within four weeks. */
export function expiry(text, nowMs) {
  const at = text ? Date.parse(text) : NaN;
  if (Number.isNaN(at)) return { text: "does not expire", warn: false };
  const left = (at - nowMs) / 1000;
  const day = new Date(at).toISOString().slice(0, 10);
  if (left <= 0) return { text: `expired on ${day}`, warn: true };
  return { text: `in ${roughly(left)} (${day})`, warn: left < 28 * DAY };
}

function pad(number) {
  return String(number).padStart(2, "0");
}
