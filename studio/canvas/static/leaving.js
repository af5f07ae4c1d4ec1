/* Closing or reloading the page: the browser asks first where the document is neither as it was opened nor as saved. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});

  // what the page counts for itself is no work of the user's
  const content = (doc) => JSON.stringify({ ...doc, rev: 0, opened: 0 });

  /** Gives `keep(doc)`, to be told what was opened or saved. Stops with `signal`. */
  D.guardWork = (store, signal, page = globalThis) => {
    let kept = store.doc;
    page.addEventListener(
      "beforeunload",
      (event) => {
        if (content(store.doc) === content(kept)) return;
        event.preventDefault();
        event.returnValue = true; // for browsers that do not go by preventDefault yet
      },
      { signal },
    );
    return (doc) => {
      kept = doc;
    };
  };
})();
