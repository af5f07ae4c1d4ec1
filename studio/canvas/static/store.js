/* The document on the page, its selection and its history. Pure: no DOM, no Konva, no Gradio.
 *
 * A document is the JSON of studio/document.py in which pictures are uploaded files instead of digests and a
 * layer also knows its picture's natural size. Documents are never changed in place: each command makes a new one
 * that shares the untouched parts, so the history keeps whole documents cheaply. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});

  const HISTORY = 200;
  const COALESCE = 800; // milliseconds within which equal tags become one step of the history

  /** A command that cannot be done; its message is one sentence for the user. */
  class Refused extends Error {}

  const round = (value, digits) => Number(Number(value).toFixed(digits));
  const PRECISION = { x: 2, y: 2, rotation: 2, scale_x: 5, scale_y: 5 };

  function newId() {
    const bytes = globalThis.crypto.getRandomValues(new Uint8Array(4));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  class Store {
    /** `limits`: {layers, avoids, name, …}. `now` gives milliseconds. */
    constructor(doc, limits, now = () => Date.now()) {
      this.doc = doc;
      this.limits = limits;
      this.selected = null;
      this.now = now;
      this.past = [];
      this.future = [];
      this.last = { tag: null, at: -Infinity };
      this.opened = 0; // documents so far that took the place of another
      this.listeners = new Set();
    }

    subscribe(listener) {
      this.listeners.add(listener);
      return () => this.listeners.delete(listener);
    }

    #tell(what) {
      for (const listener of this.listeners) listener(what);
    }

    /** Puts `doc` in place as one step of the history; steps with the same tag in quick succession are one. */
    #commit(doc, { tag = null, selected = this.selected, say = "" } = {}) {
      const at = this.now();
      const joins = tag !== null && tag === this.last.tag && at - this.last.at < COALESCE;
      if (!joins) {
        this.past.push({ doc: this.doc, selected: this.selected });
        if (this.past.length > HISTORY) this.past.shift();
      }
      this.future = [];
      this.last = { tag, at };
      this.doc = { ...doc, rev: (this.doc.rev ?? 0) + 1 };
      this.selected = this.#known(selected);
      this.#tell({ doc: true, say });
    }

    #known(id) {
      return this.doc.layers.some((layer) => layer.id === id) ? id : null;
    }

    get canUndo() {
      return this.past.length > 0;
    }

    get canRedo() {
      return this.future.length > 0;
    }

    undo() {
      return this.#travel(this.past, this.future, "Undone.");
    }

    redo() {
      return this.#travel(this.future, this.past, "Done again.");
    }

    #travel(from, to, say) {
      const step = from.pop();
      if (!step) return false;
      to.push({ doc: this.doc, selected: this.selected });
      this.doc = { ...step.doc, rev: (this.doc.rev ?? 0) + 1 };
      this.selected = this.#known(step.selected);
      this.last = { tag: null, at: -Infinity };
      this.#tell({ doc: true, say });
      return true;
    }

    /** Another document takes the place of this one; can be undone, except for the first. Whatever becomes of it keeps
     * its number `opened`. */
    replace(other, { first = false } = {}) {
      const doc = { ...other, opened: (this.opened += 1) };
      if (first) {
        this.doc = doc;
        this.selected = null;
        this.#tell({ doc: true, say: "" });
      } else {
        this.#commit(doc, { selected: null, say: `Opened ${doc.name || "a collage"}.` });
      }
    }

    select(id) {
      const known = this.#known(id);
      if (known === this.selected) return;
      this.selected = known;
      const layer = this.layer(known);
      this.#tell({ doc: false, say: layer ? `Selected ${labelOf(layer)}.` : "" });
    }

    layer(id) {
      return this.doc.layers.find((layer) => layer.id === id) ?? null;
    }

    get current() {
      return this.layer(this.selected);
    }

    /** Changes fields of the document itself (prompt, seed, …). */
    patch(change, tag = null) {
      if (same(this.doc, change)) return;
      this.#commit({ ...this.doc, ...change }, { tag });
    }

    /** The collage on a canvas of another size, scaled by as much as still fits: the same as studio/resizing.py. */
    resize(canvas) {
      const before = this.doc.canvas;
      if (same(before, canvas)) return;
      const factor = Math.min(canvas.width / before.width, canvas.height / before.height);
      const { scale, feather, grow } = this.limits;
      const held = (value, [least, most]) => Math.min(most, Math.max(least, value));
      const layers = this.doc.layers.map((layer) => {
        const across = [layer.scale_x * factor, layer.scale_y * factor];
        if (across.some((one) => one !== held(one, scale))) {
          throw new Refused(`${labelOf(layer)} would be too ${factor > 1 ? "large" : "small"}; change its size first.`);
        }
        return {
          ...layer,
          x: round(canvas.width / 2 + factor * (layer.x - before.width / 2), PRECISION.x),
          y: round(canvas.height / 2 + factor * (layer.y - before.height / 2), PRECISION.y),
          scale_x: round(across[0], PRECISION.scale_x),
          scale_y: round(across[1], PRECISION.scale_y),
          feather: (layer.feather ?? null) === null ? null : held(layer.feather * factor, feather),
        };
      });
      const say = `Resized to ${canvas.width} × ${canvas.height}.`;
      this.#commit({ ...this.doc, canvas, layers, grow: held((this.doc.grow ?? 0) * factor, grow) }, { say });
    }

    /** Another prompt and other words of the visible layers, in order, with alternatives: one step of the history. */
    say(prompt, words) {
      const { prompt: longest, words: most } = this.limits;
      if (prompt.length > longest || words.some((one) => one.length > most)) {
        throw new Refused("With all that is open filled in the text gets too long; write fewer objects.");
      }
      const rest = [...words];
      const layers = this.doc.layers.map((layer) => (layer.visible ? { ...layer, prompt: rest.shift() } : layer));
      this.#commit({ ...this.doc, prompt, layers, variants: true }, { say: "Filled in what was open." });
    }

    patchBackground(change, tag = null) {
      if (same(this.doc.background, change)) return;
      this.#commit({ ...this.doc, background: { ...this.doc.background, ...change } }, { tag });
    }

    patchLayer(id, change, { tag = null, say = "" } = {}) {
      const layer = this.layer(id);
      if (!layer) return;
      const tidy = {};
      for (const [key, value] of Object.entries(change)) {
        tidy[key] = key in PRECISION ? round(value, PRECISION[key]) : value;
      }
      if (same(layer, tidy)) return;
      const layers = this.doc.layers.map((one) => (one.id === id ? { ...one, ...tidy } : one));
      this.#commit({ ...this.doc, layers }, { tag, say });
    }

    /** Sets those of the `values` of a layer that nobody has set, in one step of the history; gives their names. */
    fill(id, values) {
      const layer = this.layer(id);
      const open = Object.entries(values).filter(([word]) => layer && (layer[word] ?? null) === null);
      if (open.length) this.patchLayer(id, Object.fromEntries(open), { say: `Suggested values set in ${labelOf(layer)}.` });
      return open.map(([word]) => word);
    }

    /** Adds layers on top, in order; ids and free names are given here. The last one is selected. */
    addLayers(layers) {
      if (!layers.length) return;
      if (this.doc.layers.length + layers.length > this.limits.layers) {
        throw new Refused(`A collage has at most ${this.limits.layers} layers; delete some first.`);
      }
      const all = [...this.doc.layers];
      for (const layer of layers) {
        all.push({ ...layer, id: newId(), name: freeName(layer.name, all, this.limits.name) });
      }
      const top = all[all.length - 1];
      const say = layers.length === 1 ? `Added ${labelOf(top)}.` : `Added ${layers.length} layers.`;
      this.#commit({ ...this.doc, layers: all }, { selected: top.id, say });
    }

    duplicate(id, offset = 16) {
      const at = this.doc.layers.findIndex((layer) => layer.id === id);
      if (at < 0) return;
      if (this.doc.layers.length >= this.limits.layers) {
        throw new Refused(`A collage has at most ${this.limits.layers} layers; delete some first.`);
      }
      const layer = this.doc.layers[at];
      const copy = {
        ...layer,
        id: newId(),
        name: freeName(layer.name, this.doc.layers, this.limits.name),
        x: round(layer.x + offset, 2),
        y: round(layer.y + offset, 2),
        locked: false,
      };
      const layers = [...this.doc.layers.slice(0, at + 1), copy, ...this.doc.layers.slice(at + 1)];
      this.#commit({ ...this.doc, layers }, { selected: copy.id, say: `Duplicated ${labelOf(layer)}.` });
    }

    /** A layer to be deleted or put elsewhere; null for one that is not there, refused for a locked one. */
    unlocked(id) {
      const layer = this.layer(id);
      if (layer?.locked) throw new Refused(`${labelOf(layer)} is locked; unlock it first.`);
      return layer;
    }

    /** Deletes a layer; references confined to it act on the whole picture from then on. */
    remove(id) {
      const layer = this.unlocked(id);
      if (!layer) return;
      const layers = this.doc.layers.filter((one) => one.id !== id);
      const avoids = this.doc.avoids.map((avoid) => (avoid.layer === id ? { ...avoid, layer: null } : avoid));
      this.#commit({ ...this.doc, layers, avoids }, { selected: null, say: `Deleted ${labelOf(layer)}.` });
    }

    /** Puts a layer at place `to` of the list, 0 at the bottom. */
    reorder(id, to) {
      const at = this.doc.layers.findIndex((layer) => layer.id === id);
      const goal = Math.max(0, Math.min(this.doc.layers.length - 1, to));
      if (at < 0 || at === goal) return;
      const layers = [...this.doc.layers];
      const [layer] = layers.splice(at, 1);
      layers.splice(goal, 0, layer);
      const say = `Moved ${labelOf(layer)} ${goal > at ? "up" : "down"}.`;
      this.#commit({ ...this.doc, layers }, { say });
    }

    /** One step towards the top (+1) or the bottom (-1). */
    shift(id, by) {
      this.reorder(id, this.doc.layers.findIndex((layer) => layer.id === id) + by);
    }

    addAvoid(avoid) {
      if (this.doc.avoids.length >= this.limits.avoids) {
        throw new Refused(`A collage has at most ${this.limits.avoids} references to avoid; delete one first.`);
      }
      const named = { ...avoid, id: newId(), name: freeName(avoid.name, this.doc.avoids, this.limits.name) };
      this.#commit({ ...this.doc, avoids: [...this.doc.avoids, named] }, { say: `Avoiding ${labelOf(named)}.` });
    }

    patchAvoid(id, change, tag = null) {
      const avoid = this.doc.avoids.find((one) => one.id === id);
      if (!avoid || same(avoid, change)) return;
      const avoids = this.doc.avoids.map((one) => (one.id === id ? { ...one, ...change } : one));
      this.#commit({ ...this.doc, avoids }, { tag });
    }

    removeAvoid(id) {
      const avoid = this.doc.avoids.find((one) => one.id === id);
      if (!avoid) return;
      const avoids = this.doc.avoids.filter((one) => one.id !== id);
      this.#commit({ ...this.doc, avoids }, { say: `No longer avoiding ${labelOf(avoid)}.` });
    }
  }

  function same(target, change) {
    const alike = (one, two) =>
      Object.is(one, two) || (typeof one === "object" && JSON.stringify(one) === JSON.stringify(two));
    return Object.entries(change).every(([key, value]) => alike(target[key], value));
  }

  /** What to call a layer or a reference: its name, else its words, else its id. */
  function labelOf(part) {
    return part.name || part.prompt || part.id;
  }

  /** The first `most` characters, counted as the server does: none is cut in two. */
  function cut(text, most) {
    return text.length <= most ? text : [...text].slice(0, most).join("");
  }

  /** `name`, or `name 2`, `name 3`, … when others have it; at most `most` characters. */
  function freeName(name, others, most = Infinity) {
    const taken = new Set(others.map((other) => other.name));
    const whole = cut(name, most);
    if (!whole || !taken.has(whole)) return whole;
    const stem = whole.replace(/ \d+$/, "");
    for (let number = 2; ; number += 1) {
      const tail = ` ${number}`;
      const free = cut(stem, most - tail.length) + tail;
      if (!taken.has(free)) return free;
    }
  }

  Object.assign(D, { Store, Refused, labelOf, freeName, newId, cut });
})();
