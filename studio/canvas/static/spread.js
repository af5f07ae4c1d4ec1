/* What makes the images of one render differ: NegToMe between them, and its rivals, which go with it. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  const UNET_PARTS = [["up"], ["mid"], ["down"], ["down", "mid", "up"]];
  const TRANSFORMER_PARTS = [["double"], ["single"], ["double", "single"]];

  /** Gives the folds that the scene panel holds, and `show`. */
  function spreadFolds(app) {
    const { store, settings } = app;
    const { words } = settings;
    const patch = (field) => (value) => store.patch({ [field]: value }, `doc:${field}`);

    const spread = D.slider(words.spread, (value) => store.patch({ spread: value ?? 0 }, "doc:spread"));
    const threshold = D.slider(words.spread_threshold, patch("spread_threshold"));
    const match = D.choice(
      "From which",
      () => [
        ["all", "all others together"],
        ["nearest", "the nearest one"],
        ["first", "the first, as in the paper"],
      ],
      patch("spread_match"),
      { about: words.spread_match.hint },
    );
    const parts = D.choice(
      "In which part",
      (value) => {
        const { model } = app;
        const offered = [[[], "the model's own"]];
        for (const some of model.unet ? UNET_PARTS : TRANSFORMER_PARTS) offered.push([some, some.join(", ")]);
        const key = JSON.stringify(value);
        return offered.some(([one]) => JSON.stringify(one) === key) ? offered : [...offered, [value, value.join(", ")]];
      },
      patch("spread_parts"),
      { about: words.spread_parts.hint },
    );
    const every = D.number(words.spread_every.label, patch("spread_every"), {
      min: words.spread_every.min,
      max: words.spread_every.max,
      about: words.spread_every.hint,
    });
    const way = D.choice(
      "Spread by",
      () => [
        ["guidance", "guidance"],
        ["push", "push, as in the paper"],
      ],
      patch("spread_by"),
      { about: words.spread_by.hint },
    );
    const finer = h("div", { class: "dc-stack" }, way.element, threshold.element, match.element, parts.element, every.element);
    const exact = D.check("Compare every part", patch("exact_match"), { about: words.exact_match.hint });

    const variants = D.check("Variants", patch("variants"), { about: words.variants.hint });
    const fill = D.textButton("plus", "Fill in what is open", fillIn, { kind: "dc-wide", title: words.open.hint });
    const noFill = h("p", { class: "dc-quiet", role: "status" });
    let toldOf = null; // the document that noFill is about

    /** One step of the history; what was typed meanwhile is kept, and nothing filled in. */
    async function fillIn() {
      const before = store.doc;
      let said = words.nothing_open.hint;
      try {
        const found = await app.fillIn();
        if (store.doc !== before) return;
        if (found) said = app.attempt(() => store.say(found.prompt, found.words)) ?? "";
      } catch {
        said = "The server did not answer; try again.";
      }
      noFill.textContent = said;
      toldOf = store.doc;
      show();
    }

    const cads = D.slider(words.cads, (value) => store.patch({ cads: value ?? 0 }, "doc:cads"));
    const high = D.slider(words.cads_high, patch("cads_high"));
    const low = D.slider(words.cads_low, patch("cads_low"));
    const mix = D.slider(words.cads_mix, patch("cads_mix"));
    const interval = D.check(
      "Guidance in an interval",
      (on) => store.patch({ guidance_interval: on ? settings.interval : null }),
      { about: words.guidance_interval.hint },
    );
    const bound = (place, label) =>
      D.number(
        label,
        (value) => {
          const both = [...store.doc.guidance_interval];
          both[place] = value;
          if (both[0] < both[1]) store.patch({ guidance_interval: both }, "doc:interval");
        },
        { min: 0, max: settings.limits.level, step: 0.01 },
      );
    const bounds = [bound(0, "Above noise"), bound(1, "Up to noise")];
    const between = h("div", { class: "dc-pair" }, bounds[0].element, bounds[1].element);

    const elements = [
      D.fold("Spread", true, spread.element, finer, exact.element),
      D.fold(
        "Other ways to differ",
        false,
        variants.element,
        fill,
        noFill,
        cads.element,
        high.element,
        low.element,
        mix.element,
        interval.element,
        between,
      ),
    ];

    function show() {
      const { doc } = store;
      spread.show(doc.spread);
      threshold.show(doc.spread_threshold, app.usual("spread_threshold"));
      way.show(doc.spread_by);
      match.show(doc.spread_match);
      parts.show(doc.spread_parts);
      every.show(doc.spread_every);
      const varies = doc.layers.some((layer) => layer.vary > 0);
      finer.hidden = doc.spread === 0 && !varies;
      exact.show(doc.exact_match);
      exact.element.hidden = finer.hidden && doc.avoids.length === 0; // it counts for references, too
      variants.show(doc.variants);
      noFill.hidden = toldOf !== doc || !noFill.textContent;
      cads.show(doc.cads);
      high.show(doc.cads_high, app.usual("cads_high"));
      low.show(doc.cads_low, app.usual("cads_low"));
      mix.show(doc.cads_mix, app.usual("cads_mix"));
      high.element.hidden = low.element.hidden = mix.element.hidden = doc.cads === 0;
      const span = doc.guidance_interval;
      interval.show(span !== null);
      between.hidden = span === null;
      if (span) bounds.forEach((one, place) => one.show(span[place]));
    }

    return { elements, show };
  }

  Object.assign(D, { spreadFolds });
})();
