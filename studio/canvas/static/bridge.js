/* The studio as one component of the page, and its wire to the server.
 *
 * To the server go the document (`props.value`, client-side until an event takes it) and named events (`sending.js`);
 * back come a document (`value`), the report of a run (`run`) and files to download (`saved`). */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  class Studio {
    constructor({ element, props, trigger, server, upload, watch }) {
      Object.assign(this, { root: element, props, trigger, server, upload });
      this.settings = props.settings;
      this.pending = new Set(); // uploads under way
      this.sending = Promise.resolve(); // ends when the last event has left
      this.listening = new AbortController(); // ends what is listened to outside the frame
      this.uploaded = new Map(); // cut-out name -> uploaded file
      const known = props.value?.layers ? props.value : null; // Gradio's "no value yet" is an empty text
      this.store = new D.Store(known ?? this.settings.empty, this.settings.limits);
      this.pictures = new D.Pictures(this.settings.limits);
      this.results = new D.Results(this);
      this.work = D.guardWork(this.store, this.results, this.listening.signal);
      this.draft = D.keepDraft(this.store, this.work.unsaved, this.listening.signal);
      this.#build();
      this.store.subscribe(({ doc, say }) => this.#changed(doc, say));
      watch("value", () => this.#receive(props.value));
      watch("run", () => props.run && this.results.take(props.run));
      watch("saved", () => this.takeSaved(props.saved));
      this.themes = new MutationObserver(() => this.view.restyle());
      this.themes.observe(document.body, { attributes: true, attributeFilter: ["class"] });
      const fresh = known?.opened === undefined; // else the page's own document: the component was made anew
      if (known) this.#ready(fresh);
      if (known && fresh && props.saved?.error) this.takeSaved(props.saved); // why it is empty
    }

    destroy() {
      this.listening.abort();
      this.themes.disconnect();
      this.view.destroy();
      this.frame.remove();
    }

    /** The collage's model, by its name or hub id, among those offered; undefined where it is not. */
    get offered() {
      const { model } = this.store.doc;
      return this.settings.models.find((one) => one.name === model || (one.hub !== null && one.hub === model));
    }

    /** What is known of the collage's model; of the first one where it is not offered. */
    get model() {
      return this.offered ?? this.settings.models[0];
    }

    /** The default of a word on the collage's model and canvas; feather grows with the canvas (`feather_of`). */
    usual(word) {
      const { width, height } = this.store.doc.canvas;
      if (word === "feather") return Math.round(this.settings.feather * Math.max(width, height));
      return this.model.usual[word];
    }

    /** The default alpha of an avoid reference: another where it pushes, as it does without a negative branch. */
    get usualAlpha() {
      const { avoid_by: by, guidance } = this.store.doc;
      const { steers_above: above, guidance: usual } = this.model;
      const steers = above !== null && (guidance ?? usual) > above;
      return this.usual(by === "push" || !steers ? "avoid_push" : "avoid_alpha");
    }

    #build() {
      const stageHost = h("div", { class: "dc-konva" });
      this.stage = h(
        "div",
        {
          class: "dc-stage",
          tabindex: "0",
          role: "application",
          "aria-label": "Canvas. Arrow keys move the selected layer, Alt and brackets choose another.",
        },
        stageHost,
        this.results.overlay,
        h("div", { class: "dc-drop", "aria-hidden": "true" }, h("span", { text: "Drop to add as layers" })),
      );
      this.live = h("p", { class: "dc-sr", role: "status", "aria-live": "polite" });
      const layers = D.layersPanel(this);
      const inspector = D.inspectorPanel(this);
      const scene = D.scenePanel(this);
      const avoid = D.avoidPanel(this);
      const header = D.headerBar(this);
      const tools = D.stageTools(this);
      const prompt = D.promptBar(this);
      const drawer = D.drawerPanel(this);
      const side = D.tabs("Settings", [
        ["layers", "Layers", h("div", {}, layers.element, inspector.element)],
        ["sliders", "Scene", scene.element],
        ["ban", "Avoid", avoid.element],
      ]);
      this.panels = [layers, inspector, scene, avoid, header, tools, prompt];
      this.showRunning = (running) => {
        prompt.showRunning(running);
        inspector.show();
      };
      this.frame = h(
        "div",
        { class: "dc-studio", inert: true }, // until the first document is there, which would undo what was done before
        header.element,
        drawer.element,
        h("main", { class: "dc-centre" }, tools.element, this.stage, this.results.shelf, prompt.element),
        h("aside", { class: "dc-side", "aria-label": "Settings" }, side),
        this.live,
      );
      this.root.querySelector(".dc-root").replaceChildren(this.frame);
      this.view = new D.View(stageHost, this.store, this.pictures, (sentence) => this.results.fail(sentence), () =>
        this.results.fit(),
      );
      this.view.restyle();
      this.stage.addEventListener("pointerdown", () => {
        this.stage.classList.add("dc-by-pointer"); // the focus ring is for keys
        this.stage.focus({ preventScroll: true });
      });
      this.stage.addEventListener("keydown", () => this.stage.classList.remove("dc-by-pointer"));
      D.listenToKeys(this, this.frame);
      D.listenToDrops(this, this.stage);
      this.#show();
    }

    #show() {
      for (const panel of this.panels) panel.show();
    }

    #changed(docChanged, say) {
      if (docChanged) this.props.value = this.store.doc;
      this.tell(say);
      this.view.draw();
      this.#show();
    }

    /** Has a sentence read out, without showing it. */
    tell(sentence) {
      if (sentence) this.live.textContent = sentence;
    }

    /** A document from the server: the first one, an opened file or a preset. */
    #receive(doc) {
      if (!doc?.layers || doc === this.store.doc) return;
      const first = !this.root.dataset.ready;
      this.store.replace({ ...this.settings.empty, ...doc }, { first });
      this.keep(this.store.doc);
      this.results.look(null);
      this.results.error.hidden = true;
      this.#ready(first);
    }

    /** What was unsaved when the page was loaded again takes the place of a fresh page's document. */
    #bringBack() {
      const { found } = this.draft;
      const { empty } = this.settings;
      if (!found || found.version !== empty.version) return; // there is none, or the studio was renewed meanwhile
      this.store.replace({ ...empty, ...found });
      this.draft.write();
      this.results.say(
        "Your collage is back as it was before the page was loaded again; Undo leads to the one a fresh page shows.",
      );
    }

    /** To be told what was opened or saved: it would not be lost. */
    keep(doc) {
      this.work.keep(doc);
      this.draft.write();
    }

    /** `fresh`: the first document that a page got has just come. */
    #ready(fresh) {
      if (fresh) this.#bringBack();
      this.root.dataset.ready = "1";
      this.frame.inert = false;
    }

    /** Runs a command; what it refuses is shown as a sentence. */
    attempt(command) {
      try {
        return command();
      } catch (error) {
        if (!(error instanceof D.Refused)) throw error;
        this.results.fail(error.message);
        return undefined;
      }
    }

    /** Values that the server suggests for the layers; null when it does not answer. */
    async suggest() {
      const { canvas, layers, model, edges } = this.store.doc;
      try {
        return await this.server.suggest({
          canvas,
          model,
          edges,
          layers: layers.map((layer) => ({ ...layer, picture: null, mask: null })),
        });
      } catch {
        return null;
      }
    }

    /** What prompt and words leave open, filled in: {prompt, words of the visible layers}, null where nothing is open. */
    async fillIn() {
      const { prompt, layers } = this.store.doc;
      const words = layers.filter((layer) => layer.visible).map((layer) => layer.prompt);
      return this.server.fill_in({ prompt, words });
    }

    /** The scene prompt with the layers' words put in; null when the server does not answer. */
    async weave(prompt, words) {
      try {
        return await this.server.weave({ prompt, words });
      } catch {
        return null;
      }
    }
  }

  D.Studio = Studio;

  /** Called by the component's script; a second call on the same element takes the first one's place. */
  D.mount = (wires) => {
    wires.element.decollage?.destroy();
    wires.element.decollage = new Studio(wires);
  };
})();
