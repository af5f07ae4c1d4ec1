"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
require("../../../studio/canvas/static/store.js");
require("../../../studio/canvas/static/leaving.js");
const { Store, guardWork } = globalThis.Decollage;

const empty = () => ({ name: "", prompt: "", layers: [], avoids: [] });

/** A guarded store; `asked()` leaves the page, or tries to. `page.navigation` is as in browsers that have it. */
function guarded(results = {}) {
  const page = Object.assign(new EventTarget(), { navigation: new EventTarget() });
  const store = new Store(empty(), { layers: 4, avoids: 2 });
  const listening = new AbortController();
  const work = guardWork(store, results, listening.signal, page);
  const asked = () => {
    const event = new Event("beforeunload", { cancelable: true });
    Object.defineProperty(event, "returnValue", { writable: true, value: "" }); // as a browser's event of this kind has it
    return !page.dispatchEvent(event);
  };
  const navigate = (navigationType, userInitiated) =>
    page.navigation.dispatchEvent(Object.assign(new Event("navigate"), { navigationType, userInitiated }));
  return { store, listening, work, asked, navigate };
}

test("leaving is asked about while the document is neither as opened nor as saved", () => {
  const { store, listening, work, asked } = guarded();
  const { keep } = work;
  assert.equal(asked(), false);
  store.replace({ ...empty(), name: "opened" }, { first: true });
  keep(store.doc);
  assert.equal(asked(), false);
  store.patch({ prompt: "a cat" });
  assert.equal(asked(), true);
  store.undo();
  assert.equal(asked(), false); // as it was opened
  store.redo();
  const saved = store.doc;
  store.patch({ prompt: "a cat, typed on while it was saved" });
  keep(saved);
  assert.equal(asked(), true);
  store.undo();
  assert.equal(asked(), false);
  store.patch({ prompt: "another" });
  listening.abort();
  assert.equal(asked(), false);
});

test("leaving is asked about while a run is on, and while a result has not been downloaded", () => {
  const results = { running: true, unkept: false };
  const { asked } = guarded(results);
  assert.equal(asked(), true);
  results.running = false;
  assert.equal(asked(), false);
  results.unkept = true;
  assert.equal(asked(), true);
});

test("a page that loads itself again is let go: its connection is lost; but for results, it asks", () => {
  const results = { running: true, unkept: false };
  const { store, asked, navigate } = guarded(results);
  store.patch({ prompt: "a cat" });
  navigate("reload", false);
  assert.equal(asked(), false);
  assert.equal(asked(), true); // once
  navigate("reload", true);
  assert.equal(asked(), true);
  navigate("push", false);
  assert.equal(asked(), true);
  results.unkept = true;
  navigate("reload", false);
  assert.equal(asked(), true);
});
