/* The keyboard: commands while the focus is anywhere in the studio but in a text, or nowhere. Sliders and choices keep
 * their arrows. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  const TEXTLESS = ["range", "checkbox", "color"]; // inputs

  const isTyping = ({ tagName, type, isContentEditable }) =>
    isContentEditable || tagName === "TEXTAREA" || (tagName === "INPUT" && !TEXTLESS.includes(type));
  const usesItself = ({ tagName, type }) =>
    tagName === "SELECT" ? ["nudge", "none"] : tagName === "INPUT" && type === "range" ? ["nudge"] : [];

  /** What a key press asks for: {command, …}, or null. Pure: takes what it reads of the event. */
  function keyCommand({ key, code, ctrlKey, metaKey, shiftKey, altKey }) {
    const mod = ctrlKey || metaKey;
    const low = key.length === 1 ? key.toLowerCase() : key;
    if (mod && key === "Enter") return { command: "render", whileTyping: true };
    if (mod && low === "s") return { command: "save", whileTyping: true };
    if (mod && low === "z") return { command: shiftKey ? "redo" : "undo" };
    if (mod && low === "y") return { command: "redo" };
    if (mod && low === "d") return { command: "duplicate" };
    if (mod && key === "]") return { command: "up" };
    if (mod && key === "[") return { command: "down" };
    // on a Mac, Alt makes other characters of these keys
    if (altKey && (key === "]" || (!mod && code === "BracketRight"))) return { command: "next", by: 1 };
    if (altKey && (key === "[" || (!mod && code === "BracketLeft"))) return { command: "next", by: -1 };
    if (mod || altKey) return null;
    if (key === "Delete" || key === "Backspace") return { command: "remove" };
    if (key === "Escape") return { command: "none" };
    if (key in ARROWS) {
      const step = shiftKey ? 10 : 1;
      return { command: "nudge", dx: ARROWS[key][0] * step, dy: ARROWS[key][1] * step };
    }
    return null;
  }

  /** Keys pressed within `frame`, or while nothing has the focus: what had it may be gone or switched off. */
  function listenToKeys(app, frame) {
    const { store } = app;
    const act = (event) => {
      if (frame.inert || !(event.target === document.body || frame.contains(event.target))) return;
      const wish = keyCommand(event);
      if (!wish || (isTyping(event.target) && !wish.whileTyping)) return;
      if (usesItself(event.target).includes(wish.command)) return;
      const layer = store.current;
      const onLayer = (act) => {
        if (!layer) return false;
        app.attempt(() => act(layer));
        return true;
      };
      const place = store.doc.layers.findIndex((one) => one.id === store.selected);
      const done = {
        render: () => app.render(),
        save: () => app.save(),
        undo: () => store.undo(),
        redo: () => store.redo(),
        duplicate: () => onLayer(({ id }) => store.duplicate(id)),
        up: () => onLayer(({ id }) => store.shift(id, 1)),
        down: () => onLayer(({ id }) => store.shift(id, -1)),
        remove: () => onLayer(({ id }) => store.remove(id)),
        none: () => store.select(null),
        next: () => store.select(store.doc.layers.at(place < 0 && wish.by < 0 ? -1 : place + wish.by)?.id ?? null),
        nudge: () =>
          onLayer(({ id, x, y, locked }) => {
            if (!locked) store.patchLayer(id, { x: x + wish.dx, y: y + wish.dy }, { tag: `nudge:${id}`, say: "Moved." });
          }),
      }[wish.command]();
      if (done !== false) event.preventDefault();
    };
    document.addEventListener("keydown", act, { signal: app.listening.signal });
  }

  Object.assign(D, { keyCommand, listenToKeys });
})();
