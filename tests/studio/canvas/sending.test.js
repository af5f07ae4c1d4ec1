"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { studio, EMPTY } = require("./page.js");

const settled = () => new Promise((resolve) => setTimeout(resolve, 50)); // every event that can leave has left

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
