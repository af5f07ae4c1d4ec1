/* Two offers for the selected layer: render it alone on a result, and values for what is not set, with their reasons. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  function layerOffers(app) {
    const { store } = app;
    const { words } = app.settings;
    let told = null; // layer id that the reasons are about

    const alone = D.textButton("play", "Render only this layer", () => app.renderAlone(store.selected), {
      kind: "dc-wide",
    });
    const ask = D.textButton("sliders", "Suggest values", suggest, { kind: "dc-wide", title: words.suggest.hint });
    const reasons = h("ul", { class: "dc-reasons", role: "status", "aria-label": "Why these values", hidden: true });

    async function suggest() {
      const id = store.selected;
      const found = await app.suggest();
      if (!store.layer(id)) return;
      if (found === null) return app.results.fail("The server did not answer; try again.");
      const mine = found.filter((one) => one.layer === id);
      const taken = store.fill(id, Object.fromEntries(mine.map(({ word, value }) => [word, value])));
      const lines = mine
        .filter(({ word }) => taken.includes(word))
        .map(({ word, value, reason }) => h("li", {}, h("b", { text: `${words[word].label} ${value}` }), ` ${reason}`));
      const none = "Nothing to suggest: all values are set, or the layer does not change.";
      reasons.replaceChildren(...(lines.length ? lines : [h("li", { text: none })]));
      told = id;
      show();
    }

    function show() {
      const layer = store.current;
      reasons.hidden = told === null || told !== layer?.id;
      if (!layer) return;
      const why = app.whyNotAlone(layer);
      alone.disabled = why !== null;
      alone.title = why ?? words.alone.hint;
    }

    return { element: h("div", { class: "dc-stack" }, alone, ask, reasons), show };
  }

  Object.assign(D, { layerOffers });
})();
