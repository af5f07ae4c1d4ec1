"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
require("../../../studio/canvas/static/keys.js");
const { keyCommand, listenToKeys } = globalThis.Decollage;
const body = { tagName: "BODY" };
globalThis.document = Object.assign(new EventTarget(), { body });

/** A studio that listens to keys; `press` gives whether one was taken. `inside` are the elements of its frame. */
function listening(store, { inside = () => true } = {}) {
  const ends = new AbortController();
  const frame = { inert: false, contains: inside };
  listenToKeys({ store, attempt: (command) => command(), listening: ends }, frame);
  const press = (target, key) => {
    const event = Object.assign(new Event("keydown", { cancelable: true }), key);
    Object.defineProperty(event, "target", { value: target });
    document.dispatchEvent(event);
    return event.defaultPrevented;
  };
  return { press, frame, ends };
}

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

test("brackets with Alt choose a layer, also where Alt makes other characters of them", () => {
  assert.deepEqual(press("]", "a"), { command: "next", by: 1 });
  assert.deepEqual(press("[", "a"), { command: "next", by: -1 });
  const onMac = (key, code) => keyCommand({ key, code, altKey: true });
  assert.deepEqual(onMac("‘", "BracketRight"), { command: "next", by: 1 });
  assert.deepEqual(onMac("“", "BracketLeft"), { command: "next", by: -1 });
  assert.equal(keyCommand({ key: "+", code: "BracketRight", ctrlKey: true }), null); // a German keyboard: zoom
});

test("a slider, a box to tick, a colour or a choice has had the focus: the keys act, but its arrows are its own", () => {
  const done = [];
  const current = { id: "a", x: 0, y: 0, locked: false };
  const store = {
    current, doc: { layers: [current] }, undo: () => done.push("undo"), remove: () => done.push("remove"),
    patchLayer: () => done.push("nudge"), select: () => done.push("none"),
  };
  const studio = listening(store);
  const all = (target) => {
    done.length = 0;
    for (const key of [{ key: "z", ctrlKey: true }, { key: "Delete" }, { key: "ArrowLeft" }, { key: "Escape" }]) {
      studio.press(target, key);
    }
    return done.join(" ");
  };
  const input = (type) => all({ tagName: "INPUT", type });
  assert.equal(all({ tagName: "DIV" }), "undo remove nudge none");
  assert.deepEqual([input("checkbox"), input("color")], ["undo remove nudge none", "undo remove nudge none"]);
  assert.equal(input("range"), "undo remove none");
  assert.equal(all({ tagName: "SELECT", type: "select-one" }), "undo remove"); // Escape closes its list
  assert.deepEqual(["text", "number", "search"].map(input), ["", "", ""]);
  assert.deepEqual([all({ tagName: "TEXTAREA" }), all({ tagName: "DIV", isContentEditable: true })], ["", ""]);
  studio.ends.abort();
});

test("keys act while nothing has the focus, not beside the studio, nor before it is ready or after it", () => {
  let undone = 0;
  const store = { current: null, doc: { layers: [] }, undo: () => (undone += 1) };
  const mine = { tagName: "BUTTON" };
  const studio = listening(store, { inside: (element) => element === mine });
  const undo = { key: "z", ctrlKey: true };
  const press = (target) => studio.press(target, undo);
  assert.deepEqual([press(body), press(mine), press({ tagName: "DIV" }), undone], [true, true, false, 2]);
  assert.equal(studio.press(body, { key: "ArrowDown" }), false); // no layer is selected: the page scrolls
  studio.frame.inert = true;
  assert.equal(press(body), false);
  studio.frame.inert = false;
  studio.ends.abort();
  assert.equal(press(body), false);
});
