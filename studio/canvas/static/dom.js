/* Building DOM: elements, buttons and the fields of the panels. User text goes in as text, never as HTML. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});

  /** h("div", {class: "a", onclick: f, hidden: true}, child, "text", …): null and false children are left out. */
  function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "text") element.textContent = value;
      else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }

  /** A button with an icon; its label is read out and shown as a tooltip. */
  function iconButton(icon, label, onclick, { kind = "", keys = "" } = {}) {
    return h(
      "button",
      {
        type: "button",
        class: `dc-button dc-button-icon ${kind}`,
        "aria-label": label,
        title: keys ? `${label} (${keys})` : label,
        onclick,
      },
      D.icon(icon),
    );
  }

  function textButton(icon, label, onclick, { kind = "", title = "" } = {}) {
    return h(
      "button",
      { type: "button", class: `dc-button ${kind}`, "aria-label": label, title: title || null, onclick },
      icon ? D.icon(icon) : null,
      h("span", { text: label }),
    );
  }

  let lastId = 0;
  const freshId = (stem) => `dc-${stem}-${(lastId += 1)}`;

  /** The small i beside a label: opens a sentence under it, by mouse, key or finger. */
  function hint(text, about) {
    const id = freshId("hint");
    const bubble = h("p", { class: "dc-hint", id, role: "note", hidden: true, text });
    const button = h(
      "button",
      {
        type: "button",
        class: "dc-info",
        "aria-label": `What is ${about}?`,
        "aria-expanded": "false",
        "aria-controls": id,
        title: text,
        onclick: () => {
          bubble.hidden = !bubble.hidden;
          button.setAttribute("aria-expanded", String(!bubble.hidden));
        },
      },
      D.icon("info"),
    );
    return { button, bubble };
  }

  /** Number of decimals that a step asks for. */
  const decimals = (step) => (String(step).split(".")[1] ?? "").length;

  /** Puts `text` into a number's box that says `before`; what is being typed there stays. Gives `text`. */
  function tell(box, before, text) {
    const typed = document.activeElement === box && box.value !== before;
    if (!typed && box.value !== text) box.value = text; // the same, set again, would take away what is no number yet
    return text;
  }

  /** Hands over the number that is being typed; its box does so by itself only when Enter is pressed or it is left. */
  function commitTyped() {
    const box = document.activeElement;
    if (box?.type === "number") box.dispatchEvent(new Event("change"));
  }

  /** A slider with a number beside it. `word`: {label, hint, min, max, step, default, nullable, curve}. null stands
   * for the default and is shown as such; the little arrow brings it back. `change(value)` is called with a number or
   * null. A `curve` of 2 gives small values more room. */
  function slider(word, change) {
    const id = freshId("slider");
    const span = word.max - word.min || 1;
    const toShare = (value) => Math.max(0, Math.min(1, (value - word.min) / span)) ** (1 / word.curve);
    const fromShare = (share) => word.min + Math.round((share ** word.curve * span) / word.step) * word.step;
    const notches = word.curve === 1 ? Math.round(span / word.step) : 200;
    const range = h("input", { type: "range", id, min: 0, max: notches, step: 1 });
    const number = h("input", {
      type: "number",
      class: "dc-number",
      min: word.min,
      max: word.max,
      step: word.step,
      "aria-label": `${word.label}, as a number`,
    });
    const reset = iconButton("reset", `${word.label}: back to the default`, () => change(null), {
      kind: "dc-small",
    });
    const { button, bubble } = hint(word.hint, word.label);
    const clamp = (value) => Math.min(word.max, Math.max(word.min, value));
    const tidy = (value) => Number(clamp(value).toFixed(decimals(word.step)));
    let stored = ""; // what the document has, as the box shows it
    range.addEventListener("input", () => change(tidy(fromShare(Number(range.value) / notches))));
    number.addEventListener("change", () => {
      const value = number.value.trim() === "" ? null : Number(number.value);
      const given = value === null || Number.isNaN(value) ? null : clamp(value); // null: the default
      if (number.value !== stored) change(given);
      number.value = stored;
    });
    const element = h(
      "div",
      { class: "dc-field dc-slider" },
      h("div", { class: "dc-field-head" }, h("label", { for: id, text: word.label }), button, reset, number),
      range,
      bubble,
    );
    const show = (value, usual) => {
      const shown = value ?? usual ?? word.default;
      const text = Number(shown).toFixed(decimals(word.step));
      stored = tell(number, stored, text);
      if (document.activeElement !== range || tidy(fromShare(range.value / notches)) !== shown) {
        range.value = String(Math.round(toShare(shown) * notches));
      }
      range.style.setProperty("--filled", `${toShare(shown) * 100}%`);
      element.classList.toggle("dc-is-default", value === null || value === undefined);
      reset.hidden = value === null || value === undefined || !word.nullable;
      range.setAttribute("aria-valuetext", reset.hidden && word.nullable ? `${text}, the default` : text);
    };
    /** Whether it can be moved; the arrow to the default works either way. */
    const allow = (possible) => {
      range.disabled = number.disabled = !possible;
    };
    return { element, show, range, allow };
  }

  /** A number in a box, for what has no natural middle (steps, seed, place). An empty box is null: the default,
   * which stands greyed in the box. */
  function number(label, change, { min, max, step = 1, about = "", optional = false } = {}) {
    const id = freshId("number");
    const input = h("input", { id, class: "dc-text", type: "number", min, max, step, inputmode: "decimal" });
    let stored = ""; // what the document has, as the box shows it
    input.addEventListener("change", () => {
      const value = Number(input.value);
      const empty = input.value.trim() === "" || Number.isNaN(value);
      const bounded = Math.min(max, Math.max(min, value));
      if (input.value !== stored && !empty) change(step === 1 ? Math.round(bounded) : bounded);
      else if (input.value !== stored && optional) change(null);
      input.value = stored;
    });
    const tip = about ? hint(about, label) : null;
    const element = h(
      "div",
      { class: "dc-field" },
      h("div", { class: "dc-field-head" }, h("label", { for: id, text: label }), tip?.button),
      input,
      tip?.bubble,
    );
    const show = (value, placeholder = "") => {
      stored = tell(input, stored, value === null ? "" : String(value));
      input.placeholder = String(placeholder);
    };
    return { element, show, input };
  }

  /** A field of text; `rows` above 1 makes it a text area that grows with what is in it. */
  function text(label, change, { rows = 1, placeholder = "", limit, about = "", hidden = false } = {}) {
    const id = freshId("text");
    const input = h(rows > 1 ? "textarea" : "input", {
      id,
      class: "dc-text",
      rows: rows > 1 ? rows : null,
      type: rows > 1 ? null : "text",
      placeholder,
      maxlength: limit,
      spellcheck: rows > 1 ? "true" : "false",
      autocomplete: "off",
      oninput: () => change(input.value),
    });
    const tip = about ? hint(about, label) : null;
    const element = h(
      "div",
      { class: "dc-field" },
      h("div", { class: `dc-field-head ${hidden ? "dc-sr" : ""}` }, h("label", { for: id, text: label }), tip?.button),
      input,
      tip?.bubble,
    );
    const show = (value) => {
      if (input.value !== value) input.value = value;
    };
    return { element, show, input };
  }

  /** A choice; `options()` gives [[value, label], …], null standing for the default. */
  function choice(label, options, change, { about = "" } = {}) {
    const id = freshId("choice");
    const select = h("select", { id, class: "dc-text", onchange: () => change(JSON.parse(select.value)) });
    const tip = about ? hint(about, label) : null;
    const element = h(
      "div",
      { class: "dc-field" },
      h("div", { class: "dc-field-head" }, h("label", { for: id, text: label }), tip?.button),
      select,
      tip?.bubble,
    );
    let drawn = "";
    const show = (value) => {
      const wanted = options(value);
      const key = JSON.stringify(wanted);
      if (key !== drawn) {
        drawn = key;
        select.replaceChildren(
          ...wanted.map(([one, name]) => h("option", { value: JSON.stringify(one), text: name })),
        );
      }
      select.value = JSON.stringify(value ?? null);
    };
    return { element, show, select };
  }

  /** A box to tick, for what is on or off; `term` is what its hint explains, where the label is a sentence. */
  function check(label, change, { about = "", term = label } = {}) {
    const id = freshId("check");
    const input = h("input", { type: "checkbox", id, onchange: () => change(input.checked) });
    const tip = about ? hint(about, term) : null;
    const element = h(
      "div",
      { class: "dc-field" },
      h(
        "div",
        { class: "dc-field-head" },
        h("label", { class: "dc-check", for: id }, input, h("span", { text: label })),
        tip?.button,
      ),
      tip?.bubble,
    );
    const show = (value) => {
      input.checked = value;
    };
    const allow = (possible) => {
      input.disabled = !possible;
    };
    return { element, show, input, allow };
  }

  /** A heading that folds what is under it away. */
  function fold(title, open, ...children) {
    return h(
      "details",
      { class: "dc-fold", open },
      h("summary", {}, D.icon("chevron"), h("span", { text: title })),
      h("div", { class: "dc-fold-body" }, children),
    );
  }

  /** Tabs after the ARIA pattern: `parts` is [[icon, label, element], …]; arrow keys go from tab to tab. */
  function tabs(label, parts) {
    const panels = parts.map(([, , element], number) =>
      h("div", { class: "dc-tab-panel", role: "tabpanel", id: freshId("panel"), hidden: number > 0 }, element),
    );
    const buttons = parts.map(([icon, title], number) =>
      h(
        "button",
        {
          type: "button",
          role: "tab",
          id: freshId("tab"),
          class: "dc-tab",
          "aria-controls": panels[number].id,
          onclick: () => open(number),
        },
        D.icon(icon),
        h("span", { text: title }),
      ),
    );
    const open = (chosen) => {
      buttons.forEach((button, number) => {
        button.setAttribute("aria-selected", String(number === chosen));
        button.tabIndex = number === chosen ? 0 : -1;
        panels[number].hidden = number !== chosen;
      });
    };
    const list = h("div", { class: "dc-tabs", role: "tablist", "aria-label": label }, buttons);
    list.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.stopPropagation();
      event.preventDefault();
      const next = (buttons.indexOf(document.activeElement) + by + buttons.length) % buttons.length;
      open(next);
      buttons[next].focus();
    });
    panels.forEach((panel, number) => panel.setAttribute("aria-labelledby", buttons[number].id));
    open(0);
    return h("div", { class: "dc-tab-box" }, list, panels);
  }

  Object.assign(D, { h, iconButton, textButton, hint, slider, number, text, choice, check, fold, tabs });
  Object.assign(D, { commitTyped, freshId });
})();
