"use strict";
const assert = require("node:assert/strict");
const { beforeEach, test } = require("node:test");
globalThis.crypto ??= require("node:crypto").webcrypto; // not global before Node 19

/** Just so much of a page that fields can be built, focused and typed into. */
class Element extends EventTarget {
  constructor(tagName) {
    super();
    const classList = { add() {}, remove() {}, toggle() {} };
    Object.assign(this, { tagName, children: [], value: "", style: { setProperty() {} }, classList });
  }

  setAttribute(name, value) {
    if (name === "type") this.type = value;
    else if (name === "aria-label") this.label = value;
  }

  append(...children) {
    this.children.push(...children);
  }

  replaceChildren(...children) {
    this.children = children;
  }

  contains(other) {
    return other === this || this.children.some((one) => one.contains?.(other));
  }

  focus() {
    document.activeElement = this;
  }

  find(meant) {
    return meant(this) ? this : this.children.reduce((found, one) => found ?? one.find?.(meant), undefined);
  }
}
globalThis.document = { activeElement: null, createElement: (tag) => new Element(tag.toUpperCase()) };
globalThis.Decollage = {
  icon: () => new Element("SVG"),
  layerOffers: () => ({ element: new Element("DIV"), show() {} }),
};
for (const name of ["store", "geometry", "dom", "inspector"]) require(`../../../studio/canvas/static/${name}.js`);
const { Store, inspectorPanel, commitTyped, number } = globalThis.Decollage;

const layer = (name) => ({
  name, prompt: name, x: 10, y: 20, width: 8, height: 4, scale_x: 1, scale_y: 1, rotation: 0, opacity: 1,
  harmonize: null,
});
const word = { hint: "", min: 0, max: 1, step: 0.05, curve: 1, default: 0.85, nullable: true };
const words = new Proxy({}, { get: (_, label) => ({ ...word, label }) });

let store, panel, box, refused;
const named = (name) => store.doc.layers.find((one) => one.name === name);
beforeEach(() => {
  document.activeElement = null;
  const bounds = { scale: [0.01, 64], x: [-99, 99], y: [-99, 99], rotation: [-180, 180] };
  const limits = { layers: 9, avoids: 9, name: 100, words: 100, ...bounds };
  store = new Store({ name: "", prompt: "", layers: [], avoids: [] }, limits);
  const model = { no_shape: {}, look: true };
  refused = [];
  const attempt = (command) => {
    try {
      command();
    } catch (error) {
      refused.push(error.message);
    }
  };
  panel = inspectorPanel({ store, settings: { words, limits }, model, attempt, usual: () => 0.85 });
  store.subscribe(() => panel.show());
  store.addLayers([layer("cat"), layer("dog")]);
  store.select(named("cat").id);
  box = panel.element.find((one) => one.label === "harmonize, as a number");
});

test("a number typed for a layer stays that layer's when another is selected, and the box says the other's", () => {
  store.patchLayer(named("dog").id, { harmonize: 0.5 });
  box.focus();
  box.value = "0";
  store.select(named("dog").id); // as the canvas does, before the browser takes the focus from the box
  assert.deepEqual([named("cat").harmonize, named("dog").harmonize, box.value], [0, 0.5, "0.50"]);
  assert.equal(store.current.name, "dog");
  box.dispatchEvent(new Event("change"));
  assert.equal(named("dog").harmonize, 0.5);
});

test("nor does it vanish when nothing is selected, or another layer comes in", () => {
  box.focus();
  box.value = "0.2";
  store.select(null);
  assert.equal(named("cat").harmonize, 0.2);
  store.select(named("cat").id);
  box.value = "0.3";
  store.addLayers([layer("fox")]);
  assert.deepEqual([named("cat").harmonize, named("fox").harmonize], [0.3, null]);
});

test("what is being typed is handed over when asked for, and what was only looked at is not set", () => {
  box.focus();
  commitTyped();
  assert.equal(named("cat").harmonize, null);
  box.value = "0.4";
  commitTyped();
  assert.deepEqual([named("cat").harmonize, box.value], [0.4, "0.40"]);
  document.activeElement = null;
  commitTyped();
});

test("a box says what the document has, but for what is being typed in it", () => {
  const told = [];
  const seed = number("Seed", (value) => told.push(value), { min: 0, max: 9, optional: true });
  seed.show(7);
  seed.input.focus();
  seed.show(8);
  assert.equal(seed.input.value, "8");
  seed.input.value = "3";
  seed.show(8);
  assert.equal(seed.input.value, "3");
  commitTyped();
  assert.deepEqual(told, [3]);
});

test("a locked layer stays where it is, and the box says so", () => {
  const x = panel.element.find((one) => one.tagName === "INPUT" && one.type === "number" && one.value === "10");
  store.patchLayer(named("cat").id, { locked: true });
  x.focus();
  x.value = "40";
  commitTyped();
  assert.deepEqual([named("cat").x, x.value, refused], [10, "10", ["cat is locked; unlock it first."]]);
  store.patchLayer(named("cat").id, { locked: false });
  x.value = "40";
  commitTyped();
  assert.equal(named("cat").x, 40);
});
