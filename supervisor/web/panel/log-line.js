// Creates a row of the log: time, process, level, and the text in its colours.

import { parts, readable } from "./ansi.js";
import { el } from "./dom.js";
import { clock, plural } from "./format.js";

const GROUNDS = { light: [255, 255, 255], dark: [15, 17, 21] };
const BASE = {
  light: [[24, 24, 27], [185, 28, 28], [21, 128, 61], [146, 64, 14], [29, 78, 216], [162, 28, 175], [14, 116, 144], [82, 82, 91]],
  dark: [[161, 161, 170], [248, 113, 113], [74, 222, 128], [251, 191, 36], [96, 165, 250], [232, 121, 249], [34, 211, 238], [228, 228, 231]],
};
const hues = new Map();

/** The row of a line; matches of the search `text` are marked. */
export function Line(line, text) {
  if (line.gap) return el("div", { class: "line gap", text: `${plural(line.gap, "line")} skipped` });
  return el("div", { class: `line ${line.level}` },
    el("span", { class: "at num", text: clock(Date.parse(line.at)), title: line.at }),
    el("span", { class: `process hue-${hueOf(line.process)}`, text: line.process, title: line.process }),
    el("span", { class: "level", text: line.level === "info" ? "" : line.level }),
    el("span", { class: "message" }, ...words(line, text)));
}

function hueOf(process) {
  if (!hues.has(process)) hues.set(process, hues.size % 6);
  return hues.get(process);
}

function words(line, text) {
  if (text) return marked(line.message, text);
  if (!line.colored) return [line.message];
  return parts(line.colored).map(coloured);
}

function marked(message, text) {
  const found = [];
  const low = message.toLowerCase();
  const wanted = text.toLowerCase();
  let at = 0;
  for (let next = low.indexOf(wanted); next >= 0; next = low.indexOf(wanted, at)) {
    found.push(message.slice(at, next), el("mark", { text: message.slice(next, next + wanted.length) }));
    at = next + wanted.length;
  }
  return [...found, message.slice(at)];
}

function coloured({ text, style }) {
  const names = ["bold", "italic", "underline", "strike"].filter((name) => style[name]);
  if (style.faint && style.fg === null) names.push("faint");
  const node = el("span", { class: names.join(" ") || null, text });
  const theme = getComputedStyle(document.documentElement).getPropertyValue("--theme").trim() || "dark";
  const ground = GROUNDS[theme];
  let fg = rgb(style.fg, theme);
  let bg = rgb(style.bg, theme);
  if (style.inverse) [fg, bg] = [bg || ground, fg || (theme === "dark" ? [228, 228, 231] : [24, 24, 27])];
  if (bg) node.style.setProperty("background-color", `rgb(${bg})`);
  if (fg || bg) node.style.setProperty("color", `rgb(${readable(fg || [161, 161, 170], bg || ground)})`);
  return node;
}

function rgb(colour, theme) {
  if (colour === null || Array.isArray(colour)) return colour;
  return BASE[theme][colour % 8];
}
