/* Ways for pictures and collages to come in: file pickers, drops, the drawer. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  const PICTURES = "image/png,image/jpeg,image/webp,image/gif,image/bmp";
  const isCollage = (file) => /\.(collage|zip)$/i.test(file.name);
  const stem = (file) => file.name.replace(/\.[^.]+$/, "").replace(/[_-]+/g, " ").trim();

  function pick(accept, multiple) {
    return new Promise((resolve) => {
      const input = h("input", { type: "file", accept, multiple, hidden: true });
      input.addEventListener("change", () => {
        resolve([...input.files]);
        input.remove();
      });
      input.addEventListener("cancel", () => input.remove());
      document.body.append(input);
      input.click();
    });
  }

  const Adding = {};

  /** A layer as the studio's defaults have it, with the picture at a point or in the middle. */
  function placed(app, { picture, name, width, height, prompt = "" }, point, share) {
    const { canvas } = app.store.doc;
    const scale = D.fitScale(width, height, canvas, share);
    const at = point ?? { x: canvas.width / 2, y: canvas.height / 2 };
    return {
      ...app.settings.layer,
      picture,
      name,
      prompt,
      width,
      height,
      x: Math.round(at.x * 100) / 100,
      y: Math.round(at.y * 100) / 100,
      scale_x: Number(scale.toFixed(5)),
      scale_y: Number(scale.toFixed(5)),
    };
  }

  /** Uploads pictures and puts them on the canvas, in order, at `point`; what fails is told by name. */
  Adding.addFiles = async function addFiles(files, point = null) {
    const settled = await Promise.allSettled(
      files.map(async (file) => {
        const size = await this.pictures.measure(file);
        const name = D.cut(stem(file), this.settings.limits.name);
        return placed(this, { picture: await this.sendFile(file), name, ...size }, point, 0.6);
      }),
    );
    const layers = settled.filter((one) => one.status === "fulfilled").map((one) => one.value);
    const failed = settled.filter((one) => one.status === "rejected");
    if (layers.length) this.results.error.hidden = true;
    this.attempt(() => this.store.addLayers(layers));
    if (failed.length) this.results.fail(failed.map((one) => one.reason.message).join(" "));
    this.results.look(null);
  };

  /** A ready cut-out: uploaded once, then shared by all layers that show it. */
  Adding.addCutout = async function addCutout(cutout, point = null) {
    try {
      if (!this.uploaded.has(cutout.name)) {
        const work = fetch(this.settings.drawer.base + cutout.file)
          .then((answer) => {
            if (answer.ok) return answer.blob();
            throw new D.Refused(`${cutout.name} could not be fetched from the server; try again.`);
          })
          .then((blob) => this.sendFile(new File([blob], cutout.file, { type: "image/png" })));
        work.catch(() => this.uploaded.delete(cutout.name));
        this.uploaded.set(cutout.name, work);
      }
      const picture = await this.uploaded.get(cutout.name);
      const { name, words, width, height } = cutout;
      this.store.addLayers([placed(this, { picture, name, prompt: words[0] ?? name, width, height }, point, 0.42)]);
      this.results.look(null);
    } catch (error) {
      this.results.fail(error instanceof D.Refused ? error.message : `${cutout.name} could not be added; try again.`);
    }
  };

  Adding.pickFiles = async function pickFiles() {
    const files = await pick(PICTURES, true);
    if (files.length) await this.addFiles(files);
  };

  /** One picture that is not a layer (background, reference): `use(file, name)` is called once it is uploaded. */
  Adding.pickOne = async function pickOne(use) {
    const [file] = await pick(PICTURES, false);
    if (!file) return;
    try {
      await this.pictures.measure(file);
      const sent = await this.sendFile(file);
      this.attempt(() => use(sent, D.cut(stem(file), this.settings.limits.name)));
    } catch (error) {
      if (!(error instanceof D.Refused)) throw error;
      this.results.fail(error.message);
    }
  };

  /** A layer's picture as a reference, and as its mask what the layer's own mask and polygon keep. */
  Adding.avoidLayer = async function avoidLayer(layer) {
    const { picture } = layer;
    try {
      const mask = layer.clip ? await this.sendFile(await this.pictures.cutMask(layer)) : layer.mask;
      this.attempt(() => this.store.addAvoid({ ...this.settings.avoid, picture, mask, name: D.labelOf(layer) }));
    } catch (error) {
      if (!(error instanceof D.Refused)) throw error;
      this.results.fail(error.message);
    }
  };

  Adding.pickCollage = async function pickCollage() {
    const [file] = await pick(".collage,.zip,.png", false);
    if (file) await this.openCollage(file);
  };

  /** The server reads the file and sends its document back; on failure the one here stays as it is. */
  Adding.openCollage = async function openCollage(file) {
    const { archive, result } = this.settings.limits;
    const bytes = isCollage(file) ? archive : result;
    if (file.size > bytes) {
      this.results.fail(`${file.name} is larger than ${bytes >> 20} MiB; use smaller pictures.`);
      return;
    }
    try {
      const incoming = await this.sendFile(file);
      await this.send("dc_open", {}, { incoming });
    } catch (error) {
      if (!(error instanceof D.Refused)) throw error;
      this.results.fail(error.message);
    }
  };

  Object.assign(D.Studio.prototype, Adding);

  /** Files and cut-outs dropped on the stage. A .collage is opened; pictures become layers where they fall. */
  D.listenToDrops = (app, stage) => {
    let depth = 0;
    const wanted = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === D.CUTOUT_TYPE);
    const mark = (by) => {
      depth = Math.max(0, depth + by);
      stage.classList.toggle("dc-dropping", depth > 0);
    };
    stage.addEventListener("dragenter", (event) => {
      if (wanted(event)) mark(1);
    });
    stage.addEventListener("dragleave", (event) => {
      if (wanted(event)) mark(-1);
    });
    stage.addEventListener("dragover", (event) => {
      if (!wanted(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    });
    stage.addEventListener("drop", (event) => {
      if (!wanted(event)) return;
      event.preventDefault();
      event.stopPropagation();
      mark(-depth);
      const point = app.view.pointOf(event);
      const cutout = event.dataTransfer.getData(D.CUTOUT_TYPE);
      if (cutout) {
        const found = app.settings.drawer.cutouts.find((one) => one.name === cutout);
        if (found) app.addCutout(found, point);
        return;
      }
      const files = [...event.dataTransfer.files];
      const collage = files.find(isCollage);
      if (collage) app.openCollage(collage);
      else if (files.length) app.addFiles(files, point);
    });
    // beside the stage a file is dropped on nothing: the browser would leave the page for it
    for (const type of ["dragover", "drop"]) {
      const stray = (event) => {
        if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        event.dataTransfer.dropEffect = "none";
      };
      globalThis.addEventListener(type, stray, { signal: app.listening.signal });
    }
  };
})();
