/* What the selected layer is: name, words, strengths, place. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  const STRENGTHS = [
    "harmonize",
    "attend_inside",
    "attend_outside",
    "keep_shape",
    "image_prompt",
    "vary",
    "feather",
    "opacity",
  ];
  const PLACES = [
    ["x", "X", 1],
    ["y", "Y", 1],
    ["rotation", "Turn °", 1],
    ["scale", "Size %", 1],
  ];

  function inspectorPanel(app) {
    const { store } = app;
    const { words, limits } = app.settings;
    let shown = null; // id of the layer that the fields are about
    const change = (field) => (value) => store.patchLayer(shown, { [field]: value }, { tag: `${field}:${shown}` });

    const name = D.text("Name", change("name"), { limit: limits.name });
    const prompt = D.text("Words", change("prompt"), {
      limit: limits.words,
      placeholder: "what this cut-out is",
      about: words.prompt.hint,
    });
    const negative = D.text("Without", change("negative"), {
      limit: limits.words,
      placeholder: "what it shall not show",
      about: words.negative.hint,
    });
    const mute = h("p", {
      class: "dc-quiet",
      text: "Without words the layer is pixels only: Insist, Stay inside and Learn look have nothing to act on.",
    });
    const sliders = Object.fromEntries(STRENGTHS.map((word) => [word, D.slider(words[word], change(word))]));

    // why a model cannot do a word, or ""; the rest every model can
    const refusals = {
      keep_shape: () => app.model.no_shape[store.doc.edges] ?? "",
      image_prompt: () => (app.model.image_prompt ? "" : words.no_image_prompt.hint),
    };
    const notes = Object.fromEntries(
      Object.keys(refusals).map((word) => [word, h("p", { class: "dc-quiet", role: "note" })]),
    );
    for (const [word, note] of Object.entries(notes)) sliders[word].element.append(note);
    const strengths = h("div", { class: "dc-stack" });
    const refused = h("div", { class: "dc-stack" });
    const refusedFold = D.fold("Not with this model", false, refused);
    let shownRefused = null;

    const look = D.check("Learn look", change("look"), { about: words.look.hint });
    const noLook = h("p", { class: "dc-quiet", role: "note", text: words.no_look.hint });
    look.element.append(noLook);
    const looks = Object.fromEntries(
      ["look_vectors", "look_steps"].map((word) => {
        const { label, min, max, hint } = words[word];
        return [word, D.number(label, change(word), { min, max, about: hint, optional: true })];
      }),
    );
    const howLook = h("div", { class: "dc-pair" }, Object.values(looks).map((one) => one.element));

    const place = (field, value) => {
      const layer = store.unlocked(shown);
      if (!layer) return;
      store.patchLayer(layer.id, field === "scale" ? D.scaled(layer, value / 100, limits.scale) : { [field]: value });
    };
    const setPlace = (field) => (value) => app.attempt(() => place(field, value));
    const places = Object.fromEntries(
      PLACES.map(([field, label, step]) => {
        const [min, max] = field === "scale" ? limits.scale.map((one) => one * 100) : limits[field];
        return [field, D.number(label, setPlace(field), { min, max, step: step / 100 })];
      }),
    );

    const offers = D.layerOffers(app);
    const filled = h(
      "div",
      { class: "dc-stack" },
      h("div", { class: "dc-pair" }, name.element, prompt.element),
      mute,
      negative.element,
      strengths,
      look.element,
      howLook,
      offers.element,
      refusedFold,
      D.fold("Place", false, h("div", { class: "dc-quad" }, PLACES.map(([field]) => places[field].element))),
    );
    const empty = h("p", { class: "dc-quiet dc-empty", text: "Select a layer to set its words and how far it may change." });
    const element = h("section", { class: "dc-inspector", "aria-label": "Selected layer" }, filled, empty);

    /** What the model cannot do goes out of the way, with the reason; what is set stays, and can be taken back. */
    function sort(layer) {
      const out = [];
      for (const [word, refusal] of Object.entries(refusals)) {
        const why = refusal();
        notes[word].textContent = why;
        notes[word].hidden = !why;
        // 0 may be on the way of a drag that has not ended
        const held = document.activeElement === sliders[word].range && strengths.contains(sliders[word].range);
        const stays = !why || Boolean(layer[word]) || held;
        sliders[word].allow(stays);
        if (!stays) out.push(word);
      }
      if (shownRefused === out.join()) return; // moving a slider takes its focus, and ends a drag
      shownRefused = out.join();
      const focused = document.activeElement;
      const elements = (those) => those.map((word) => sliders[word].element);
      strengths.replaceChildren(...elements(STRENGTHS.filter((word) => !out.includes(word))));
      refused.replaceChildren(...elements(out));
      refusedFold.hidden = !out.length;
      if (element.contains(focused)) focused.focus({ preventScroll: true });
    }

    function show() {
      // a number typed for a layer is that layer's, whatever has taken the selection from it
      if (shown !== store.selected && element.contains(document.activeElement)) D.commitTyped();
      shown = store.selected;
      const layer = store.current;
      filled.hidden = !layer;
      offers.show();
      empty.hidden = Boolean(layer) || store.doc.layers.length === 0;
      if (!layer) return;
      name.show(layer.name);
      prompt.show(layer.prompt);
      negative.show(layer.negative ?? "");
      mute.hidden = layer.prompt.trim() !== "";
      for (const word of STRENGTHS) sliders[word].show(layer[word], app.usual(word));
      sort(layer);
      look.show(layer.look);
      noLook.hidden = app.model.look;
      look.allow(app.model.look || layer.look); // what is set can be taken back
      howLook.hidden = !layer.look;
      looks.look_vectors.show(layer.look_vectors, "as the words");
      looks.look_steps.show(layer.look_steps, app.model.look_steps);
      const tidy = (value) => Math.round(value * 100) / 100;
      places.x.show(tidy(layer.x));
      places.y.show(tidy(layer.y));
      places.rotation.show(tidy(layer.rotation));
      places.scale.show(tidy(layer.scale_x * 100));
    }

    return { element, show };
  }

  Object.assign(D, { inspectorPanel });
})();
