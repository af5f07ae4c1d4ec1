/* The stage: draws the document with Konva, and turns pointer gestures into commands of the store.
 *
 * Konva would pick by rectangle, so nodes do not listen: a press asks `D.pick` for the topmost layer with something
 * there. What lies under, at and over the selected layer sits in three canvases of its own, so a drag redraws one. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});

  const MARGIN = 28; // free room around the canvas, in screen pixels, for handles
  const SNAPS = [0, 45, 90, 135, 180, 225, 270, 315];
  const LEAST = 4; // screen pixels a layer keeps when it is made smaller

  class View {
    /** `host`: the element to fill. `store`, `pictures` as elsewhere; `say(sentence)` reports what failed,
     * `moved()` that the canvas lies elsewhere on the stage now. */
    constructor(host, store, pictures, say, moved = () => {}) {
      this.host = host;
      this.moved = moved;
      this.store = store;
      this.pictures = pictures;
      this.say = say;
      this.nodes = new Map(); // layer id -> Konva.Image
      this.gesture = null;
      this.stage = new Konva.Stage({ container: host, width: 10, height: 10 });
      const plane = () => {
        const layer = new Konva.Layer({ listening: false });
        this.stage.add(layer);
        return layer;
      };
      this.under = plane();
      this.active = plane();
      this.over = plane();
      this.top = new Konva.Layer();
      this.stage.add(this.top);
      this.paper = new Konva.Rect({ listening: false });
      this.backdrop = new Konva.Image({ listening: false, visible: false });
      this.under.add(this.paper, this.backdrop);
      this.shade = new Konva.Shape({ listening: false, sceneFunc: (pen) => this.#shadeOutside(pen) });
      this.frame = new Konva.Rect({ listening: false, strokeWidth: 1 });
      this.handles = new Konva.Transformer({
        flipEnabled: true,
        rotationSnaps: SNAPS,
        rotationSnapTolerance: 4,
        rotateAnchorOffset: 26,
        keepRatio: true,
        shiftBehavior: "inverted",
        ignoreStroke: true,
        boundBoxFunc: (before, after) =>
          Math.abs(after.width) < LEAST || Math.abs(after.height) < LEAST ? before : after,
      });
      this.top.add(this.shade, this.frame, this.handles);
      this.#listen();
      this.watcher = new ResizeObserver(() => this.resize());
      this.watcher.observe(host);
      this.resize();
    }

    destroy() {
      this.watcher.disconnect();
      this.stage.destroy();
    }

    /** Colours that canvas drawing cannot take from the style sheet by itself. */
    restyle() {
      const style = getComputedStyle(this.host);
      const colour = (name) => style.getPropertyValue(name).trim();
      const coarse = matchMedia("(pointer: coarse)").matches;
      this.shadeColour = colour("--dc-stage");
      this.frame.stroke(colour("--dc-line-strong"));
      this.handles.setAttrs({
        borderStroke: colour("--dc-accent"),
        borderStrokeWidth: 1.5,
        anchorStroke: colour("--dc-accent"),
        anchorStrokeWidth: 1.5,
        anchorFill: colour("--dc-panel"),
        anchorCornerRadius: 99,
        anchorSize: coarse ? 16 : 10,
        padding: coarse ? 6 : 2,
        enabledAnchors: coarse
          ? ["top-left", "top-right", "bottom-left", "bottom-right"]
          : ["top-left", "top-center", "top-right", "middle-left", "middle-right", "bottom-left", "bottom-center", "bottom-right"],
      });
      this.stage.batchDraw();
    }

    resize() {
      const { clientWidth: width, clientHeight: height } = this.host;
      if (!width || !height) return;
      this.stage.size({ width, height });
      this.draw();
      this.moved();
    }

    /** Where the canvas lies on the stage, in screen pixels. */
    get place() {
      const { width, height } = this.store.doc.canvas;
      const room = Math.min(MARGIN, this.stage.width() * 0.06);
      const scale = Math.min((this.stage.width() - 2 * room) / width, (this.stage.height() - 2 * room) / height);
      const left = (this.stage.width() - width * scale) / 2;
      const top = (this.stage.height() - height * scale) / 2;
      return { scale, left, top, width: width * scale, height: height * scale };
    }

    /** A canvas point under the pointer. */
    #point() {
      const at = this.stage.getPointerPosition();
      const { scale, left, top } = this.place;
      return at && { x: (at.x - left) / scale, y: (at.y - top) / scale };
    }

    /** Canvas point of a browser event, for drops. */
    pointOf(event) {
      this.stage.setPointersPositions(event);
      return this.#point();
    }

    /** Draws the document as it is now. */
    draw() {
      const { doc } = this.store;
      const { scale, left, top, width, height } = this.place;
      if (!(scale > 0)) return;
      for (const plane of [this.under, this.active, this.over]) {
        plane.position({ x: left, y: top });
        plane.scale({ x: scale, y: scale });
      }
      this.paper.setAttrs({ width: doc.canvas.width, height: doc.canvas.height, fill: doc.background.colour });
      this.frame.setAttrs({ x: left - 0.5, y: top - 0.5, width: width + 1, height: height + 1 });
      this.#drawBackdrop(doc);
      const at = doc.layers.findIndex((layer) => layer.id === this.store.selected);
      const known = new Set(doc.layers.map((layer) => layer.id));
      for (const [id, node] of this.nodes) {
        if (!known.has(id)) {
          node.destroy();
          this.nodes.delete(id);
        }
      }
      this.pictures.keepOnly(known);
      doc.layers.forEach((layer, number) => {
        const node = this.#node(layer);
        const plane = at < 0 || number < at ? this.under : number === at ? this.active : this.over;
        if (node.getLayer() !== plane) node.moveTo(plane);
        node.moveToTop();
        this.#apply(node, layer);
      });
      const current = this.store.current;
      const grabbed = current && current.visible && !current.locked;
      this.handles.nodes(grabbed ? [this.nodes.get(current.id)] : []);
      this.stage.batchDraw();
    }

    #node(layer) {
      let node = this.nodes.get(layer.id);
      if (!node) {
        node = new Konva.Image({ listening: false });
        node.on("transformend", () => this.#commitTransform(layer.id, node));
        this.nodes.set(layer.id, node);
        this.under.add(node);
      }
      return node;
    }

    #apply(node, layer) {
      node.setAttrs({
        x: layer.x,
        y: layer.y,
        width: layer.width,
        height: layer.height,
        offsetX: layer.width / 2,
        offsetY: layer.height / 2,
        scaleX: layer.scale_x * (layer.flip_x ? -1 : 1),
        scaleY: layer.scale_y * (layer.flip_y ? -1 : 1),
        rotation: layer.rotation,
        opacity: layer.opacity,
        visible: layer.visible,
      });
      const wanted = layer;
      this.pictures.paint(layer).then(
        ({ canvas }) => {
          if (this.nodes.get(wanted.id) !== node || node.image() === canvas) return;
          node.image(canvas);
          node.getLayer()?.batchDraw();
        },
        (error) => this.say(error.message),
      );
    }

    #drawBackdrop(doc) {
      const file = doc.background.picture;
      this.backdrop.visible(Boolean(file) && Boolean(this.backdrop.image()));
      if (!file) return;
      this.pictures.load(file).then(
        ({ canvas }) => {
          if (this.store.doc.background.picture !== file) return;
          const { width, height } = this.store.doc.canvas;
          const scale = Math.max(width / canvas.width, height / canvas.height); // covers, centred
          this.backdrop.setAttrs({
            image: canvas,
            visible: true,
            crop: {
              x: (canvas.width - width / scale) / 2,
              y: (canvas.height - height / scale) / 2,
              width: width / scale,
              height: height / scale,
            },
            width,
            height,
          });
          this.under.batchDraw();
        },
        (error) => this.say(error.message),
      );
    }

    /** Veils what lies outside the canvas: it is not rendered. */
    #shadeOutside(pen) {
      const { left, top, width, height } = this.place;
      pen.beginPath();
      pen.rect(0, 0, this.stage.width(), this.stage.height());
      pen.rect(left, top, width, height);
      pen.fillStyle = this.shadeColour;
      pen.globalAlpha = 0.82;
      pen.fill("evenodd");
    }

    #listen() {
      this.stage.on("pointerdown", (event) => this.#press(event));
      this.stage.on("pointermove", (event) => this.#move(event));
      const release = (event) => this.#release(event);
      this.stage.on("pointerup", release);
      this.stage.on("pointercancel", release);
      this.stage.on("mouseleave", () => {
        if (!this.gesture) this.host.style.cursor = "";
      });
    }

    /** Whether an event is of another finger than the one whose gesture is on. */
    #isOther({ pointerId }) {
      return this.gesture !== null && this.gesture.pointer !== pointerId;
    }

    #press({ target, evt }) {
      if (this.handles.isAncestorOf(target) || evt.button > 0) return;
      if (this.#isOther(evt) || this.handles.isTransforming()) return;
      const point = this.#point();
      const layers = this.store.doc.layers;
      const layer = D.pick(layers, point.x, point.y, (one, u, v) => this.pictures.opacityAt(one, u, v));
      this.store.select(layer?.id ?? null);
      if (!layer) return;
      evt.target.setPointerCapture?.(evt.pointerId);
      this.gesture = { layer, from: point, moved: false, pointer: evt.pointerId };
    }

    #move({ evt }) {
      if (this.#isOther(evt)) return;
      const point = this.#point();
      if (!point) return;
      if (!this.gesture) {
        const over = D.pick(this.store.doc.layers, point.x, point.y, (one, u, v) => this.pictures.opacityAt(one, u, v));
        if (!this.handles.isTransforming()) this.host.style.cursor = over ? "move" : "";
        return;
      }
      const { layer, from } = this.gesture;
      const dx = point.x - from.x;
      const dy = point.y - from.y;
      if (!this.gesture.moved && Math.hypot(dx, dy) * this.place.scale < 3) return;
      this.gesture.moved = true;
      const node = this.nodes.get(layer.id);
      node?.position({ x: layer.x + dx, y: layer.y + dy });
      this.handles.forceUpdate();
      this.active.batchDraw();
      this.top.batchDraw();
    }

    #release({ evt }) {
      if (this.#isOther(evt)) return;
      const gesture = this.gesture;
      this.gesture = null;
      if (!gesture?.moved) return;
      const node = this.nodes.get(gesture.layer.id);
      if (!node) return;
      this.store.patchLayer(gesture.layer.id, { x: node.x(), y: node.y() }, { say: "Moved." });
      this.draw();
    }

    #commitTransform(id, node) {
      this.store.patchLayer(
        id,
        {
          x: node.x(),
          y: node.y(),
          scale_x: Math.min(64, Math.max(0.001, Math.abs(node.scaleX()))),
          scale_y: Math.min(64, Math.max(0.001, Math.abs(node.scaleY()))),
          ...D.untangle(node.scaleX(), node.scaleY(), node.rotation(), this.store.layer(id).rotation),
        },
        { say: "Transformed." },
      );
      this.draw();
    }
  }

  Object.assign(D, { View });
})();
