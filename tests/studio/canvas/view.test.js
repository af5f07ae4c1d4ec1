"use strict";
const assert = require("node:assert/strict");
const { beforeEach, test } = require("node:test");
globalThis.crypto ??= require("node:crypto").webcrypto; // not global before Node 19

/** Konva's nodes, as far as gestures need them: attributes, listeners, a pointer that is where the last event was. */
class Node {
  constructor(attributes = {}) {
    this.attributes = attributes;
    this.listeners = {};
  }

  on(name, act) {
    this.listeners[name] = act;
  }

  setAttrs(attributes) {
    Object.assign(this.attributes, attributes);
  }

  position(at) {
    this.setAttrs(at);
  }

  size(of) {
    this.setAttrs(of);
  }
}
for (const name of ["x", "y", "width", "height", "visible", "image"]) {
  Node.prototype[name] = function get() {
    return this.attributes[name];
  };
}
const nothing = ["add", "scale", "moveTo", "moveToTop", "getLayer", "nodes", "batchDraw", "forceUpdate", "destroy"];
for (const name of nothing) Node.prototype[name] = () => {};
class Transformer extends Node {
  isAncestorOf() {
    return false;
  }

  isTransforming() {
    return this.transforming ?? false;
  }
}
class Stage extends Node {
  getPointerPosition() {
    return this.at;
  }
}
globalThis.Konva = { Stage, Transformer, Layer: Node, Image: Node, Rect: Node, Shape: Node };
globalThis.ResizeObserver = class {
  observe() {}
};
for (const name of ["store", "geometry", "view"]) require(`../../../studio/canvas/static/${name}.js`);
const { Store, View } = globalThis.Decollage;

const layer = (name, x) => ({
  name, x, y: 50, width: 40, height: 40, scale_x: 1, scale_y: 1, rotation: 0, opacity: 1,
  visible: true, locked: false, clip: null,
});

let store, view, at;
beforeEach(() => {
  const canvas = { width: 100, height: 100 };
  store = new Store({ canvas, background: {}, layers: [], avoids: [] }, { layers: 9 });
  store.addLayers([layer("cat", 20), layer("dog", 70)]);
  const pictures = { keepOnly() {}, opacityAt: () => 1, paint: async () => ({ canvas: null }) };
  view = new View({ clientWidth: 1000, clientHeight: 1000, style: {} }, store, pictures, () => {});
  const { left, top, scale } = view.place;
  at = (x, y) => ({ x: left + x * scale, y: top + y * scale });
});
const named = (name) => store.doc.layers.find((one) => one.name === name);
const finger = (name, pointerId, x, y) => {
  view.stage.at = at(x, y);
  view.stage.listeners[`pointer${name}`]({ target: view.stage, evt: { pointerId, button: 0, target: {} } });
};

test("a second finger neither moves the layer that the first one drags, nor drops it, nor takes another", () => {
  finger("down", 1, 20, 50);
  finger("move", 1, 30, 50);
  finger("down", 2, 70, 50);
  assert.equal(store.current.name, "cat");
  finger("move", 2, 75, 90);
  finger("up", 2, 75, 90);
  assert.equal(named("cat").x, 20); // not let go yet
  finger("move", 1, 35, 52);
  finger("up", 1, 35, 52);
  assert.deepEqual([named("cat").x, named("cat").y, named("dog").x], [35, 52, 70]);
});

test("the finger that let go can press again, and so can another", () => {
  for (const [pointer, x] of [[1, 20], [2, 25], [2, 30]]) {
    finger("down", pointer, x, 50);
    finger("move", pointer, x + 5, 50);
    finger("up", pointer, x + 5, 50);
  }
  assert.equal(named("cat").x, 35);
});

test("nothing is taken while a handle is dragged", () => {
  store.select(named("dog").id);
  view.handles.transforming = true;
  finger("down", 2, 20, 50);
  finger("move", 2, 30, 50);
  finger("up", 2, 30, 50);
  assert.deepEqual([store.current.name, named("cat").x], ["dog", 20]);
});
