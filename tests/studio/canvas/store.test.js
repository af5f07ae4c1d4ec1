"use strict";
const assert = require("node:assert/strict");
const { beforeEach, test } = require("node:test");
globalThis.crypto ??= require("node:crypto").webcrypto; // not global before Node 19
require("../../../studio/canvas/static/store.js");
const { Store, Refused, freeName, cut } = globalThis.Decollage;

const file = (name) => ({ path: `/tmp/${name}`, meta: { _type: "gradio.FileData" } });
const layer = (name, more = {}) => ({
  name, picture: file(name), prompt: name, x: 10, y: 20, width: 8, height: 4, scale_x: 1, scale_y: 1, rotation: 0,
  flip_x: false, flip_y: false, opacity: 1, visible: true, locked: false, clip: null, mask: null, harmonize: null, ...more,
});
const empty = () => ({
  name: "", prompt: "", seed: null, canvas: { width: 64, height: 64 },
  background: { colour: "#ffffff", picture: null, harmonize: null }, layers: [], avoids: [],
});

let store, clock, told;
beforeEach(() => {
  clock = 0;
  told = [];
  store = new Store(empty(), { layers: 4, avoids: 2 }, () => clock);
  store.subscribe((what) => told.push(what));
});
const names = () => store.doc.layers.map((one) => one.name);
const id = (name) => store.doc.layers.find((one) => one.name === name).id;

test("a command makes a new document and leaves the old one as it was", () => {
  const before = store.doc;
  store.addLayers([layer("cat")]);
  assert.notEqual(store.doc, before);
  assert.deepEqual(before, empty());
  assert.equal(store.doc.rev, 1);
  assert.equal(store.current.name, "cat");
});

test("undo and redo walk through documents and selections, and a new command ends redo", () => {
  store.addLayers([layer("cat")]);
  store.addLayers([layer("dog")]);
  assert.ok(store.undo());
  assert.deepEqual(names(), ["cat"]);
  assert.equal(store.current.name, "cat");
  assert.ok(store.redo());
  assert.deepEqual(names(), ["cat", "dog"]);
  store.undo();
  store.patch({ prompt: "a cat" });
  assert.equal(store.canRedo, false);
  assert.equal(store.redo(), false);
  store.undo();
  store.undo();
  assert.deepEqual(names(), []);
  assert.equal(store.undo(), false);
});

test("rev only ever grows, also through undo: the server can tell older from newer", () => {
  const revs = [];
  store.subscribe(() => revs.push(store.doc.rev));
  store.patch({ prompt: "a" });
  store.patch({ prompt: "b" });
  store.undo();
  store.redo();
  assert.deepEqual(revs, [...revs].sort((a, b) => a - b));
  assert.equal(new Set(revs).size, 4);
});

test("typing is one step of the history while it is quick, and two after a pause", () => {
  for (const text of ["c", "ca", "cat"]) {
    clock += 100;
    store.patch({ prompt: text }, "doc:prompt");
  }
  assert.equal(store.past.length, 1);
  clock += 5000;
  store.patch({ prompt: "cats" }, "doc:prompt");
  assert.equal(store.past.length, 2);
  store.undo();
  assert.equal(store.doc.prompt, "cat");
});

test("different tags never join, and undo ends a joining step", () => {
  store.patch({ prompt: "a" }, "one");
  store.patch({ seed: 1 }, "two");
  assert.equal(store.past.length, 2);
  store.undo();
  store.patch({ prompt: "ab" }, "one");
  assert.equal(store.past.length, 2);
});

test("a change that changes nothing is no step", () => {
  store.addLayers([layer("cat")]);
  const { rev } = store.doc;
  store.patchLayer(id("cat"), { x: 10.0000001 });
  store.patch({ prompt: "" });
  store.patchBackground({ colour: "#ffffff" });
  store.patch({ canvas: { width: 64, height: 64 } });
  assert.equal(store.doc.rev, rev);
  store.patch({ canvas: { width: 72, height: 64 } });
  assert.equal(store.doc.rev, rev + 1);
});

test("places are rounded as they come in", () => {
  store.addLayers([layer("cat")]);
  store.patchLayer(id("cat"), { x: 1.23456, scale_x: 0.123456789, rotation: 45.006 });
  const { x, scale_x, rotation } = store.current;
  assert.deepEqual([x, scale_x, rotation], [1.23, 0.12346, 45.01]);
});

test("reorder moves a layer to a place and stops at both ends", () => {
  store.addLayers([layer("a"), layer("b"), layer("c")]);
  store.reorder(id("a"), 2);
  assert.deepEqual(names(), ["b", "c", "a"]);
  store.shift(id("a"), 1);
  assert.deepEqual(names(), ["b", "c", "a"]);
  store.shift(id("a"), -1);
  assert.deepEqual(names(), ["b", "a", "c"]);
  store.undo();
  assert.deepEqual(names(), ["b", "c", "a"]);
});

test("a duplicate lies above, beside, with an id and a name of its own, and unlocked", () => {
  store.addLayers([layer("cat", { locked: true }), layer("dog")]);
  store.duplicate(id("cat"));
  assert.deepEqual(names(), ["cat", "cat 2", "dog"]);
  const [first, second] = store.doc.layers;
  assert.notEqual(first.id, second.id);
  assert.deepEqual([second.x - first.x, second.y - first.y, second.locked], [16, 16, false]);
  assert.equal(second.picture, first.picture);
  assert.equal(store.selected, second.id);
});

test("deleting a layer frees the references confined to it, in one step", () => {
  store.addLayers([layer("cat")]);
  store.addAvoid({ name: "fox", picture: file("fox"), layer: null, alpha: null });
  store.patchAvoid(store.doc.avoids[0].id, { layer: id("cat") });
  store.remove(id("cat"));
  assert.equal(store.doc.avoids[0].layer, null);
  assert.equal(store.selected, null);
  store.undo();
  assert.equal(store.doc.avoids[0].layer, id("cat"));
});

test("a locked layer is not deleted, and is said to be locked", () => {
  store.addLayers([layer("cat")]);
  store.patchLayer(id("cat"), { locked: true });
  const { doc } = store;
  const refusal = (error) => error instanceof Refused && error.message === "cat is locked; unlock it first.";
  assert.throws(() => store.remove(id("cat")), refusal);
  assert.throws(() => store.unlocked(id("cat")), refusal);
  assert.equal(store.doc, doc);
  assert.equal(store.unlocked("nobody"), null);
  store.patchLayer(id("cat"), { locked: false });
  store.remove(store.unlocked(id("cat")).id);
  assert.deepEqual(names(), []);
});

test("limits refuse with a sentence and change nothing", () => {
  store.addLayers([layer("a"), layer("b"), layer("c")]);
  const { doc } = store;
  assert.throws(() => store.addLayers([layer("d"), layer("e")]), (error) => error instanceof Refused && /at most 4/.test(error.message));
  assert.equal(store.doc, doc);
  store.duplicate(id("a"));
  assert.throws(() => store.duplicate(id("a")), Refused);
  store.addAvoid({ name: "x", picture: file("x") });
  store.addAvoid({ name: "x", picture: file("x") });
  assert.throws(() => store.addAvoid({ name: "x", picture: file("x") }), Refused);
  assert.deepEqual(store.doc.avoids.map((one) => one.name), ["x", "x 2"]);
});

test("another document can be undone, the first cannot", () => {
  store.replace({ ...empty(), name: "first" }, { first: true });
  assert.equal(store.canUndo, false);
  store.replace({ ...empty(), name: "second" });
  store.undo();
  assert.equal(store.doc.name, "first");
});

test("a document keeps its number among those opened, also through undo", () => {
  store.replace({ ...empty(), name: "first" }, { first: true });
  const { opened } = store.doc;
  store.patch({ prompt: "a" });
  assert.equal(store.doc.opened, opened);
  store.replace({ ...empty(), name: "second" });
  store.patch({ prompt: "b" });
  assert.equal(store.doc.opened, opened + 1);
  store.undo();
  store.undo();
  assert.equal(store.doc.opened, opened);
  store.replace({ ...empty(), name: "third" });
  assert.equal(store.doc.opened, opened + 2);
});

test("selecting tells listeners without making a step, and an unknown id selects nothing", () => {
  store.addLayers([layer("cat")]);
  const steps = store.past.length;
  store.select("nobody");
  assert.equal(store.selected, null);
  store.select(id("cat"));
  assert.equal(store.past.length, steps);
  assert.deepEqual(told.at(-1), { doc: false, say: "Selected cat." });
});

test("the history is bounded", () => {
  for (let number = 0; number < 300; number += 1) store.patch({ seed: number });
  assert.equal(store.past.length, 200);
  while (store.undo());
  assert.equal(store.doc.seed, 99);
});

test("free names count on", () => {
  const others = [{ name: "cat" }, { name: "cat 2" }];
  assert.equal(freeName("cat", others), "cat 3");
  assert.equal(freeName("cat 2", others), "cat 3");
  assert.equal(freeName("dog", others), "dog");
  assert.equal(freeName("", others), "");
});

test("names stay as short as the server takes them, and are free", () => {
  assert.equal(freeName("abcde", [{ name: "abcd" }], 4), "ab 2");
  assert.equal(freeName("ab 2", [{ name: "ab 2" }, { name: "ab 3" }], 4), "ab 4");
  assert.equal(freeName("abcde", [{ name: "abcde" }], 6), "abcd 2");
  assert.deepEqual([cut("a😀b", 2), cut("a😀b", 3), cut("😀😀", 3)], ["a😀", "a😀b", "😀😀"]);
  store.limits = { ...store.limits, name: 100 };
  store.addLayers([layer("x".repeat(100)), layer("x".repeat(100))]);
  store.duplicate(store.doc.layers[1].id);
  store.addAvoid({ name: "a long sentence ".repeat(19), picture: file("fox") });
  assert.deepEqual(names().map((name) => name.slice(96)), ["xxxx", "xx 2", "xx 3"]);
  assert.ok([...names(), store.doc.avoids[0].name].every((name) => name.length === 100));
});

test("suggested values fill what is open, never what is set, in one step of the history", () => {
  store.addLayers([layer("cat", { harmonize: 0, feather: null, attend_inside: null })]);
  const cat = id("cat");
  const before = store.past.length;
  assert.deepEqual(store.fill(cat, { harmonize: 0.6, feather: 4, attend_inside: 0.5 }), ["feather", "attend_inside"]);
  assert.deepEqual([store.current.harmonize, store.current.feather, store.current.attend_inside], [0, 4, 0.5]);
  assert.equal(store.past.length, before + 1);
  assert.deepEqual(store.fill(cat, { harmonize: 0.6, feather: 9 }), []);
  assert.deepEqual(store.fill("nobody", { feather: 9 }), []);
  assert.equal(store.past.length, before + 1);
  store.undo();
  assert.deepEqual([store.current.harmonize, store.current.feather], [0, null]);
});

test("what is filled in is said by prompt and visible layers, in one step of the history", () => {
  store.limits = { ...store.limits, prompt: 20, words: 10 };
  store.addLayers([layer("car"), layer("cat", { visible: false }), layer("hat")]);
  const before = store.past.length;
  assert.throws(() => store.say("{red|blue} car", ["{red|blue} car", "hat"]), Refused);
  assert.throws(() => store.say("x".repeat(21), ["car", "hat"]), Refused);
  assert.equal(store.past.length, before);
  store.say("a {b|c} car", ["{b|c} car", "a hat"]);
  assert.deepEqual(store.doc.layers.map((one) => one.prompt), ["{b|c} car", "cat", "a hat"]);
  assert.deepEqual([store.doc.prompt, store.doc.variants], ["a {b|c} car", true]);
  assert.equal(store.past.length, before + 1);
  store.undo();
  assert.deepEqual([store.doc.prompt, store.layer(id("car")).prompt], ["", "car"]);
});

test("a collage is resized as the server does it", () => {
  // the numbers of tests/studio/test_resizing.py
  store = new Store(
    { ...empty(), canvas: { width: 128, height: 64 }, grow: -30 },
    { layers: 4, avoids: 2, scale: [0.001, 64], feather: [0, 256], grow: [-128, 128] },
  );
  store.addLayers([layer("a", { x: 50, y: 30, scale_x: 0.8, scale_y: 0.6, feather: 20 }), layer("b")]);
  store.resize({ width: 256, height: 512 });
  const [first, second] = store.doc.layers;
  assert.deepEqual([first.x, first.y, first.scale_x, first.scale_y], [100, 252, 1.6, 1.2]);
  assert.deepEqual([first.feather, second.feather, store.doc.grow], [40, null, -60]);
  store.resize({ width: 2048, height: 4096 });
  assert.deepEqual([store.doc.layers[0].feather, store.doc.grow], [256, -128]);
  store.undo();
  store.undo();
  assert.deepEqual([store.doc.canvas, store.doc.layers[0].x], [{ width: 128, height: 64 }, 50]);
});

test("a layer that would be too large is named, and nothing is resized", () => {
  store = new Store(empty(), { layers: 4, avoids: 2, scale: [0.001, 64], feather: [0, 256], grow: [-128, 128] });
  store.addLayers([layer("moon", { scale_x: 60 })]);
  const before = store.doc;
  assert.throws(() => store.resize({ width: 128, height: 128 }), { message: /moon would be too large/ });
  assert.equal(store.doc, before);
});
