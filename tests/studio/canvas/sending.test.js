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
