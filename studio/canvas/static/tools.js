/* The bar over the stage, the bar with the name on it, and the bar with the scene prompt and Render. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  const MOVES = ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown"];

  /** Whether a key changes a closed list in browsers that do so; Space and Enter open it everywhere. */
  const changesClosed = ({ key, ctrlKey, metaKey, altKey }) =>
    !ctrlKey && !metaKey && !altKey && (MOVES.includes(key) || (key.length === 1 && key !== " "));

  function headerBar(app) {
    const { presets } = app.settings;
    const select = h(
      "select",
      {
        class: "dc-text dc-preset",
        "aria-label": "Open a preset",
        onchange: () => {
          if (select.value) app.openPreset(select.value);
          select.value = "";
        },
        // each change opens a preset: such a key opens the list instead, in which one is chosen
        onkeydown: (event) => {
          if (!changesClosed(event)) return;
          event.preventDefault();
          try {
            select.showPicker();
          } catch {
            // not in this browser, or not inside another site's page: Space still opens it
          }
        },
      },
      h("option", { value: "", text: "Presets" }),
      presets.map((preset) => h("option", { value: preset.name, text: preset.title })),
    );
    const name = h("input", {
      class: "dc-title",
      type: "text",
      "aria-label": "Name of the collage",
      placeholder: "Untitled collage",
      maxlength: app.settings.limits.name,
      oninput: () => app.store.patch({ name: name.value }, "doc:name"),
    });
    const element = h(
      "header",
      { class: "dc-header" },
      h("h1", { class: "dc-brand" }, D.mark(), h("span", { text: "Décollage" })),
      name,
      h(
        "div",
        { class: "dc-header-actions" },
        presets.length ? select : null,
        D.textButton("folder", "Open", () => app.pickCollage(), { title: "Open a .collage file, or a PNG rendered here" }),
        D.textButton("save", "Save", () => app.save(), { title: "Save as a .collage file (Ctrl+S)" }),
      ),
    );
    const show = () => {
      if (name.value !== app.store.doc.name) name.value = app.store.doc.name;
    };
    return { element, show };
  }

  function stageTools(app) {
    const { store } = app;
    const on = (command) => () => app.attempt(() => store.selected && command(store.selected));
    const flip = (field) => (id) => store.patchLayer(id, { [field]: !store.unlocked(id)[field] }, { say: "Flipped." });
    const undo = D.iconButton("undo", "Undo", () => store.undo(), { keys: "Ctrl+Z" });
    const redo = D.iconButton("redo", "Redo", () => store.redo(), { keys: "Ctrl+Shift+Z" });
    const forLayer = [
      D.iconButton("flip-x", "Flip left to right", on(flip("flip_x"))),
      D.iconButton("flip-y", "Flip upside down", on(flip("flip_y"))),
      D.iconButton("up", "Move up", on((id) => store.shift(id, 1)), { keys: "Ctrl+]" }),
      D.iconButton("down", "Move down", on((id) => store.shift(id, -1)), { keys: "Ctrl+[" }),
      D.iconButton("copy", "Duplicate", on((id) => store.duplicate(id)), { keys: "Ctrl+D" }),
      D.iconButton("trash", "Delete layer", on((id) => store.remove(id)), { keys: "Delete" }),
    ];
    const element = h(
      "div",
      { class: "dc-tools", role: "toolbar", "aria-label": "Tools" },
      undo,
      redo,
      h("span", { class: "dc-gap" }),
      forLayer,
      h("span", { class: "dc-push" }),
      app.results.segments,
    );
    const show = () => {
      undo.disabled = !store.canUndo;
      redo.disabled = !store.canRedo;
      for (const button of forLayer) button.disabled = !store.current;
    };
    return { element, show };
  }

  function promptBar(app) {
    const { store, settings } = app;
    const prompt = D.text("Scene prompt", (value) => store.patch({ prompt: value }, "doc:prompt"), {
      rows: 2,
      limit: settings.limits.prompt,
      placeholder: "Describe the whole scene: what is where, in what light",
    });
    const full = h("p", { class: "dc-full", hidden: true });
    const render = D.textButton("play", "Render", () => app.render(), { kind: "dc-primary", title: "Render (Ctrl+Enter)" });
    const stop = D.textButton("stop", "Stop", () => app.stop(), { kind: "dc-primary dc-stop", title: "Stop the run" });
    const element = h(
      "section",
      { class: "dc-prompt", "aria-label": "Scene" },
      h("div", { class: "dc-prompt-row" }, prompt.element, h("div", { class: "dc-run" }, render, stop)),
      full,
      app.results.news,
    );
    stop.hidden = true;

    let asked = "";
    let timer = 0;
    const ask = () => {
      const words = store.doc.layers.filter((layer) => layer.visible).map((layer) => layer.prompt);
      const key = JSON.stringify([store.doc.prompt, words]);
      if (key === asked) return;
      asked = key;
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const answer = await app.weave(store.doc.prompt, words);
        if (key !== asked || answer === null) return;
        full.hidden = answer.trim() === store.doc.prompt.trim() || answer === "";
        full.replaceChildren(h("span", { text: "Full prompt" }), ` ${answer}`);
      }, 350);
    };
    const show = () => {
      prompt.show(store.doc.prompt);
      ask();
    };
    const showRunning = (running) => {
      const focused = document.activeElement === render || document.activeElement === stop;
      render.hidden = running;
      stop.hidden = !running;
      if (focused) (running ? stop : render).focus({ preventScroll: true });
    };
    return { element, show, showRunning };
  }

  Object.assign(D, { headerBar, stageTools, promptBar });
})();
