"use strict";
const assert = require("node:assert/strict");
const { beforeEach, test } = require("node:test");
const { studio, EMPTY } = require("./page.js");

let app, results, seq;
beforeEach(() => {
  const parts = studio();
  app = parts.app;
  results = app.results;
  seq = 0;
  parts.receive("value", { ...EMPTY, name: "opened" });
  app.store.addLayers([{ name: "cat", prompt: "cat" }]);
});

/** A report of run `id` with its first `done` pictures. */
const report = (id, done, more = {}) => ({
  id, seq: (seq += 1), state: "running", preview: "data:", text: "3 of 9 steps", ...more,
  results: Array.from({ length: done }, (_, image) => {
    return { image, seed: 7 + image, again: 7, name: "a.png", file: { path: `/${id}-${image}` } };
  }),
});

test("what a run reports leaves the selection alone, what the user looks at takes it away", () => {
  const { selected } = app.store;
  results.begin();
  results.take(report(1, 0));
  results.take(report(1, 1));
  results.take(report(1, 2, { state: "done" }));
  assert.equal(results.shown, "1-1");
  assert.equal(app.store.selected, selected);
  results.look(null);
  assert.equal(app.store.selected, selected);
  results.look("1-0");
  assert.equal(app.store.selected, null);
});

test("a layer that was rendered alone stays selected when its result is looked at", () => {
  const { selected } = app.store;
  results.begin(selected);
  results.take(report(1, 1, { state: "done" }));
  results.look("1-0");
  assert.equal(app.store.selected, selected);
});

test("what is chosen while a run is on stays until its end, but for the preview", () => {
  results.begin();
  results.take(report(1, 1));
  assert.equal(results.shown, "1-0");
  results.look("1-0");
  results.take(report(1, 2));
  assert.equal(results.shown, "1-0");
  results.look(null);
  results.take(report(1, 3));
  assert.equal(results.shown, null);
  results.look("preview");
  results.take(report(1, 4));
  assert.equal(results.shown, "1-3");
  results.look("1-1");
  results.take(report(1, 5, { state: "done" }));
  assert.equal(results.shown, "1-1");
  results.begin();
  results.take(report(2, 1));
  assert.equal(results.shown, "2-0"); // the next run is looked at again
});

test("begin, end and each finished picture are read out, steps are not", () => {
  const told = [];
  app.tell = (sentence) => told.push(sentence);
  results.begin();
  results.take(report(1, 0, { text: "Loading the model…" }));
  results.take(report(1, 1));
  results.take(report(1, 1, { text: "4 of 9 steps" }));
  results.take(report(1, 2, { state: "done", text: "Made 2 pictures." }));
  results.take(report(1, 2, { state: "stopped", text: "Stopped." })); // the answer to a Stop that came too late
  assert.deepEqual(told, ["Rendering.", "Picture ready, seed 7.", "Made 2 pictures."]);
  assert.equal(results.status.role, undefined);
});

test("a result is unkept until it is downloaded", () => {
  assert.equal(results.unkept, false);
  results.begin();
  results.take(report(1, 2, { state: "done" }));
  results.look("1-0");
  results.download.onclick();
  assert.equal(results.unkept, true);
  results.look("1-1");
  results.download.onclick();
  assert.equal(results.unkept, false);
});
