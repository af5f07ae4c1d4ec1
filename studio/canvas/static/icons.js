/* Line icons, 24 × 24, drawn for this page; `D.icon(name)` gives an SVG element in the colour of the text. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const SVG = "http://www.w3.org/2000/svg";

  const PATHS = {
    undo: "M9 7 4 12l5 5M4 12h10a6 6 0 0 1 6 6v1",
    redo: "m15 7 5 5-5 5M20 12H10a6 6 0 0 0-6 6v1",
    eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12ZM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6Z",
    "eye-off": "M10 5.7A9 9 0 0 1 12 5.5c6 0 9.5 6.5 9.5 6.5a16 16 0 0 1-3 3.7M6.5 7.3A15.6 15.6 0 0 0 2.5 12S6 18.5 12 18.5a9 9 0 0 0 5-1.5M4 4l16 16",
    lock: "M6 11h12v9H6ZM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
    unlock: "M6 11h12v9H6ZM8.5 11V8a3.5 3.5 0 0 1 6.7-1.4",
    copy: "M9 9h11v11H9ZM5 15H4V4h11v1",
    trash: "M4.5 7h15M9.5 7V4.5h5V7M6.5 7l.8 12.5h9.4L17.5 7M10.5 11v5M13.5 11v5",
    up: "m6 14 6-6 6 6",
    down: "m6 10 6 6 6-6",
    "flip-x": "M12 3v18M9 7 3.5 17.5H9ZM15 7l5.5 10.5H15Z",
    "flip-y": "M3 12h18M7 9 17.5 3.5V9ZM7 15l10.5 5.5V15Z",
    upload: "M12 16V4.5M7.5 9 12 4.5 16.5 9M4.5 15.5v4h15v-4",
    download: "M12 4.5V16M7.5 11.5 12 16l4.5-4.5M4.5 15.5v4h15v-4",
    folder: "M3.5 18.5V5.5h6l2 2.5h9v10.5Z",
    save: "M4.5 4.5h12l3 3v12h-15ZM8 4.5v5h7v-5M8 19.5v-6h8v6",
    plus: "M12 5v14M5 12h14",
    search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM15.5 15.5 20 20",
    play: "M8 5.5v13l10.5-6.5Z",
    stop: "M7 7h10v10H7Z",
    info: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16ZM12 11v5M12 8v.2",
    reset: "M5 5v5h5M5.5 10A7.3 7.3 0 1 1 5 14",
    close: "m6 6 12 12M18 6 6 18",
    grip: "M9 6v.1M15 6v.1M9 12v.1M15 12v.1M9 18v.1M15 18v.1",
    seed: "M5 5h14v14H5ZM9 9v.1M15 9v.1M12 12v.1M9 15v.1M15 15v.1",
    image: "M4 5h16v14H4ZM4 16l4.5-4.5 4 4 2.5-2.5 5 5M15.5 9.5v.1",
    layers: "m12 4 8.5 4.5L12 13 3.5 8.5ZM3.5 12.5 12 17l8.5-4.5M3.5 16.3 12 20.8l8.5-4.5",
    ban: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16ZM6.4 6.4l11.2 11.2",
    sliders: "M4 8h9M17 8h3M4 16h3M11 16h9M15 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM9 18a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
    chevron: "m9 6 6 6-6 6",
    warn: "M12 4 3 19.5h18ZM12 10v4.5M12 17v.1",
  };
  const HEAVY = new Set(["grip", "seed"]);

  D.icon = (name) => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("class", "dc-icon");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("focusable", "false");
    if (HEAVY.has(name)) svg.setAttribute("stroke-width", "2.6");
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", PATHS[name]);
    svg.append(path);
    return svg;
  };

  /** The mark: two sheets, the upper one torn along its edge. */
  D.mark = () => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 32 32");
    svg.setAttribute("class", "dc-mark");
    svg.setAttribute("aria-hidden", "true");
    for (const [kind, d] of [
      ["under", "M5 7h18v20H5Z"],
      ["over", "M10 3h18v20l-3-2-2.5 2.6-3-2.2-2.7 2.4-2.6-2.6L12 23.2 10 21.5Z"],
    ]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", d);
      path.setAttribute("class", `dc-mark-${kind}`);
      svg.append(path);
    }
    return svg;
  };
})();
