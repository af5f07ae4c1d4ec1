/* The list of layers, top layer first: select, reorder by the grip, hide, lock. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  function layersPanel(app) {
    const { store } = app;
    const rows = new Map(); // layer id -> row
    const list = h("ul", { class: "dc-layers", "aria-label": "Layers, top first" });
    const empty = h("p", {
      class: "dc-quiet dc-empty",
      text: "No layers yet. Add a cut-out, or drop pictures on the canvas. Without layers the prompt alone makes the picture.",
    });

    function makeRow(id) {
      const thumb = h("canvas", { class: "dc-thumb", width: 72, height: 72, "aria-hidden": "true" });
      const name = h("span", { class: "dc-layer-name" });
      const words = h("span", { class: "dc-layer-words" });
      const pick = h(
        "button",
        { type: "button", class: "dc-layer-pick", onclick: () => store.select(id) },
        thumb,
        h("span", { class: "dc-layer-text" }, name, words),
      );
      const eye = D.iconButton("eye", "", () => toggle(id, "visible"), { kind: "dc-small" });
      const lock = D.iconButton("unlock", "", () => toggle(id, "locked"), { kind: "dc-small" });
      const grip = h("span", { class: "dc-grip", title: "Drag to reorder", "aria-hidden": "true" }, D.icon("grip"));
      const element = h("li", { class: "dc-layer" }, grip, pick, eye, lock);
      grip.addEventListener("pointerdown", (event) => startDrag(event, id));
      return { element, pick, thumb, name, words, eye, lock, picture: null };
    }

    function toggle(id, field) {
      const layer = store.layer(id);
      const say = { visible: ["Shown.", "Hidden."], locked: ["Locked.", "Unlocked."] }[field][layer[field] ? 1 : 0];
      store.patchLayer(id, { [field]: !layer[field] }, { say });
    }

    function paintThumb(row, layer) {
      const key = `${D.urlOf(layer.picture)}|${layer.mask ? D.urlOf(layer.mask) : ""}|${layer.clip?.length}`;
      if (row.picture === key) return;
      row.picture = key;
      app.pictures.paint(layer).then(
        ({ canvas }) => {
          const pen = row.thumb.getContext("2d");
          const { width: w, height: t } = row.thumb;
          const factor = Math.min((w - 8) / canvas.width, (t - 8) / canvas.height);
          pen.clearRect(0, 0, w, t);
          pen.imageSmoothingQuality = "high";
          pen.drawImage(
            canvas,
            (w - canvas.width * factor) / 2,
            (t - canvas.height * factor) / 2,
            canvas.width * factor,
            canvas.height * factor,
          );
        },
        () => {}, // the stage says so already
      );
    }

    function showRow(row, layer) {
      const label = D.labelOf(layer);
      row.name.textContent = label;
      row.words.textContent = layer.prompt || "pixels only";
      row.element.classList.toggle("dc-hidden-layer", !layer.visible);
      row.element.classList.toggle("dc-selected", layer.id === store.selected);
      if (layer.id === store.selected) row.pick.setAttribute("aria-current", "true");
      else row.pick.removeAttribute("aria-current");
      const set = (button, icon, text, pressed) => {
        button.replaceChildren(D.icon(icon));
        button.setAttribute("aria-label", text);
        button.title = text;
        button.classList.toggle("dc-on", pressed);
      };
      set(row.eye, layer.visible ? "eye" : "eye-off", `${layer.visible ? "Hide" : "Show"} ${label}`, !layer.visible);
      set(row.lock, layer.locked ? "lock" : "unlock", `${layer.locked ? "Unlock" : "Lock"} ${label}`, layer.locked);
      paintThumb(row, layer);
    }

    function show() {
      const layers = [...store.doc.layers].reverse();
      const known = new Set(layers.map((layer) => layer.id));
      for (const [id, row] of rows) {
        if (!known.has(id)) {
          row.element.remove();
          rows.delete(id);
        }
      }
      layers.forEach((layer, place) => {
        if (!rows.has(layer.id)) rows.set(layer.id, makeRow(layer.id));
        const row = rows.get(layer.id);
        if (list.children[place] !== row.element) list.insertBefore(row.element, list.children[place] ?? null);
        showRow(row, layer);
      });
      empty.hidden = layers.length > 0;
      list.hidden = layers.length === 0;
    }

    /** Dragging by the grip; the row moves as the pointer passes the middle of its neighbours. */
    function startDrag(event, id) {
      event.preventDefault();
      const row = rows.get(id).element;
      row.classList.add("dc-dragged");
      const move = (one) => {
        const others = [...list.children].filter((other) => other !== row);
        const next = others.find((other) => {
          const box = other.getBoundingClientRect();
          return one.clientY < box.top + box.height / 2;
        });
        if (row.nextElementSibling !== (next ?? null)) list.insertBefore(row, next ?? null);
      };
      const end = () => {
        document.removeEventListener("pointermove", move);
        document.removeEventListener("pointerup", end);
        document.removeEventListener("pointercancel", end);
        row.classList.remove("dc-dragged");
        const place = [...list.children].indexOf(row);
        store.reorder(id, store.doc.layers.length - 1 - place);
      };
      document.addEventListener("pointermove", move);
      document.addEventListener("pointerup", end);
      document.addEventListener("pointercancel", end);
    }

    return { element: h("div", {}, list, empty), show };
  }

  Object.assign(D, { layersPanel });
})();
