/* Closing or reloading the page: the browser asks first where that would lose what nobody has kept. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});

  // what the page counts for itself is no work of the user's
  const content = (doc) => JSON.stringify({ ...doc, rev: 0, opened: 0 });

  /** Asks while the document is neither as it was opened nor as saved, and while `results` are `running` or `unkept`.
   * Gives `unsaved()`, whether the document is neither, and `keep(doc)`, to be told what was opened or saved. Stops
   * with `signal`. */
  D.guardWork = (store, results, signal, page = globalThis) => {
    let kept = store.doc;
    let byItself = false;
    const unsaved = () => content(store.doc) !== content(kept);
    page.navigation?.addEventListener(
      "navigate",
      ({ navigationType, userInitiated }) => {
        byItself = navigationType === "reload" && !userInitiated;
      },
      { signal },
    );
    page.addEventListener(
      "beforeunload",
      (event) => {
        // Gradio loads a page again that has lost its connection, and with it its run: to stay would be to stay on
        // a dead page, and the document comes back (draft.js)
        const lost = results.unkept || (!byItself && (results.running || unsaved()));
        byItself = false;
        if (!lost) return;
        event.preventDefault();
        event.returnValue = true; // for browsers that do not go by preventDefault yet
      },
      { signal },
    );
    return {
      unsaved,
      keep(doc) {
        kept = doc;
      },
    };
  };
})();
