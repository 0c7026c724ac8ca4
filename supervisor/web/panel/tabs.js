// The other tabs of this browser that show the panel: together they may use up its connections to one address.

// For HTTP/1.1 in all common browsers.
export const MOST_CONNECTIONS = 6;
const ANSWERS_MS = 300;
const channel = new BroadcastChannel("moltis-supervisor-panel");
let isOpen = () => false;
let answers = 0;

channel.addEventListener("message", ({ data }) => {
  if (data === "here") answers += 1;
  else if (data === "who" && isOpen()) channel.postMessage("here");
});

/** Answers other tabs for as long as `open()` says that this one has its event stream. */
export function answerFor(open) {
  isOpen = open;
}

/** How many other tabs have an event stream open. */
export async function others() {
  answers = 0;
  channel.postMessage("who");
  await new Promise((resolve) => setTimeout(resolve, ANSWERS_MS));
  return answers;
}
