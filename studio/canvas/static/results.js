/* What the run says and what came of it: the preview over the stage, the strip of results, status and warnings.
 *
 * A report from the server tells the whole run so far, so a report that is lost or comes twice does no harm. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  const KEPT = 64;

  class Results {
    constructor(app) {
      this.app = app;
      this.all = []; // {key, url, file, name, seed, again, about, opened, kept}
      this.shown = null; // key of the result on the stage, "preview", or null for the collage
      this.report = null;
      this.seq = 0;
      this.alone = null; // id of the layer that the last run rendered alone: it stays selected
      this.stayed = false; // whether the user chose what to look at while a run was on
      this.lastSeed = null; // with which the last run is made again
      this.opened = 0; // the document that the last run was of
      this.ended = 0; // number of the last run that ended
      this.endedAt = -Infinity; // and when, in ms
      this.#build();
    }

    get running() {
      return this.report?.state === "running";
    }

    /** The result on the stage. */
    get #chosen() {
      return this.all.find((one) => one.key === this.shown);
    }

    /** Whether a result has not been downloaded. */
    get unkept() {
      return this.all.some((one) => !one.kept);
    }

    #build() {
      this.picture = h("img", { class: "dc-result-picture", alt: "" });
      this.overlay = h("div", { class: "dc-result", hidden: true }, this.picture);
      const tab = (label, onclick) =>
        h("button", { type: "button", class: "dc-segment", "aria-pressed": "false", onclick, text: label });
      this.toCollage = tab("Collage", () => this.look(null));
      this.toResult = tab("Result", () => this.look(this.running ? "preview" : (this.all[0]?.key ?? null)));
      this.segments = h("div", { class: "dc-segments", role: "group", "aria-label": "Show", hidden: true }, this.toCollage, this.toResult);

      this.strip = h("ul", { class: "dc-strip", "aria-label": "Results, newest first" });
      this.caption = h("span", { class: "dc-caption" });
      const kept = () => {
        if (this.#chosen) this.#chosen.kept = true;
      };
      this.download = h("a", { class: "dc-button", download: "", onclick: kept }, D.icon("download"), h("span", { text: "Download" }));
      this.keepSeed = D.textButton("seed", "Keep seed", () => {
        const one = this.#chosen;
        if (one) this.app.store.patch({ seed: one.again });
      }, { title: "Use the seed that makes this picture again" });
      this.avoidIt = D.textButton("ban", "Avoid", () => {
        const one = this.#chosen;
        if (!one) return;
        const { store, settings } = this.app;
        this.app.attempt(() => store.addAvoid({ ...settings.avoid, picture: one.file, name: `seed ${one.seed}` }));
      }, { title: "Add this result to the pictures to avoid" });
      this.bar = h("div", { class: "dc-result-bar", hidden: true }, this.caption, this.keepSeed, this.avoidIt, this.download);
      this.shelf = h("section", { class: "dc-shelf", "aria-label": "Results", hidden: true }, this.bar, this.strip);

      this.progress = h("div", { class: "dc-progress", hidden: true }, h("div", { class: "dc-progress-bar" }));
      this.status = h("p", { class: "dc-status" }); // says every step: too much to be read out
      this.error = h("p", { class: "dc-error", role: "alert", hidden: true });
      this.warnings = h("ul", { class: "dc-warnings", "aria-label": "Warnings", hidden: true });
      this.layers = h("ul", { class: "dc-quiet" });
      this.judge = h("p", { class: "dc-quiet" });
      this.seen = D.fold("What is left of each layer", false, this.layers, this.judge);
      this.seen.hidden = true;
      this.news = h("div", { class: "dc-news" }, this.progress, this.status, this.error, this.warnings, this.seen);
    }

    /** Says a sentence where a run says how far it is; the next run takes it away. */
    say(sentence) {
      this.status.textContent = sentence;
      this.app.tell(sentence);
    }

    /** Shows one sentence about something that did not work; the next success takes it away. */
    fail(sentence) {
      this.app.uploaded.clear(); // the server may have lost a cut-out: added again, it is sent again
      this.error.replaceChildren(
        D.icon("warn"),
        h("span", { text: sentence }),
        D.iconButton("close", "Dismiss", () => (this.error.hidden = true), { kind: "dc-small" }),
      );
      this.error.hidden = false;
    }

    /** The result that a layer is rendered on: the one shown, else the newest of the document that is open. */
    get ground() {
      const { opened = 0 } = this.app.store.doc;
      return this.#chosen ?? this.all.find((one) => one.opened === opened) ?? null;
    }

    /** The results to come are those of `doc`, and of what becomes of it. */
    belongTo({ opened = 0 }) {
      this.opened = opened;
    }

    /** Before anything has come back; `alone` is the id of a layer that is rendered alone. */
    begin(alone = null) {
      this.alone = alone;
      this.error.hidden = true;
      this.stayed = false;
      this.app.tell("Rendering.");
      this.take({ state: "running", text: "Starting…", results: [], warnings: [], share: 0 });
    }

    take(report) {
      if (report.seq && report.seq <= this.seq) return; // overtaken on the way
      this.seq = report.seq ?? this.seq;
      const ends = this.running && report.state !== "running";
      if (report.state !== "running") {
        if (ends) this.endedAt = performance.now();
        this.ended = Math.max(this.ended, report.id ?? this.report?.id ?? 0);
      } else if (report.id <= this.ended) return; // said before Stop was heard, arrived after it
      this.report = report;
      this.status.textContent = report.text ?? "";
      this.progress.hidden = report.state !== "running";
      this.progress.firstChild.style.width = `${Math.round((report.share ?? 0) * 100)}%`;
      if (report.error) this.fail(report.error);
      this.#warn(report.warnings ?? []);
      this.#tellLayers(report.layers);
      let newest = null;
      for (const result of report.results ?? []) {
        const key = `${report.id}-${result.image}`;
        const known = this.all.find((one) => one.key === key);
        if (known) {
          Object.assign(known, result, { url: D.urlOf(result.file) }); // the same picture, with more said of how it came about
          continue;
        }
        newest = { ...result, key, url: D.urlOf(result.file), opened: this.opened };
        this.all.unshift(newest);
        if (result.image === 0) this.lastSeed = result.again;
      }
      this.all.length = Math.min(this.all.length, KEPT);
      if (ends) this.app.tell(report.text); // of what failed, the alert tells
      else if (newest) this.app.tell(`Picture ready, seed ${newest.seed}.`);
      if (newest) {
        this.error.hidden = !report.error;
        this.#drawStrip();
        if (!this.stayed) this.#turn(newest.key);
      } else if (report.state === "running" && report.preview) {
        this.preview = report.preview;
        if (this.shown === null && !this.stayed) this.shown = "preview";
        if (this.shown === "preview") this.#drawStage();
      }
      if (report.state !== "running") {
        this.preview = null;
        this.stayed = false;
        if (this.shown === "preview") this.#turn(report.state === "done" ? (this.all[0]?.key ?? null) : null);
      }
      this.#drawStage();
      this.app.showRunning(this.running);
    }

    #warn(warnings) {
      this.warnings.hidden = warnings.length === 0;
      this.warnings.replaceChildren(
        ...warnings.map((sentence) => h("li", {}, D.icon("warn"), h("span", { text: sentence }))),
      );
    }

    /** What the run found of each layer, where it was watched. */
    #tellLayers(layers) {
      this.seen.hidden = !layers;
      this.layers.replaceChildren(...(layers?.lines ?? []).map((line) => h("li", { text: line })));
      this.judge.textContent = layers?.by ?? "";
    }

    /** The user's choice: a result by key, the running preview, or with null the collage. While a run is on, all but
     * the preview stays until its end. */
    look(key) {
      this.stayed = this.running && key !== "preview";
      this.#turn(key);
      const { store } = this.app;
      if (!this.overlay.hidden && store.selected !== this.alone) store.select(null);
    }

    #turn(key) {
      this.shown = key;
      this.#drawStage();
    }

    #drawStage() {
      const one = this.#chosen;
      const url = one?.url ?? (this.shown === "preview" ? this.preview : null);
      const hasSomething = this.all.length > 0 || Boolean(this.preview);
      this.segments.hidden = !hasSomething;
      this.overlay.hidden = !url;
      if (url && this.picture.getAttribute("src") !== url) this.picture.src = url;
      this.fit();
      this.picture.alt = one ? `Result, seed ${one.seed}` : "Preview of the running render";
      this.overlay.classList.toggle("dc-is-preview", !one);
      this.toCollage.setAttribute("aria-pressed", String(!url));
      this.toResult.setAttribute("aria-pressed", String(Boolean(url)));
      this.toResult.textContent = this.running && !one ? "Preview" : "Result";
      this.bar.hidden = !one;
      if (one) {
        this.caption.textContent = one.about;
        this.download.hidden = !one.download; // it is written when the run has ended
        if (one.download) this.download.href = D.urlOf(one.download);
        this.download.setAttribute("download", one.name);
      }
      for (const item of this.strip.children) {
        const chosen = item.dataset.key === this.shown;
        item.firstChild.classList.toggle("dc-selected", chosen);
        if (chosen) item.firstChild.setAttribute("aria-current", "true");
        else item.firstChild.removeAttribute("aria-current");
      }
    }

    /** Puts the result exactly where the canvas lies under it. */
    fit() {
      const place = this.app.view?.place;
      if (!place) return;
      const { left, top, width, height } = place;
      Object.assign(this.picture.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    }

    #drawStrip() {
      this.shelf.hidden = this.all.length === 0;
      const have = new Map([...this.strip.children].map((item) => [item.dataset.key, item]));
      this.strip.replaceChildren(
        ...this.all.map(
          (one) =>
            have.get(one.key) ??
            h(
              "li",
              { "data-key": one.key },
              h(
                "button",
                { type: "button", class: "dc-tile", "aria-label": `Show the result with seed ${one.seed}`, title: `Seed ${one.seed}`, onclick: () => this.look(one.key) },
                h("img", { src: one.url, alt: "", loading: "lazy", decoding: "async" }),
              ),
            ),
        ),
      );
    }
  }

  Object.assign(D, { Results });
})();
