/* What the whole picture is: negative prompt, background, canvas, sampler, seed, and how its images differ. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  /** The canvas with `side` as its longer side: as `canvas_of` of studio/resizing.py. */
  function sizeFor(canvas, side) {
    const longer = Math.max(canvas.width, canvas.height);
    const sized = (one) => (one === longer ? side : Math.max(64, Math.round((one * side) / longer / 8) * 8));
    return { width: sized(canvas.width), height: sized(canvas.height) };
  }

  function scenePanel(app) {
    const { store, settings } = app;
    const { words, limits, models } = settings;
    const patch = (field) => (value) => store.patch({ [field]: value }, `doc:${field}`);
    const model = () => app.model;

    const negative = D.text("Negative prompt", patch("negative_prompt"), {
      rows: 2,
      limit: limits.prompt,
      about: words.negative_prompt.hint,
    });

    const seed = D.number("Seed", patch("seed"), {
      min: words.seed.min,
      max: words.seed.max,
      optional: true,
      about: words.seed.hint,
    });
    const random = h("input", {
      type: "checkbox",
      id: D.freshId("random"),
      onchange: () => store.patch({ seed: random.checked ? null : (app.results.lastSeed ?? 0) }),
    });
    const randomLabel = h("label", { class: "dc-check", for: random.id }, random, h("span", { text: "Random each time" }));
    const watch = D.check("Say which layers were lost", patch("watch"), {
      about: words.watch.hint,
      term: "a lost layer",
    });
    const count = (field, optional) =>
      D.number(words[field].label, patch(field), {
        min: words[field].min,
        max: words[field].max,
        step: words[field].step,
        about: words[field].hint,
        optional,
      });
    const images = count("images", false);
    const steps = count("steps", true);
    const guidance = count("guidance", true);
    const scheduler = D.choice(
      "Scheduler",
      () => [[null, `Default (${model().scheduler})`], ...model().schedulers.map((one) => [one, one])],
      patch("scheduler"),
      { about: words.scheduler.hint },
    );
    const modelChoice = D.choice(
      "Model",
      (value) => {
        const here = models.map((one) => [one.name, one.name]);
        return here.some(([one]) => one === value) ? here : [...here, [value, `${value} (not on this machine)`]];
      },
      patch("model"),
    );

    const colour = h("input", {
      type: "color",
      class: "dc-colour",
      id: D.freshId("colour"),
      oninput: () => store.patchBackground({ colour: colour.value }, "colour"),
    });
    const backdrop = D.textButton("image", "Picture", () =>
      app.pickOne((file) => store.patchBackground({ picture: file }), "background"),
    );
    const noBackdrop = D.iconButton("close", "Take the background picture away", () =>
      store.patchBackground({ picture: null }),
    );
    const under = D.slider(words.background_harmonize, (value) =>
      store.patchBackground({ harmonize: value }, "under"),
    );

    const side = (field, label) =>
      D.number(label, (value) => store.patch({ canvas: { ...store.doc.canvas, [field]: Math.round(value / 8) * 8 } }), {
        min: limits.canvas[0],
        max: limits.canvas[1],
        step: 8,
      });
    const width = side("width", "Width");
    const height = side("height", "Height");

    const trainedAt = h("p", { class: "dc-quiet" });
    const toModel = h("button", {
      type: "button",
      class: "dc-button",
      title: "The whole collage, layers and all, at the size the model was trained at",
      onclick: () => app.attempt(() => store.resize(sizeFor(store.doc.canvas, model().side))),
    });

    const differing = D.spreadFolds(app);

    const by = D.choice(
      "Harmonize by",
      () => [
        ["steps", "steps that are run"],
        ["timestep", "the model's time"],
      ],
      patch("harmonize_by"),
      { about: words.harmonize_by.hint },
    );
    const edges = D.choice(
      "Keep shape by",
      () => [
        ["canny", "thin lines"],
        ["soft", "soft edges"],
      ],
      patch("edges"),
      { about: words.edges.hint },
    );
    const grow = D.slider(words.grow, (value) => store.patch({ grow: value ?? 0 }, "doc:grow"));
    const bothWays = D.choice(
      "Words look at",
      () => [
        [false, "everything"],
        [true, "their own layer"],
      ],
      patch("attend_both_ways"),
      { about: words.attend_both_ways.hint },
    );

    const element = h(
      "div",
      { class: "dc-stack" },
      D.fold(
        "Background",
        true,
        h(
          "div",
          { class: "dc-row" },
          h("label", { class: "dc-swatch", for: colour.id }, colour, h("span", { text: "Colour" })),
          backdrop,
          noBackdrop,
        ),
        under.element,
      ),
      D.fold(
        "Picture",
        true,
        h("div", { class: "dc-pair" }, width.element, height.element),
        trainedAt,
        toModel,
        h("div", { class: "dc-pair" }, images.element, seed.element),
        randomLabel,
        negative.element,
        watch.element,
      ),
      differing.elements,
      D.fold(
        "Sampler",
        false,
        modelChoice.element,
        h("div", { class: "dc-pair" }, steps.element, guidance.element),
        scheduler.element,
      ),
      D.fold("How layers are held", false, by.element, grow.element, edges.element, bothWays.element),
    );

    function show() {
      const { doc } = store;
      negative.show(doc.negative_prompt);
      seed.show(doc.seed, "random");
      random.checked = doc.seed === null;
      watch.show(doc.watch === true);
      images.show(doc.images);
      steps.show(doc.steps, model().steps);
      guidance.show(doc.guidance, model().guidance);
      scheduler.show(doc.scheduler);
      modelChoice.show(app.offered?.name ?? doc.model);
      modelChoice.element.hidden = models.length === 1 && app.offered !== undefined;
      if (colour.value !== doc.background.colour) colour.value = doc.background.colour;
      noBackdrop.hidden = !doc.background.picture;
      under.show(doc.background.harmonize, app.usual("background_harmonize"));
      width.show(doc.canvas.width);
      height.show(doc.canvas.height);
      const { side: trained, least_side: least, most_side: most, name } = model();
      const longer = Math.max(doc.canvas.width, doc.canvas.height);
      trainedAt.textContent = `${name} draws well near ${trained} pixels a side.`;
      trainedAt.hidden = longer >= least && longer < most;
      toModel.textContent = `Resize to ${trained}`;
      toModel.hidden = longer === trained;
      differing.show();
      by.show(doc.harmonize_by);
      grow.show(doc.grow);
      edges.show(doc.edges);
      edges.element.hidden = !model().unet && doc.edges === "canny";
      bothWays.show(doc.attend_both_ways);
      bothWays.element.hidden = model().unet && !doc.attend_both_ways;
    }

    return { element, show };
  }

  Object.assign(D, { scenePanel, sizeFor });
})();
