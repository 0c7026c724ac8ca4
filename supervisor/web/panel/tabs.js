// Counts other tabs with the panel: together they may use up the browser's connections to one address.

// For HTTP/1.1 in all common browsers.
export const MOST_CONNECTIONS = 6;
const ANSWERS_MS = 300;
const OWN_NAME = Math.random().toString(36).slice(2);
const channel = new BroadcastChannel("moltis-supervisor-panel");
let isOpen = () => false;
let asked = 0;
// The number of answers to each question; every tab receives the answers to all questions.
const answers = new Map();

channel.addEventListener("message", ({ data }) => {
  if (answers.has(data.here)) answers.set(data.here, answers.get(data.here) + 1);
  else if (data.who && isOpen()) channel.postMessage({ here: data.who });
});

/** Answers other tabs while `open()` returns that this tab has an event stream. */
export function answerFor(open) {
  isOpen = open;
}

/** The number of other tabs with an open event stream. */
export async function others() {
  const question = `${OWN_NAME}-${(asked += 1)}`;
  answers.set(question, 0);
  channel.postMessage({ who: question });
  await new Promise((resolve) => setTimeout(resolve, ANSWERS_MS));
  const count = answers.get(question);
  answers.delete(question);
  return count;
}
