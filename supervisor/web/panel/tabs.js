// The other tabs of this browser that show the panel: together they may use up its connections to one address.

// For HTTP/1.1 in all common browsers.
export const MOST_CONNECTIONS = 6;
const ANSWERS_MS = 300;
const OWN_NAME = Math.random().toString(36).slice(2);
const channel = new BroadcastChannel("moltis-supervisor-panel");
let isOpen = () => false;
let asked = 0;
// How many have answered each question: every tab hears the answers to all tabs' questions.
const answers = new Map();

channel.addEventListener("message", ({ data }) => {
  if (answers.has(data.here)) answers.set(data.here, answers.get(data.here) + 1);
  else if (data.who && isOpen()) channel.postMessage({ here: data.who });
});

/** Answers other tabs for as long as `open()` says that this one has its event stream. */
export function answerFor(open) {
  isOpen = open;
}

/** How many other tabs have an event stream open. */
export async function others() {
  const question = `${OWN_NAME}-${(asked += 1)}`;
  answers.set(question, 0);
  channel.postMessage({ who: question });
  await new Promise((resolve) => setTimeout(resolve, ANSWERS_MS));
  const count = answers.get(question);
  answers.delete(question);
  return count;
}
