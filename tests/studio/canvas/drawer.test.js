"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
globalThis.Decollage = { h: () => null };
require("../../../studio/canvas/static/drawer.js");
const { search } = globalThis.Decollage;

const cutouts = [
  { name: "cat", words: ["cat", "kitten"] },
  { name: "castle", words: ["castle"] },
  { name: "palm tree", words: ["palm tree", "palm"] },
  { name: "t-shirt", words: ["t-shirt", "shirt"] },
  { name: "fir", words: ["fir tree"] },
];
const found = (query) => search(cutouts, query).map((one) => one.name);

test("an empty search shows all, in order", () => assert.deepEqual(found("  "), cutouts.map((one) => one.name)));
test("names and other words count, from their beginning, in any case", () => {
  assert.deepEqual(found("CA"), ["cat", "castle"]);
  assert.deepEqual(found("kit"), ["cat"]);
  assert.deepEqual(found("at"), []);
  assert.deepEqual(found("shirt"), ["t-shirt"]);
});
test("all words searched for must be found", () => {
  assert.deepEqual(found("tree"), ["palm tree", "fir"]);
  assert.deepEqual(found("tree palm"), ["palm tree"]);
});
