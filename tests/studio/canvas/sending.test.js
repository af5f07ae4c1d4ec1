"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { studio, EMPTY } = require("./page.js");

const { setTimeout: inFull } = globalThis;
globalThis.setTimeout = (act, milliseconds = 0) => inFull(act, milliseconds / 20); // what waits seconds waits little
/** Every event that can leave has left: by turns of the loop, so that a slow machine has them, too. */
const settled = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => inFull(resolve, 5));
};

/** A studio with a document open. */
function open(options) {
  const parts = studio(options);
  parts.receive("value", { ...EMPTY, name: "opened" });
  return parts;
}

test("what is being typed into a number's box is rendered and saved", async () => {
  for (const ask of ["render", "save"]) {
    const { app, sent } = open();
    const { commitTyped } = globalThis.Decollage;
    globalThis.Decollage.commitTyped = () => app.store.patch({ prompt: "typed" });
    app[ask]();
    globalThis.Decollage.commitTyped = commitTyped;
    await settled();
    assert.deepEqual(sent.map(({ value }) => value.prompt), ["typed"]);
  }
});

const stopped = (app, receive) => {
  app.stop();
  receive("run", { id: null, seq: app.results.seq + 1, state: "stopped", text: "Stopped." }); // the server's answer
};

test("a render that was stopped while it waited for an upload never leaves", async () => {
  let uploaded;
  const { app, sent, receive } = open({ upload: () => new Promise((resolve) => (uploaded = resolve)) });
  const upload = app.sendFile({ name: "cat.png" });
  app.render();
  await settled();
  stopped(app, receive);
  uploaded({ path: "/up/cat.png" });
  await upload;
  await settled();
  assert.deepEqual(sent.map(({ name }) => name), ["dc_stop"]);
  assert.equal(app.results.running, false);
});

test("nor does it when another render was asked for since: that one leaves, once", async () => {
  let uploaded;
  const { app, sent, receive } = open({ upload: () => new Promise((resolve) => (uploaded = resolve)) });
  app.sendFile({ name: "cat.png" });
  app.render({ layer: "a", picture: {} });
  await settled();
  stopped(app, receive);
  app.results.endedAt = -Infinity; // long ago
  app.render();
  await settled();
  uploaded({ path: "/up/cat.png" });
  await settled();
  assert.deepEqual(sent.map(({ name, value }) => [name, value.edit]).at(-1), ["dc_render", null]);
  assert.equal(sent.filter(({ name }) => name === "dc_render").length, 1);
});

/** What the server answers a save with. */
const saved = (value) => ({ seq: 1, rev: value.rev ?? null, file: { path: "/a.collage" }, name: "a.collage" });

test("a second save waits for the answer to the first, and leaves if something has changed since", async () => {
  const { app, sent, receive } = open();
  const kept = [];
  app.keep = (doc) => kept.push(doc.prompt);
  app.store.patch({ prompt: "one" });
  app.save();
  await settled();
  app.store.patch({ prompt: "two" });
  app.save();
  await settled();
  assert.equal(sent.length, 1); // Gradio would drop another one
  receive("saved", { seq: 0, error: "There is no preset of this name." }); // no answer to the save
  await settled();
  assert.equal(sent.length, 1);
  receive("saved", saved(sent[0].value));
  assert.deepEqual(kept, ["one"]); // not what was typed since
  await settled();
  assert.deepEqual(sent.map(({ value }) => value.prompt), ["one", "two"]);
  app.save();
  receive("saved", saved(sent[1].value));
  assert.deepEqual(kept, ["one", "two"]);
  await settled();
  assert.equal(sent.length, 2); // the file that came is of this very document
  app.save();
  await settled();
  assert.equal(sent.length, 3);
  receive("saved", saved(sent[2].value));
});

test("a save without an answer holds the next one for a while only, and counts as none", async () => {
  const { app, sent, receive } = open();
  const kept = [];
  app.keep = (doc) => kept.push(doc.prompt);
  app.store.patch({ prompt: "one" });
  app.save();
  await settled();
  app.store.patch({ prompt: "two" });
  app.save();
  await settled();
  assert.equal(sent.length, 1);
  await new Promise((resolve) => inFull(resolve, 1800));
  assert.equal(sent.length, 2);
  receive("saved", saved(sent[0].value)); // late: what was sent last is not saved
  assert.deepEqual(kept, []);
});
