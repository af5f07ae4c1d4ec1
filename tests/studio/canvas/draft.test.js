"use strict";
const assert = require("node:assert/strict");
const { beforeEach, test } = require("node:test");
const { studio, EMPTY } = require("./page.js");
const { Store, keepDraft } = globalThis.Decollage;

/** The storage of a tab. */
class Box extends Map {
  getItem(key) {
    return this.get(key) ?? null;
  }

  setItem(key, text) {
    this.set(key, text);
  }

  removeItem(key) {
    this.delete(key);
  }
}

let tab, ends;
const page = (more) => Object.assign(new EventTarget(), { sessionStorage: tab, location: { pathname: "/" }, ...more });
const loaded = (where = page()) => {
  ends = new AbortController();
  const store = new Store({ ...EMPTY }, { layers: 9, avoids: 9 });
  const state = { unsaved: true };
  return { store, state, where, draft: keepDraft(store, () => state.unsaved, ends.signal, where) };
};
beforeEach(() => {
  ends?.abort();
  tab = new Box();
});
const quiet = () => new Promise((resolve) => setTimeout(resolve, 600));

test("what is unsaved is there when the page is loaded again, and forgotten once it is saved", async () => {
  const { store, state, draft } = loaded();
  assert.equal(draft.found, null);
  store.patch({ prompt: "a c" });
  store.patch({ prompt: "a cat" });
  assert.equal(tab.size, 0); // not at every letter
  await quiet();
  assert.equal(loaded().draft.found.prompt, "a cat");
  assert.equal(loaded(page({ location: { pathname: "/other" } })).draft.found, null);
  state.unsaved = false;
  draft.write();
  assert.equal(loaded().draft.found, null);
});

test("what changed last is written when the page goes, and nothing by a page that changed nothing", () => {
  const first = loaded();
  first.store.patch({ prompt: "a cat" });
  first.where.dispatchEvent(new Event("pagehide"));
  const second = loaded(); // its first document has not come yet
  second.state.unsaved = false;
  second.where.dispatchEvent(new Event("pagehide"));
  assert.equal(loaded().draft.found.prompt, "a cat");
});

test("a tab without storage, or with a full one, or with something else in it works all the same", () => {
  const forbidden = page();
  Object.defineProperty(forbidden, "sessionStorage", {
    get() {
      throw new Error("forbidden");
    },
  });
  tab.setItem = () => {
    throw new Error("full");
  };
  for (const where of [forbidden, page({ sessionStorage: undefined }), page()]) {
    const { store, draft } = loaded(where);
    assert.equal(draft.found, null);
    store.patch({ prompt: "a cat" });
    draft.write();
  }
  tab = new Box();
  for (const text of ["{", "null", "7", '{"layers": 3}']) {
    tab.set("decollage /", text);
    assert.equal(loaded().draft.found, null);
  }
});

test("the studio brings it back with the first document, which Undo leads to", () => {
  const found = { ...EMPTY, name: "mine", prompt: "a cat", rev: 7 };
  const key = "decollage ";
  tab.set(key, JSON.stringify(found));
  globalThis.sessionStorage = tab;
  const { app, receive } = studio();
  receive("value", { ...EMPTY, name: "preset" });
  assert.deepEqual([app.store.doc.name, app.store.doc.prompt], ["mine", "a cat"]);
  assert.match(app.results.status.textContent, /^Your collage is back/);
  assert.equal(JSON.parse(tab.get(key)).name, "mine"); // until it is saved or another one is opened
  assert.equal(app.work.unsaved(), true);
  app.store.undo();
  assert.equal(app.store.doc.name, "preset");
  app.store.redo();
  receive("value", { ...EMPTY, name: "opened" });
  assert.equal(app.store.doc.name, "opened");
  assert.equal(tab.get(key), undefined);
});

test("so it does where that document was there before the component, but not where it is the page's own", () => {
  tab.set("decollage ", JSON.stringify({ ...EMPTY, name: "mine" }));
  globalThis.sessionStorage = tab;
  const names = [{}, { opened: 3 }].map((own) => {
    const { app } = studio({ value: { ...EMPTY, name: "there", ...own } });
    assert.equal(app.frame.inert, false);
    return app.store.doc.name;
  });
  assert.deepEqual(names, ["mine", "there"]);
});

test("but not one of another version of the studio", () => {
  tab.set("decollage ", JSON.stringify({ ...EMPTY, name: "mine", version: 99 }));
  globalThis.sessionStorage = tab;
  const { app, receive } = studio();
  receive("value", { ...EMPTY, name: "preset" });
  assert.equal(app.store.doc.name, "preset");
});
