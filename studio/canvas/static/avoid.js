/* Pictures the result shall not look like: each with its strength, threshold and the place where it acts. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  function avoidPanel(app) {
    const { store } = app;
    const { words } = app.settings;
    const cards = new Map(); // avoid id -> card
    const list = h("ul", { class: "dc-avoids", "aria-label": "Pictures to avoid" });
    const about = h("p", { class: "dc-quiet", text: words.avoid.hint });
    const add = D.textButton("plus", "Add a picture to avoid", () =>
      app.pickOne((file, name) => store.addAvoid({ ...app.settings.avoid, picture: file, name }), "reference"), {
      kind: "dc-wide",
    });
    const ready = (name, label) =>
      D.textButton("plus", label, () =>
        app.attempt(() => store.addAvoid({ ...app.settings.avoid, ...app.settings.ready[name], picture: null })), {
        kind: "dc-wide",
      });
    const style = (which, label) =>
      D.textButton("plus", label, () =>
        app.pickOne((file, name) =>
          store.addAvoid({ ...app.settings.avoid, ...app.settings.ready[which], picture: file, name }), "reference"), {
        kind: "dc-wide",
      });
    const ofLayer = D.textButton("plus", "Avoid the selected layer's picture", () => app.avoidLayer(store.current), {
      kind: "dc-wide",
    });
    const guides = D.fold(
      "Quality and style",
      false,
      h("p", { class: "dc-quiet", text: words.guides.hint }),
      ready("blurred", "Away from a blurred copy"),
      ready("noisy", "Away from a noisy copy"),
      style("unstyle", "Add a style to go away from"),
      style("style", "Add a style to go towards"),
    );
    const time = D.slider(words.window, (value) => store.patch({ window: value }, "doc:window"));
    const matching = D.choice(
      "Matching",
      () => [
        ["source", "as in the paper"],
        ["released", "as in the released code"],
      ],
      (value) => store.patch({ axis: value }),
      { about: words.axis.hint },
    );
    const steering = D.choice(
      "Avoid by",
      () => [
        ["guidance", "guidance"],
        ["push", "push, as in the paper"],
      ],
      (value) => store.patch({ avoid_by: value }),
      { about: words.avoid_by.hint },
    );
    const shared = D.fold("When and how it acts", false, time.element, matching.element, steering.element);

    function makeCard(id) {
      const change = (field) => (value) => store.patchAvoid(id, { [field]: value }, `${field}:${id}`);
      const thumb = h("img", { class: "dc-thumb", alt: "" });
      const name = h("span", { class: "dc-layer-name" });
      const eye = D.iconButton("eye", "", () => {
        const avoid = store.doc.avoids.find((one) => one.id === id);
        store.patchAvoid(id, { visible: !avoid.visible });
      }, { kind: "dc-small" });
      const drop = D.iconButton("trash", "Delete this reference", () => store.removeAvoid(id), { kind: "dc-small" });
      const alpha = D.slider(words.avoid_alpha, change("alpha"));
      const threshold = D.slider(words.avoid_threshold, change("threshold"));
      const kind = D.choice(
        "Reference",
        () => [
          ["given", "the picture"],
          ["blurred", "a blurred copy"],
          ["noisy", "a noisy copy"],
        ],
        change("made"),
        { about: words.made.hint },
      );
      const cut = D.textButton("image", "Mask", () => app.pickOne((file) => store.patchAvoid(id, { mask: file })), {
        title: "Only what is white or opaque in a picture of this shape counts",
      });
      const uncut = D.iconButton("close", "Take the mask away", () => store.patchAvoid(id, { mask: null }));
      const when = D.slider(words.window, change("window"));
      const towards = h("p", { class: "dc-quiet", text: "Below 0 the result is pulled towards the picture." });
      const where = D.choice(
        "Where",
        () => [[null, "Whole picture"], ...store.doc.layers.map((layer) => [layer.id, D.labelOf(layer)])],
        change("layer"),
        { about: words.avoid_layer.hint },
      );
      const element = h(
        "li",
        { class: "dc-card" },
        h("div", { class: "dc-card-head" }, thumb, name, eye, drop),
        where.element,
        alpha.element,
        towards,
        threshold.element,
        D.fold("More", false, kind.element, h("div", { class: "dc-row" }, cut, uncut), when.element),
      );
      return { element, thumb, name, eye, alpha, towards, threshold, where, kind, uncut, when };
    }

    function show() {
      const { avoids, window: share, axis, avoid_by: by } = store.doc;
      const known = new Set(avoids.map((avoid) => avoid.id));
      for (const [id, card] of cards) {
        if (!known.has(id)) {
          card.element.remove();
          cards.delete(id);
        }
      }
      avoids.forEach((avoid, place) => {
        if (!cards.has(avoid.id)) cards.set(avoid.id, makeCard(avoid.id));
        const card = cards.get(avoid.id);
        if (list.children[place] !== card.element) list.insertBefore(card.element, list.children[place] ?? null);
        const url = avoid.picture ? D.urlOf(avoid.picture) : null;
        card.thumb.hidden = !url; // of the collage itself, which the stage shows
        if (url && card.thumb.getAttribute("src") !== url) card.thumb.src = url;
        const label = D.labelOf(avoid);
        card.name.textContent = label;
        card.eye.replaceChildren(D.icon(avoid.visible ? "eye" : "eye-off"));
        card.eye.setAttribute("aria-label", `${avoid.visible ? "Switch off" : "Switch on"} ${label}`);
        card.eye.title = avoid.visible ? "Switch off" : "Switch on";
        card.element.classList.toggle("dc-hidden-layer", !avoid.visible);
        card.alpha.show(avoid.alpha, app.usualAlpha);
        card.threshold.show(avoid.threshold, app.usual("avoid_threshold"));
        card.towards.hidden = !(avoid.alpha < 0);
        card.where.show(avoid.layer);
        card.kind.show(avoid.made);
        card.uncut.hidden = !avoid.mask;
        card.when.show(avoid.window, share ?? app.usual("window"));
      });
      ofLayer.hidden = !store.current;
      list.hidden = avoids.length === 0;
      const varies = store.doc.layers.some((layer) => (layer.vary ?? 0) > 0);
      shared.hidden = avoids.length === 0 && store.doc.spread === 0 && !varies;
      time.show(share, app.usual("window"));
      matching.show(axis);
      steering.show(by);
    }

    return { element: h("div", { class: "dc-stack" }, about, list, add, ofLayer, guides, shared), show };
  }

  Object.assign(D, { avoidPanel });
})();
