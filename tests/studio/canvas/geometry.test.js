"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
require("../../../studio/canvas/static/geometry.js");
const { toPicture, inPolygon, pick, fitScale, scaled, turn, untangle } = globalThis.Decollage;

const layer = (more = {}) => ({
  id: "a", width: 40, height: 20, x: 100, y: 50, scale_x: 2, scale_y: 0.5, rotation: 0, flip_x: false, flip_y: false,
  visible: true, locked: false, opacity: 1, clip: null, ...more,
});
const near = (one, two) => assert.ok(Math.hypot(one[0] - two[0], one[1] - two[1]) < 1e-9, `${one} is not ${two}`);

test("the picture's centre lies at x, y whatever else is set", () => {
  const { u, v } = toPicture(layer({ rotation: 33, flip_x: true, flip_y: true }), 100, 50);
  near([u, v], [20, 10]);
});

test("corners: scale, then flip, then a clockwise turn", () => {
  let { u, v } = toPicture(layer(), 60, 45);
  near([u, v], [0, 0]);
  ({ u, v } = toPicture(layer({ flip_x: true }), 140, 45));
  near([u, v], [0, 0]);
  ({ u, v } = toPicture(layer({ rotation: 90 }), 100, 90)); // what lies below is the right middle
  near([u, v], [40, 10]);
});

test("picking takes the topmost layer that shows something there", () => {
  const below = layer({ id: "below" });
  const above = layer({ id: "above" });
  const hole = (one, u) => (one.id === "above" && u < 20 ? 0 : 1); // the left half of the upper one is clear
  assert.equal(pick([below, above], 130, 50, hole).id, "above");
  assert.equal(pick([below, above], 70, 50, hole).id, "below");
  assert.equal(pick([below, above], 10, 50, hole), null);
});

test("hidden, locked and clear layers are not picked, and a clip counts", () => {
  const solid = () => 1;
  for (const more of [{ visible: false }, { locked: true }, { opacity: 0 }]) {
    assert.equal(pick([layer(more)], 100, 50, solid), null);
  }
  const left = layer({ clip: [[0, 0], [20, 0], [20, 20], [0, 20]] });
  assert.equal(pick([left], 70, 50, solid), left);
  assert.equal(pick([left], 130, 50, solid), null);
});

test("a point in a concave polygon", () => {
  const arrow = [[0, 0], [10, 5], [0, 10], [4, 5]];
  assert.equal(inPolygon(arrow, 6, 5), true);
  assert.equal(inPolygon(arrow, 2, 5), false);
});

test("a new picture takes its share of the canvas and is never enlarged", () => {
  const canvas = { width: 256, height: 128 };
  assert.equal(fitScale(1000, 100, canvas, 0.5), 0.128);
  assert.equal(fitScale(100, 1000, canvas, 0.5), 0.064);
  assert.equal(fitScale(10, 10, canvas, 0.5), 1);
});

test("a layer made larger keeps its proportions, and both its scales stay within bounds", () => {
  const bounds = [0.001, 64];
  assert.deepEqual(scaled(layer(), 4, bounds), { scale_x: 4, scale_y: 1 });
  assert.deepEqual(scaled(layer(), 0.001, bounds), { scale_x: 0.004, scale_y: 0.001 });
  assert.deepEqual(scaled(layer({ scale_x: 1, scale_y: 2 }), 64, bounds), { scale_x: 32, scale_y: 64 });
  assert.deepEqual(scaled(layer({ scale_x: 1, scale_y: 2 }), 0.0001, bounds), { scale_x: 0.001, scale_y: 0.002 });
});

test("turns end between -180 and 180", () => {
  assert.deepEqual([-190, 190, 180, 540, 0, -0.5].map(turn), [170, -170, 180, 180, 0, -0.5]);
});

test("a mirrored node is told the way that is closer to how it lay before", () => {
  // Konva gives a layer flipped left to right back as flipped upside down and turned by 180°.
  assert.deepEqual(untangle(1, -1, 180, 0), { flip_x: true, flip_y: false, rotation: 0 });
  assert.deepEqual(untangle(1, -1, -175, 0), { flip_x: true, flip_y: false, rotation: 5 });
  assert.deepEqual(untangle(1, -1, 10, 0), { flip_x: false, flip_y: true, rotation: 10 });
  assert.deepEqual(untangle(1, 1, 170, 0), { flip_x: true, flip_y: true, rotation: -10 });
  assert.deepEqual(untangle(1, 1, 170, 160), { flip_x: false, flip_y: false, rotation: 170 });
});
