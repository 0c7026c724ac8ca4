import assert from "node:assert/strict";
import { test } from "node:test";

// As much of a page as the dialog needs.
class Node extends EventTarget {
  textContent = "";
  open = false;
  showModal() { this.open = true; }
  close() {
    this.open = false;
    this.dispatchEvent(new Event("close"));
  }
  focus() {}
}
const nodes = new Map();
globalThis.document = { getElementById: (id) => nodes.get(id) || nodes.set(id, new Node()).get(id) };
const byId = document.getElementById;
const { clear, confirmed } = await import("./panel/dialog.js");

/** Lets a question be asked, or an answer be taken. */
const soon = () => new Promise((resolve) => setTimeout(resolve, 1));
const click = (id) => byId(id).dispatchEvent(new Event("click"));

test("each question has its own answer, in turn", async () => {
  const first = confirmed("Start without a backup?", "Nothing is restored.", "Start");
  const second = confirmed("Disconnect?", "You came this way.", "Disconnect");
  await soon();
  assert.equal(byId("confirm-title").textContent, "Start without a backup?");
  click("confirm-go");
  assert.equal(await first, true);
  await soon();
  assert.equal(byId("confirm").open, true);
  assert.equal(byId("confirm-title").textContent, "Disconnect?");
  click("confirm-cancel");
  assert.equal(await second, false);
  assert.equal(byId("confirm").open, false);
});

test("who has signed out is asked nothing", async () => {
  const first = confirmed("Start without a backup?", "Nothing is restored.", "Start");
  const second = confirmed("Disconnect?", "You came this way.", "Disconnect");
  await soon();
  clear();
  assert.deepEqual(await Promise.all([first, second]), [false, false]);
  await soon();
  assert.equal(byId("confirm").open, false);
  const third = confirmed("Disconnect?", "You came this way.", "Disconnect");
  await soon();
  click("confirm-go");
  assert.equal(await third, true);
});
