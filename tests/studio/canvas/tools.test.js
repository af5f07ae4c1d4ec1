"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
globalThis.crypto ??= require("node:crypto").webcrypto; // not global before Node 19

const buttons = {};
const made = [];
const button = (icon, label, onclick) => (buttons[label] = { onclick });
const h = (tag, attributes) => made[made.push({ tag, ...attributes }) - 1];
globalThis.Decollage = { h, mark() {}, iconButton: button, textButton: button };
for (const name of ["store", "tools"]) require(`../../../studio/canvas/static/${name}.js`);
const { Store, Refused, headerBar, stageTools } = globalThis.Decollage;

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

test("no key changes the list of presets while it is closed: such keys open it", () => {
  const opened = [];
  const settings = { presets: [{ name: "pool", title: "Pool" }], limits: {} };
  headerBar({ settings, openPreset: (name) => opened.push(name) });
  const select = made.find((one) => one.tag === "select");
  let shown = 0;
  select.showPicker = () => (shown += 1);
  const taken = (key, more = {}) => {
    let prevented = false;
    select.onkeydown({ key, ...more, preventDefault: () => (prevented = true) });
    return prevented;
  };
  assert.deepEqual(["ArrowDown", "End", "p"].map((key) => taken(key)), [true, true, true]);
  assert.equal(shown, 3);
  assert.ok([" ", "Enter", "Tab", "Delete", "Escape"].every((key) => !taken(key)));
  assert.deepEqual([taken("z", { ctrlKey: true }), taken("ArrowDown", { altKey: true })], [false, false]);
  select.showPicker = () => {
    throw new Error("not in this frame");
  };
  assert.equal(taken("ArrowDown"), true);
  select.value = "pool";
  select.onchange();
  assert.deepEqual([opened, select.value], [["pool"], ""]);
});
