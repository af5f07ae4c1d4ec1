"use strict";
/* Text at 4.5 to 1 and what says where a control is at 3 to 1 (WCAG 2.2, 1.4.3 and 1.4.11), in both themes. */
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const file = join(__dirname, "../../../studio/canvas/static/canvas.css");
const css = readFileSync(file, "utf8").replace(/\/\*.*?\*\//gs, "");
const rules = [...css.matchAll(/([^{}]+)\{([^{}]*)\}/g)].map(([, selector, body]) => [selector.trim(), body]);
const body = (selector) => rules.filter(([one]) => one === selector).map(([, text]) => text).join();
const colours = (selector) => {
  const found = [...body(selector).matchAll(/--dc-([a-z-]+): (#[0-9a-f]{6})/g)];
  return Object.fromEntries(found.map(([, name, hex]) => [name, hex]));
};
const light = colours(".dc-root");
const themes = { light, dark: { ...light, ...colours(".dark .dc-root") } };

function luminance(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const share = parseInt(hex.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, two) {
  const [low, high] = [luminance(one), luminance(two)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

for (const [name, theme] of Object.entries(themes)) {
  test(`text and controls stand out, ${name}`, () => {
    const least = (colour, wanted, grounds) => {
      for (const ground of grounds) {
        const found = contrast(theme[colour], theme[ground]);
        assert.ok(found >= wanted, `${colour} on ${ground} is ${found.toFixed(2)} to 1`);
      }
    };
    least("ink", 4.5, ["bg", "panel", "field", "stage", "line", "accent-soft"]);
    least("soft", 4.5, ["bg", "panel", "field", "stage", "line", "accent-soft"]);
    least("accent", 4.5, ["bg", "panel"]);
    least("accent-hover", 4.5, ["accent-soft"]);
    least("accent-ink", 4.5, ["accent", "accent-hover"]);
    least("bad", 4.5, ["panel"]);
    least("warn", 3, ["panel"]);
    least("control", 3, ["bg", "panel", "field", "stage", "accent-soft"]);
  });
}

test("fields, boxes to tick and sliders at their default are drawn in the colour of controls", () => {
  assert.match(body(".dc-root .dc-text"), /border: 1px solid var\(--dc-control\)/);
  assert.match(body('.dc-root input[type="checkbox"]'), /border: [\d.]+px solid var\(--dc-control\)/);
  assert.match(body('.dc-root .dc-is-default input[type="range"]'), /--dc-accent: var\(--dc-control\)/);
  assert.match(body('.dc-root input[type="range"]::-webkit-slider-thumb'), /border: 2px solid var\(--dc-accent\)/);
});

test("no text is faded: neither a placeholder, which may be a default, nor a hidden layer's name and words", () => {
  assert.match(body(".dc-root :is(.dc-text, .dc-title)::placeholder"), /color: var\(--dc-soft\); opacity: 1/);
  const faded = rules.filter(([, text]) => /opacity: 0\.\d/.test(text)).map(([selector]) => selector);
  const allowed = /:disabled$|\.dc-hidden-layer \.dc-thumb$|\.dc-small:not\(\.dc-on\), \.dc-root \.dc-grip$/; // no text
  assert.deepEqual(faded.filter((selector) => !allowed.test(selector)), []);
});
