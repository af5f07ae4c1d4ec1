/* A studio without a browser: the real store, bridge and ways in, panels and wires that only remember. */
"use strict";
globalThis.crypto ??= require("node:crypto").webcrypto; // not global before Node 19
globalThis.File ??= require("node:buffer").File; // nor this before Node 20
globalThis.addEventListener ??= () => {};
Object.defineProperty(globalThis, "sessionStorage", { value: null, writable: true }); // Node 25 has one, for the whole process

class Element extends EventTarget {
  constructor(attributes = {}) {
    super();
    Object.assign(this, { dataset: {}, style: { setProperty() {} }, classList: { add() {}, remove() {}, toggle() {} } }, attributes);
  }

  children = [];

  get firstChild() {
    return new Element();
  }

  getAttribute() {}

  setAttribute() {}

  removeAttribute() {}

  append() {}

  replaceChildren() {}

  remove() {}

  click() {}

  querySelector() {
    return new Element();
  }
}

globalThis.document = { body: new Element() };
globalThis.MutationObserver = class {
  observe() {}

  disconnect() {}
};
const panel = () => ({ element: new Element(), show() {}, showRunning() {} });
globalThis.Decollage = {
  h: (tag, attributes) => new Element(attributes),
  icon: () => new Element(),
  tabs: () => new Element(),
  textButton: () => new Element(),
  iconButton: () => new Element(),
  fold: () => new Element(),
  listenToKeys() {},
  commitTyped() {},
  View: class {
    constructor(host, store) {
      this.store = store;
    }

    draw() {}

    restyle() {}

    destroy() {}
  },
  Pictures: class {},
  urlOf: (file) => file.path,
};
for (const name of ["layersPanel", "inspectorPanel", "scenePanel", "avoidPanel", "headerBar", "stageTools", "promptBar", "drawerPanel"]) {
  globalThis.Decollage[name] = panel;
}
for (const name of ["store", "geometry", "results", "leaving", "draft", "bridge", "sending", "adding"]) {
  require(`../../../studio/canvas/static/${name}.js`);
}

const EMPTY = { name: "", prompt: "", seed: null, model: "embedded", canvas: { width: 64, height: 64 }, layers: [], avoids: [] };

/** `sent`: the events that left, each with what the server was given. `upload` may be any promise of {path}, `value` a
 * document that is there before the component, as `saved` may be. */
function studio({ upload = async (file) => ({ path: `/up/${file.name}` }), limits = {}, value = "", saved = null } = {}) {
  const watched = {};
  const sent = [];
  const props = {
    value,
    saved,
    settings: {
      empty: EMPTY,
      models: [{ name: "embedded", hub: null }, { name: "sd15", hub: "somebody/sd15" }],
      limits: { layers: 9, avoids: 9, name: 100, bytes: 10, archive: 20, result: 30, ...limits },
      drawer: { base: "drawer/", cutouts: [] },
      layer: {},
      avoid: {},
    },
  };
  const trigger = (name, data) => setImmediate(() => sent.push({ name, data, value: props.value })); // read soon, as Gradio does
  const app = new globalThis.Decollage.Studio({
    element: new Element(),
    props,
    trigger,
    server: {},
    upload,
    watch: (name, act) => (watched[name] = act),
  });
  /** What the server sends back. */
  const receive = (name, value) => {
    props[name] = value;
    watched[name]();
  };
  return { app, props, sent, receive };
}

module.exports = { studio, EMPTY };
