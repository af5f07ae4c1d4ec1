"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { studio, EMPTY } = require("./page.js");

const CAT = { name: "cat", words: ["cat"], file: "cat.png", width: 8, height: 8 };

/** A studio with an empty document, and the names of the files that it uploads. */
function opened() {
  const sent = [];
  const upload = async (file) => {
    sent.push(file.name);
    return { path: `/up/${sent.length}` };
  };
  const all = studio({ upload });
  all.receive("value", { ...EMPTY, name: "opened" });
  globalThis.fetch = async () => ({ ok: true, blob: async () => new Blob(["png"]) });
  return { ...all, uploads: sent };
}

const WAYS = {
  "Save": ({ receive }) => receive("saved", { seq: 1, error: "Layer 'cat' names a picture that is gone; add it again." }),
  "a render": ({ receive }) => receive("run", { id: 1, seq: 1, state: "failed", error: "It is gone; add it again." }),
};
for (const [way, fails] of Object.entries(WAYS)) {
  test(`a cut-out that is added again after ${way} failed is sent again`, async () => {
    const all = opened();
    const { app, uploads } = all;
    await app.addCutout(CAT);
    await app.addCutout(CAT);
    assert.deepEqual(uploads, ["cat.png"]);
    fails(all);
    await app.addCutout(CAT);
    assert.deepEqual(uploads, ["cat.png", "cat.png"]);
    assert.equal(app.store.doc.layers.at(-1).picture.path, "/up/2");
  });
}

test("a result is shown as it is alone; the file with its collage is for Download, and for a layer rendered on it", async () => {
  const { app, receive, sent } = opened();
  const one = { image: 0, seed: 1, again: 1, name: "a-1.png", about: "", file: { path: "/bare" }, download: null };
  const shown = () => [app.results.picture.src, app.results.download.hidden, app.results.download.href];
  receive("run", { id: 1, seq: 1, state: "running", results: [one] });
  assert.deepEqual(shown(), ["/bare", true, undefined]);
  receive("run", { id: 1, seq: 2, state: "done", results: [{ ...one, download: { path: "/whole" } }] });
  assert.deepEqual(shown(), ["/bare", false, "/whole"]);
  assert.equal(app.results.all[0].url, "/bare");
  app.store.addLayers([{ picture: { path: "/up/1" }, name: "cat", visible: true }]);
  app.renderAlone(app.store.doc.layers[0].id);
  await new Promise((resolve) => setTimeout(resolve, 600)); // while the last run's stream closes
  assert.equal(sent.at(-1).value.edit.picture.path, "/whole");
});
