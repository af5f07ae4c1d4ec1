/* Where a layer lies: the same mapping as studio/compositing.py. Pure functions.
 *
 * Canvas points are in canvas pixels, picture points in pixels of the layer's own picture. A picture is flipped,
 * scaled, turned clockwise, and its centre put at (x, y). */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});

  /** The picture point that shows at a canvas point. */
  function toPicture(layer, x, y) {
    const angle = (layer.rotation * Math.PI) / 180;
    const dx = x - layer.x;
    const dy = y - layer.y;
    const across = (Math.cos(angle) * dx + Math.sin(angle) * dy) / layer.scale_x;
    const down = (-Math.sin(angle) * dx + Math.cos(angle) * dy) / layer.scale_y;
    return {
      u: across * (layer.flip_x ? -1 : 1) + layer.width / 2,
      v: down * (layer.flip_y ? -1 : 1) + layer.height / 2,
    };
  }

  /** Whether the point lies in the polygon [[u, v], …] (even-odd). */
  function inPolygon(polygon, u, v) {
    let inside = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
      const [ui, vi] = polygon[i];
      const [uj, vj] = polygon[j];
      if (vi > v !== vj > v && u < ((uj - ui) * (v - vi)) / (vj - vi) + ui) inside = !inside;
    }
    return inside;
  }

  /** The topmost layer that shows something at the point, null where none does.
   *
   * `opacityAt(layer, u, v)` gives the layer's own alpha (picture and mask) in 0..1 at a picture point. */
  function pick(layers, x, y, opacityAt) {
    for (let at = layers.length - 1; at >= 0; at -= 1) {
      const layer = layers[at];
      if (!layer.visible || layer.locked || layer.opacity <= 0) continue;
      const { u, v } = toPicture(layer, x, y);
      if (u < 0 || v < 0 || u >= layer.width || v >= layer.height) continue;
      if (layer.clip && !inPolygon(layer.clip, u, v)) continue;
      if (opacityAt(layer, u, v) > 0.08) return layer;
    }
    return null;
  }

  /** Scale at which a picture of this size takes `share` of the canvas, never enlarged beyond its pixels. */
  function fitScale(width, height, canvas, share = 0.5) {
    return Math.min(1, (canvas.width * share) / width, (canvas.height * share) / height);
  }

  /** Scales of a layer that is made `scale` times as wide as its picture: in its proportions, both in [least, most]. */
  function scaled(layer, scale, [least, most]) {
    const ratio = layer.scale_y / layer.scale_x;
    const across = Math.min(Math.max(scale, least, least / ratio), most, most / ratio);
    return { scale_x: across, scale_y: across * ratio };
  }

  /** Degrees in (-180, 180]. */
  function turn(degrees) {
    const rest = ((degrees % 360) + 360) % 360;
    return rest > 180 ? rest - 360 : rest;
  }

  /** Flips and rotation of a drawn node, told the way the user left them: {flip_x, flip_y, rotation}.
   *
   * A mirror image has two names (flipped across, or flipped down and turned by 180°), and Konva always uses the
   * second; of the two, the one closer to the rotation before is meant. */
  function untangle(scaleX, scaleY, degrees, before) {
    const flipX = scaleX < 0;
    const flipY = scaleY < 0;
    const as = { flip_x: flipX, flip_y: flipY, rotation: turn(degrees) };
    const or = { flip_x: !flipX, flip_y: !flipY, rotation: turn(degrees + 180) };
    const away = (one) => Math.abs(turn(one.rotation - before));
    return away(or) < away(as) ? or : as;
  }

  Object.assign(D, { toPicture, inPolygon, pick, fitScale, scaled, turn, untangle });
})();
