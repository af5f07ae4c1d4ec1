/* Unsaved work outlives a reload of its tab: after a lost connection Gradio loads the page again by itself.
 *
 * The document goes to the tab's own storage. What it holds of pictures is where they lie on the server, so it stays
 * small, and a picture that is no longer there is told as any other. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});

  const QUIET = 500; // ms without a change after which the document is written

  /** The storage of the tab, null where the browser gives none (another site's frame may not have one). */
  function storageOf(page) {
    try {
      return page.sessionStorage ?? null;
    } catch {
      return null;
    }
  }

  function read(storage, key) {
    try {
      const doc = JSON.parse(storage.getItem(key));
      return Array.isArray(doc?.layers) && Array.isArray(doc.avoids) ? doc : null;
    } catch {
      return null;
    }
  }

  /** Writes the store's document whenever it has changed and is `unsaved()`, and forgets it when it is not; stops with
   * `signal`. Gives `found`, what the page left here before it was loaded, or null; and `write()`, to do so at once. */
  D.keepDraft = (store, unsaved, signal, page = globalThis) => {
    const storage = storageOf(page);
    const key = `decollage ${page.location?.pathname ?? ""}`; // another studio may be on the same site
    const found = storage && read(storage, key);
    let timer = null;
    const write = () => {
      clearTimeout(timer);
      timer = null;
      try {
        if (unsaved()) storage?.setItem(key, JSON.stringify(store.doc));
        else storage?.removeItem(key);
      } catch {
        // full: the page works without
      }
    };
    store.subscribe(({ doc }) => {
      if (!doc || signal.aborted) return;
      clearTimeout(timer);
      timer = setTimeout(write, QUIET);
    });
    page.addEventListener("pagehide", () => timer !== null && write(), { signal });
    signal.addEventListener("abort", () => clearTimeout(timer));
    return { found, write };
  };
})();
