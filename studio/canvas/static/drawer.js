/* The drawer: ready cut-outs with a search, and the button for the user's own pictures. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  /** Cut-outs of which the name or a word begins with each word searched for; names that begin with it first. */
  function search(cutouts, query) {
    const wanted = query.toLowerCase().split(/\s+/).filter(Boolean);
    const terms = (cutout) =>
      [cutout.name, ...cutout.words].flatMap((one) => one.toLowerCase().split(/[\s-]+/).concat(one.toLowerCase()));
    const found = cutouts.filter((cutout) => {
      const all = terms(cutout);
      return wanted.every((word) => all.some((term) => term.startsWith(word)));
    });
    const first = wanted.join(" ");
    return found.sort((a, b) => Number(b.name.startsWith(first)) - Number(a.name.startsWith(first)));
  }

  function drawerPanel(app) {
    const { base, cutouts } = app.settings.drawer;
    const count = h("p", { class: "dc-quiet", role: "status" });
    const grid = h("ul", { class: "dc-cutouts", "aria-label": "Cut-outs" });
    const tiles = new Map(
      cutouts.map((cutout) => [
        cutout,
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: "dc-cutout",
              title: `Add ${cutout.name}`,
              "aria-label": `Add ${cutout.name}`,
              draggable: "true",
              onclick: () => app.addCutout(cutout),
              ondragstart: (event) => {
                event.dataTransfer.setData(D.CUTOUT_TYPE, cutout.name);
                event.dataTransfer.effectAllowed = "copy";
              },
            },
            h("img", { src: base + cutout.file, alt: "", loading: "lazy", decoding: "async", draggable: "false" }),
          ),
        ),
      ]),
    );
    const field = h("input", {
      type: "search",
      class: "dc-text dc-search",
      placeholder: "Search cut-outs",
      "aria-label": "Search cut-outs",
      oninput: () => show(),
    });
    const show = () => {
      const found = search(cutouts, field.value);
      grid.replaceChildren(...found.map((cutout) => tiles.get(cutout)));
      count.textContent = found.length ? "" : `No cut-out is called “${field.value.trim()}”. Upload a picture instead.`;
    };
    show();
    const element = h(
      "aside",
      { class: "dc-drawer", "aria-label": "Pictures to add" },
      D.textButton("upload", "Upload pictures", () => app.pickFiles(), { kind: "dc-wide" }),
      h("div", { class: "dc-search-box" }, D.icon("search"), field),
      grid,
      count,
    );
    return { element, show: () => {} };
  }

  Object.assign(D, { drawerPanel, search, CUTOUT_TYPE: "application/x-decollage-cutout" });
})();
