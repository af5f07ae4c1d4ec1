"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
require("../../../studio/canvas/static/store.js");
require("../../../studio/canvas/static/leaving.js");
const { Store, guardWork } = globalThis.Decollage;

const empty = () => ({ name: "", prompt: "", layers: [], avoids: [] });

test("leaving is asked about while the document is neither as opened nor as saved", () => {
  const page = new EventTarget();
  const store = new Store(empty(), { layers: 4, avoids: 2 });
  const listening = new AbortController();
  const keep = guardWork(store, listening.signal, page);
  const asked = () => {
    const event = new Event("beforeunload", { cancelable: true });
    Object.defineProperty(event, "returnValue", { writable: true, value: "" }); // as a browser's event of this kind has it
    return !page.dispatchEvent(event);
  };
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
