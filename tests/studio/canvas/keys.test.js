"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
require("../../../studio/canvas/static/keys.js");
const { keyCommand } = globalThis.Decollage;

const press = (key, held = "") =>
  keyCommand({ key, ctrlKey: held.includes("c"), metaKey: held.includes("m"), shiftKey: held.includes("s"), altKey: held.includes("a") });

test("the usual keys, with Ctrl as with Cmd", () => {
  for (const held of ["c", "m"]) {
    assert.equal(press("z", held).command, "undo");
    assert.equal(press("Z", `${held}s`).command, "redo");
    assert.equal(press("y", held).command, "redo");
    assert.equal(press("d", held).command, "duplicate");
    assert.equal(press("Enter", held).command, "render");
  }
  assert.equal(press("Delete").command, "remove");
  assert.equal(press("Backspace").command, "remove");
});

test("arrows move by 1 and with Shift by 10", () => {
  assert.deepEqual(press("ArrowUp"), { command: "nudge", dx: 0, dy: -1 });
  assert.deepEqual(press("ArrowRight", "s"), { command: "nudge", dx: 10, dy: 0 });
});

test("only Render and Save act while a text is being typed", () => {
  const all = [press("z", "c"), press("Delete"), press("ArrowUp"), press("d", "c"), press("Escape")];
  assert.ok(all.every((one) => !one.whileTyping));
  assert.ok(press("Enter", "c").whileTyping && press("s", "c").whileTyping);
});

test("plain letters and the browser's own shortcuts are left alone", () => {
  for (const [key, held] of [["z", ""], ["s", ""], ["r", "c"], ["t", "m"], ["ArrowLeft", "a"], ["Tab", ""]]) {
    assert.equal(press(key, held), null);
  }
});
