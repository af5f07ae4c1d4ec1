"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { studio, EMPTY } = require("./page.js");

const later = () => {
  const wait = {};
  wait.promise = new Promise((resolve, reject) => Object.assign(wait, { resolve, reject }));
  return wait;
};
const file = (name, size = 1) => ({ name, size, type: "image/png" });
const opened = (more = {}) => ({ ...EMPTY, name: "opened", ...more });

test("what an event is about goes with it, whatever happens while it waits", async () => {
  const slow = later();
  const { app, sent, receive } = studio({ upload: () => slow.promise });
  receive("value", opened());
  const upload = app.sendFile(file("cat.png"));
  const edit = { layer: "a", picture: { path: "/result" } };
  const render = app.send("dc_render", {}, { edit });
  const save = app.send("dc_save");
  slow.resolve({ path: "/up/cat.png" });
  await upload;
  app.store.patch({ prompt: "typed while it waited" });
  setTimeout(() => app.store.patch({ prompt: "typed in the pause" }));
  await Promise.all([render, save]);
  assert.deepEqual(sent.map(({ name }) => name), ["dc_render", "dc_save"]);
  assert.deepEqual(sent.map(({ value }) => value.edit), [edit, null]);
  assert.equal(sent[0].value.prompt, "typed in the pause");
});

test("a file to open goes with its own event, and an event that fails holds none back", async () => {
  const { app, sent, receive, props } = studio();
  receive("value", opened());
  const open = app.openCollage(file("a.collage"));
  const save = app.send("dc_save");
  await Promise.all([open, save]);
  const incoming = sent.map(({ name, value }) => [name, value.incoming?.path ?? null]);
  assert.deepEqual(incoming.sort(), [["dc_open", "/up/a.collage"], ["dc_save", null]]);
  const { trigger } = app;
  app.trigger = () => {
    throw new Error("lost");
  };
  await assert.rejects(app.send("dc_save"), /lost/);
  app.trigger = trigger;
  await app.send("dc_save");
  assert.equal(sent.length, 3);
  assert.equal(props.value.incoming, null);
});

test("a result that carries a collage, and a collage, may be larger than a picture", async () => {
  const { app, sent, receive } = studio();
  receive("value", opened());
  await app.openCollage(file("a.collage", 20));
  await app.openCollage(file("a.png", 30));
  assert.equal(sent.length, 2);
  const told = [];
  app.results.fail = (sentence) => told.push(sentence);
  await app.openCollage(file("b.collage", 21));
  await app.openCollage(file("b.png", 31));
  assert.equal(sent.length, 2);
  assert.ok(told.length === 2 && told.every((sentence) => /is larger than/.test(sentence)));
});

test("nothing can be done before the first document is there, and then everything", () => {
  const { app, receive } = studio();
  assert.equal(app.frame.inert, true);
  receive("value", opened());
  assert.equal(app.frame.inert, false);
  assert.equal(app.store.canUndo, false);
});

test("a page that could only be given an empty collage says why, and can be used", () => {
  const error = "The server's disk takes no more files.";
  const early = studio({ value: { ...EMPTY }, saved: { seq: 1, error } }).app; // both were there before the component
  const { app, props, receive } = studio();
  props.saved = { seq: 1, error };
  receive("value", { ...EMPTY });
  receive("saved", props.saved);
  for (const { results, frame } of [early, app]) {
    assert.equal(results.error.hidden, false);
    assert.equal(frame.inert, false);
  }
  const again = studio({ value: { ...EMPTY, opened: 1 }, saved: { seq: 1, error } }).app; // made anew, much later
  assert.equal(again.results.error.hidden, true);
});

test("a layer is rendered on a result of the document that is open, unless another is shown", () => {
  const { app, receive } = studio();
  receive("value", opened());
  const made = (id) => ({ id, state: "done", results: [{ image: 0, seed: 1, again: 1, file: { path: `/${id}` } }] });
  app.results.begin();
  app.results.belongTo(app.store.doc);
  app.results.take(made(1));
  app.results.look(null);
  app.store.patch({ prompt: "changed" });
  assert.equal(app.results.ground.file.path, "/1");
  receive("value", opened({ name: "another" }));
  assert.equal(app.results.ground, null);
  assert.match(app.whyNotAlone({ visible: true }), /^Render the collage first/);
  app.results.look("1-0");
  assert.equal(app.results.ground.file.path, "/1");
  app.results.look(null);
  app.store.undo();
  assert.equal(app.results.ground.file.path, "/1");
});

test("an unticked random seed is that of the last run, of its first image", () => {
  const { app, receive } = studio();
  receive("value", opened());
  const results = [0, 1].map((image) => ({ image, seed: 7 + image, again: 7 + image, file: { path: `/${image}` } }));
  app.results.take({ id: 1, state: "done", results });
  assert.equal(app.results.lastSeed, 7);
});

test("a model is known by its hub id too, and one that is not offered is said to be none", () => {
  const { app, receive } = studio();
  const of = (model) => {
    receive("value", opened({ model }));
    return [app.offered?.name, app.model.name];
  };
  assert.deepEqual(of("embedded"), ["embedded", "embedded"]);
  assert.deepEqual(of("somebody/sd15"), ["sd15", "sd15"]);
  assert.deepEqual(of("no/such-model"), [undefined, "embedded"]);
});

test("a cut-out that the server does not give is no layer, and is asked for again", async () => {
  const { app, receive } = studio();
  receive("value", opened());
  const told = [];
  app.results.fail = (sentence) => told.push(sentence);
  const cutout = { name: "cat", words: ["cat"], file: "cat.png", width: 8, height: 8 };
  const answers = [{ ok: false, blob: async () => new Blob(["<html>"]) }, { ok: true, blob: async () => new Blob(["png"]) }];
  globalThis.fetch = async () => answers.shift();
  await app.addCutout(cutout);
  assert.deepEqual(told, ["cat could not be fetched from the server; try again."]);
  assert.equal(app.store.doc.layers.length, 0);
  await app.addCutout(cutout);
  assert.equal(app.store.doc.layers.length, 1);
});

test("feather's default grows with the canvas", () => {
  const { app, props, receive } = studio();
  props.settings.feather = 0.02;
  for (const [canvas, feather] of [
    [{ width: 256, height: 256 }, 5],
    [{ width: 768, height: 1024 }, 20],
  ]) {
    receive("value", opened({ canvas }));
    assert.equal(app.usual("feather"), feather);
  }
});

test("an avoid reference's default alpha is that of its way, and a model without a negative branch pushes", () => {
  const { app, props, receive } = studio();
  const usual = { avoid_alpha: 1.5, avoid_push: 0.9 };
  const alpha = (more, known = { guidance: 4, steers_above: 1 }) => {
    props.settings.models[0] = { name: "embedded", hub: null, usual, ...known };
    receive("value", opened({ avoid_by: "guidance", guidance: null, ...more }));
    return app.usualAlpha;
  };
  assert.equal(alpha({}), 1.5);
  assert.equal(alpha({ avoid_by: "push" }), 0.9);
  assert.equal(alpha({ guidance: 1 }), 0.9);
  assert.equal(alpha({ guidance: 2 }), 1.5);
  const distilled = { guidance: 8.5, steers_above: null };
  assert.deepEqual([alpha({}, distilled), alpha({ guidance: 4 }, distilled)], [0.9, 0.9]);
  const zImage = { guidance: 4, steers_above: 0 };
  assert.deepEqual([alpha({ guidance: 0.5 }, zImage), alpha({ guidance: 0 }, zImage)], [1.5, 0.9]);
});
