/* What the page asks of the server by events: render, stop, save, presets; and the files it uploads for them.
 *
 * One event leaves after another, with the document as it is then. Their names stand in the component's Python, too. */
(() => {
  "use strict";
  const D = (globalThis.Decollage ??= {});
  const { h } = D;

  const STREAM_CLOSES = 500; // ms
  const ANSWER_COMES = 30_000; // ms after which a save counts as not answered

  const pause = (milliseconds = 0) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  const Sending = {};

  /** Sends an event once all uploads are in and the document has been handed over, one event after another.
   *
   * With it go `edit`, as in `renderAlone`, and `incoming`, an uploaded file to open; `handed` is told the document.
   * It stays here where at its turn `wanted()` is false. */
  Sending.send = function send(name, data = {}, more = {}) {
    const { edit = null, incoming = null, handed = () => {}, wanted = () => true } = more;
    const hand = () => {
      this.props.value = { ...this.store.doc, incoming, edit };
    };
    const sent = this.sending.then(async () => {
      await Promise.allSettled([...this.pending]);
      hand();
      await pause();
      if (!wanted()) return;
      hand(); // a change meanwhile has put the document alone there
      handed(this.store.doc);
      this.trigger(name, data);
      await pause(); // until Gradio has read it
    });
    this.sending = sent.catch(() => {});
    return sent;
  };

  Sending.render = async function render(edit = null) {
    if (this.results.running) return;
    D.commitTyped();
    const turn = (this.turn = {}); // of this run, until Stop or the next one takes it
    this.results.begin(edit?.layer);
    // what is asked for while the last run's stream closes is dropped by Gradio's queue
    await pause(this.results.endedAt + STREAM_CLOSES - performance.now());
    const wanted = () => this.turn === turn;
    if (wanted()) this.send("dc_render", {}, { edit, wanted, handed: (doc) => this.results.belongTo(doc) });
  };

  /** Why a layer cannot be rendered alone now, null where it can. */
  Sending.whyNotAlone = function whyNotAlone(layer) {
    if (this.results.running) return "A render is running.";
    if (!this.results.ground) return "Render the collage first: the layer is rendered on a result.";
    if (!layer.visible) return "The layer is hidden; show it first.";
    if (layer.locked) return "The layer is locked; unlock it first.";
    return null;
  };

  /** Renders one layer anew on the result that is shown, or the newest. */
  Sending.renderAlone = function renderAlone(id) {
    const layer = this.store.layer(id);
    if (!layer || this.whyNotAlone(layer) !== null) return;
    this.render({ layer: id, picture: this.results.ground.download ?? this.results.ground.file });
  };

  Sending.stop = function stop() {
    this.turn = null;
    this.trigger("dc_stop");
  };

  /** Saves. What is asked for while a save is under way waits for its answer, as Gradio would drop it; it is not asked
   * for where nothing has changed since. */
  Sending.save = async function save() {
    D.commitTyped();
    this.saveAgain = true;
    if (this.saving) return;
    this.saving = true;
    try {
      while (this.saveAgain && this.store.doc !== this.sentToSave) await this.saveOnce();
    } finally {
      this.saving = this.saveAgain = false;
      this.sentToSave = null;
    }
  };

  /** Sends one save; ends when the next one may be sent. */
  Sending.saveOnce = async function saveOnce() {
    this.saveAgain = false;
    const answer = new Promise((resolve) => (this.answered = resolve));
    const lost = setTimeout(this.answered, ANSWER_COMES);
    try {
      await this.send("dc_save", {}, { handed: (doc) => (this.sentToSave = doc) });
      await answer;
    } finally {
      clearTimeout(lost);
    }
    await pause(STREAM_CLOSES);
  };

  /** What came of a save: a file to download, or a sentence; sentences of Open and presets come here, too. */
  Sending.takeSaved = function takeSaved(saved) {
    if (!saved) return;
    if ("rev" in saved) this.answered?.(); // it is a save's
    if (saved.error) return this.results.fail(saved.error);
    const sent = this.sentToSave;
    if (sent && saved.rev === (sent.rev ?? null)) this.keep(sent);
    const link = h("a", { href: D.urlOf(saved.file), download: saved.name });
    document.body.append(link);
    link.click();
    link.remove();
  };

  Sending.openPreset = function openPreset(name) {
    this.send("dc_preset", { name });
  };

  /** Uploads a browser file; gives the reference that documents hold. */
  Sending.sendFile = async function sendFile(file) {
    const work = this.upload(file);
    this.pending.add(work);
    try {
      const { path, url } = await work;
      return {
        path,
        url,
        orig_name: file.name,
        size: file.size,
        mime_type: file.type,
        is_stream: false,
        meta: { _type: "gradio.FileData" },
      };
    } catch {
      throw new D.Refused(`${file.name} could not be uploaded; try again.`);
    } finally {
      this.pending.delete(work);
    }
  };

  Object.assign(D.Studio.prototype, Sending);
})();
