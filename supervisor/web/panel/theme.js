// System, dark or light: loaded before the first paint.

const KEY = "moltis-supervisor-theme";

/** What was chosen: system, dark or light. */
export function chosen() {
  try {
    return localStorage.getItem(KEY) || "system";
  } catch {
    return "system";
  }
}

/** Chooses, and keeps it for the next time. */
export function choose(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Without storage it lasts as long as the page.
  }
  apply(theme);
}

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

apply(chosen());
