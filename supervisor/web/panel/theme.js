// The theme (system, dark or light), applied before the first paint.

const KEY = "moltis-supervisor-theme";

/** The chosen theme: system, dark or light. */
export function chosen() {
  try {
    return localStorage.getItem(KEY) || "system";
  } catch {
    return "system";
  }
}

/** Applies a theme and stores the choice. */
export function choose(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Without storage, the choice lasts as long as the page.
  }
  apply(theme);
}

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

apply(chosen());
