"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
globalThis.crypto ??= require("node:crypto").webcrypto; // not global before Node 19

const buttons = {};
const button = (icon, label, onclick) => (buttons[label] = { onclick });
globalThis.Decollage = { h: (tag, attributes) => ({ tag, ...attributes }), mark() {}, iconButton: button, textButton: button };
for (const name of ["store", "tools"]) require(`../../../studio/canvas/static/${name}.js`);
const { Store, Refused, stageTools } = globalThis.Decollage;

test("a locked layer is neither flipped nor deleted by the tools", () => {
  const store = new Store({ layers: [], avoids: [] }, { layers: 9 });
  store.addLayers([{ name: "cat", flip_x: false, flip_y: false, locked: true }]);
  const refused = [];
  const attempt = (command) => {
    try {
      command();
    } catch (error) {
      assert.ok(error instanceof Refused);
      refused.push(error.message);
    }
  };
  stageTools({ store, attempt, results: {} });
  const { doc } = store;
  const all = ["Flip left to right", "Flip upside down", "Delete layer"];
  for (const label of all) buttons[label].onclick();
  assert.equal(store.doc, doc);
  assert.deepEqual(refused, Array(3).fill("cat is locked; unlock it first."));
  store.patchLayer(store.selected, { locked: false });
  for (const label of all.slice(0, 2)) buttons[label].onclick();
  assert.deepEqual([store.current.flip_x, store.current.flip_y], [true, true]);
  buttons["Delete layer"].onclick();
  assert.deepEqual(store.doc.layers, []);
});
