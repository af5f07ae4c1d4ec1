/* Pictures in the browser: loaded once per address, reduced to proxies, cut by clip and mask, and asked for alpha.
 * The originals stay on the server; nothing is sent back but masks that are drawn here. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});

  const PROXY = 1024; // longest side of what is drawn
  const THUMB = 128; // longest side of what is asked for alpha

  const urlOf = (file) => file.url ?? `gradio_api/file=${file.path}`;

  function surface(width, height) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width));
    canvas.height = Math.max(1, Math.round(height));
    return canvas;
  }

  function draw(source, width, height) {
    const canvas = surface(width, height);
    const pen = canvas.getContext("2d", { willReadFrequently: false });
    pen.imageSmoothingQuality = "high";
    pen.drawImage(source, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  function loadImage(url) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.decoding = "async";
      image.onload = () => resolve(image);
      image.onerror = () => reject(new D.Refused("A picture could not be loaded; add it again."));
      image.src = url;
    });
  }

  /** A mask's alpha where it has one, else its brightness, as the alpha of a canvas. */
  function asAlpha(source) {
    const canvas = draw(source, source.width, source.height);
    const pen = canvas.getContext("2d");
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
    const data = pixels.data;
    let opaque = true;
    for (let at = 3; at < data.length; at += 4) {
      if (data[at] !== 255) {
        opaque = false;
        break;
      }
    }
    if (opaque) {
      for (let at = 0; at < data.length; at += 4) {
        data[at + 3] = Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);
      }
      pen.putImageData(pixels, 0, 0);
    }
    return canvas;
  }

  /** Leaves of a canvas, stretched over a layer's picture, what the layer's mask (loaded) and clip polygon keep. */
  function cut(canvas, layer, mask) {
    const pen = canvas.getContext("2d");
    pen.globalCompositeOperation = "destination-in";
    if (mask) pen.drawImage(asAlpha(mask.canvas), 0, 0, canvas.width, canvas.height);
    if (layer.clip) {
      pen.beginPath();
      for (const [u, v] of layer.clip) {
        pen.lineTo((u / layer.width) * canvas.width, (v / layer.height) * canvas.height);
      }
      pen.closePath();
      pen.fill("evenodd");
    }
    return canvas;
  }

  class Pictures {
    constructor(limits) {
      this.limits = limits;
      this.proxies = new Map(); // url -> promise of {canvas, width, height}
      this.painted = new Map(); // layer id -> {key, canvas, alpha}
    }

    /** {canvas (at most 1024 px), width, height (natural)} of an uploaded file. */
    load(file) {
      const url = urlOf(file);
      if (!this.proxies.has(url)) {
        const promise = loadImage(url).then((image) => this.#proxy(image));
        promise.catch(() => this.proxies.delete(url));
        this.proxies.set(url, promise);
      }
      return this.proxies.get(url);
    }

    #proxy(image) {
      const { naturalWidth: width, naturalHeight: height } = image;
      const factor = Math.min(1, PROXY / Math.max(width, height));
      return { canvas: draw(image, width * factor, height * factor), width, height };
    }

    /** Size of a picked or dropped file before it is uploaded; refuses what the server would refuse. */
    async measure(file) {
      const { bytes, side, pixels, types } = this.limits;
      if (!types.includes(file.type)) {
        throw new D.Refused(`${file.name} is not a picture this page can show; give PNG, JPEG, WebP, GIF or BMP.`);
      }
      if (file.size > bytes) {
        throw new D.Refused(`${file.name} is larger than ${bytes >> 20} MiB; make it smaller.`);
      }
      const url = URL.createObjectURL(file);
      try {
        const image = await loadImage(url);
        const { naturalWidth: width, naturalHeight: height } = image;
        if (Math.max(width, height) > side || width * height > pixels) {
          throw new D.Refused(
            `${file.name} is ${width} × ${height} pixels; give at most ${side} a side and ${pixels / 1e6} million in all.`,
          );
        }
        return { width, height };
      } catch (error) {
        if (error instanceof D.Refused && !error.message.startsWith("A picture")) throw error;
        throw new D.Refused(`${file.name} is damaged or too large to show; give another picture.`);
      } finally {
        URL.revokeObjectURL(url);
      }
    }

    /** The layer's picture with clip and mask applied, as a canvas; cached until one of the three changes. */
    async paint(layer) {
      const key = `${urlOf(layer.picture)}|${layer.mask ? urlOf(layer.mask) : ""}|${JSON.stringify(layer.clip)}`;
      const known = this.painted.get(layer.id);
      if (known?.key === key) return known;
      const [{ canvas: proxy }, mask] = await Promise.all([
        this.load(layer.picture),
        layer.mask ? this.load(layer.mask) : null,
      ]);
      const whole = !mask && !layer.clip;
      const canvas = whole ? proxy : cut(draw(proxy, proxy.width, proxy.height), layer, mask);
      const factor = Math.min(1, THUMB / Math.max(canvas.width, canvas.height));
      const small = draw(canvas, canvas.width * factor, canvas.height * factor);
      const data = small.getContext("2d").getImageData(0, 0, small.width, small.height);
      const painted = { key, canvas, alpha: data };
      this.painted.set(layer.id, painted);
      return painted;
    }

    /** What clip and mask keep of the layer's picture, as a PNG to upload: white there, clear elsewhere. */
    async cutMask(layer) {
      const mask = layer.mask ? await this.load(layer.mask) : null;
      const factor = Math.min(1, PROXY / Math.max(layer.width, layer.height));
      const canvas = surface(layer.width * factor, layer.height * factor);
      const pen = canvas.getContext("2d");
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      const blob = await new Promise((resolve) => cut(canvas, layer, mask).toBlob(resolve, "image/png"));
      return new File([blob], "mask.png", { type: "image/png" });
    }

    /** Alpha in 0..1 of a painted layer at a picture point; opaque while it is not painted yet. */
    opacityAt(layer, u, v) {
      const alpha = this.painted.get(layer.id)?.alpha;
      if (!alpha) return 1;
      const column = Math.min(alpha.width - 1, Math.floor((u / layer.width) * alpha.width));
      const row = Math.min(alpha.height - 1, Math.floor((v / layer.height) * alpha.height));
      return alpha.data[(row * alpha.width + column) * 4 + 3] / 255;
    }

    /** Forgets what no layer of the document needs. */
    keepOnly(ids) {
      for (const id of this.painted.keys()) if (!ids.has(id)) this.painted.delete(id);
    }
  }

  Object.assign(D, { Pictures, urlOf });
})();
