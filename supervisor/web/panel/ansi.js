// Parses colour codes (SGR) into styles, and adjusts colours for contrast. Pure.

const CODES = /\x1b\[([0-9;:]*)m/g;
const PLAIN = Object.freeze({ fg: null, bg: null, bold: false, faint: false, italic: false, underline: false, strike: false, inverse: false });
const SWITCHES = {
  1: { bold: true }, 2: { faint: true }, 3: { italic: true }, 4: { underline: true }, 7: { inverse: true }, 9: { strike: true },
  22: { bold: false, faint: false }, 23: { italic: false }, 24: { underline: false }, 27: { inverse: false }, 29: { strike: false },
  39: { fg: null }, 49: { bg: null },
};

/** Splits a line into `{text, style}`; a colour is a number from 0 to 15, or `[r, g, b]`. */
export function parts(line) {
  const found = [];
  let style = PLAIN;
  let at = 0;
  for (const code of line.matchAll(CODES)) {
    if (code.index > at) found.push({ text: line.slice(at, code.index), style });
    style = after(style, code[1]);
    at = code.index + code[0].length;
  }
  if (at < line.length) found.push({ text: line.slice(at), style });
  return found;
}

function after(style, code) {
  const numbers = code === "" ? [0] : code.split(/[;:]/).map((part) => Number(part || 0));
  let next = style;
  while (numbers.length) {
    const number = numbers.shift();
    if (number === 0) next = PLAIN;
    else if (SWITCHES[number]) next = { ...next, ...SWITCHES[number] };
    else if (number === 38 || number === 48) next = { ...next, [number === 38 ? "fg" : "bg"]: longColour(numbers, code.includes(":")) };
    else next = { ...next, ...shortColour(number) };
  }
  return next;
}

function shortColour(number) {
  if (number >= 30 && number <= 37) return { fg: number - 30 };
  if (number >= 90 && number <= 97) return { fg: number - 82 };
  if (number >= 40 && number <= 47) return { bg: number - 40 };
  if (number >= 100 && number <= 107) return { bg: number - 92 };
  return {};
}

function longColour(numbers, hasColons) {
  const kind = numbers.shift();
  if (kind === 5) return indexed(numbers.shift() ?? 0);
  if (kind !== 2) return null;
  // With colons a colour space may stand before the three.
  if (hasColons && numbers.length > 3) numbers.shift();
  return [0, 1, 2].map(() => byte(numbers.shift() ?? 0));
}

/** The colour of this number among 256. */
export function indexed(number) {
  const index = byte(number);
  if (index < 16) return index;
  if (index >= 232) return Array(3).fill(8 + (index - 232) * 10);
  const cube = index - 16;
  return [Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map((step) => (step ? 55 + step * 40 : 0));
}

function byte(number) {
  return Math.min(255, Math.max(0, number));
}

/** The contrast of two colours by WCAG, from 1 to 21. */
export function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

function luminance([r, g, b]) {
  const [x, y, z] = [r, g, b].map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}

/** The colour, made lighter or darker until it is readable on this background. */
export function readable(colour, ground, least = 4.5) {
  const end = contrast([255, 255, 255], ground) >= contrast([0, 0, 0], ground) ? 255 : 0;
  for (let share = 0; share < 1; share += 0.1) {
    const mixed = colour.map((part) => Math.round(part + (end - part) * share));
    if (contrast(mixed, ground) >= least) return mixed;
  }
  return [end, end, end];
}
