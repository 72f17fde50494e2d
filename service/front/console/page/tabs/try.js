// The tab Try: choose a row, see what the gateway answers and why, nudge the row, copy the request.

import { hasKey } from "../api.js";
import { answerOf, topOf } from "../try/answers.js";
import { element } from "../try/elements.js";
import { explanationPanel } from "../try/explanations.js";
import { rowForm } from "../try/forms.js";
import { newestOf } from "../try/newest.js";
import { cellSlider, imageSliders } from "../try/nudge_controls.js";
import { isStill, nudged, STILL } from "../try/nudges.js";
import { paint, pictureOf, readPicture, rowOf, takesFiles, valuesOf } from "../try/pictures.js";
import { requestPanel } from "../try/request_panel.js";
import { bodyOf, fieldsOf, typicalRow, withCell } from "../try/rows.js";
import { fileDrop, groupFields, jsonField, knownRows } from "../try/sources.js";

document.head.append(element("link", { rel: "stylesheet", href: new URL("../try/try.css", import.meta.url).href }));

const THRESHOLDS_SECONDS = 2;

export const tab = { name: "try", title: "Try", start: (place, context) => new Trial(place, context).stop };

/** One visit of the tab: the row that was chosen, how it was changed since, and the answers to both. */
class Trial {
  constructor(place, context) {
    const { model } = context;
    this.context = context;
    this.chosen = null; // {row, values, words, prediction}; `values` are an image's pixels
    this.row = null; // the chosen row, or what the form made of it
    this.nudge = { ...STILL };
    this.groups = {};
    this.sent = null; // the row of the last request
    this.thresholds = {}; // the server has them a moment after its start
    this.withheld = null; // why the key may not see p-values
    this.draw = () => {}; // shows the last answer again
    this.ended = false;
    this.ask = newestOf(() => this.predict());
    this.isImage = model.rows.kind === "image";
    this.hasForm = fieldsOf(model.rows).length > 0;
    this.build(place, model);
    if (this.hasForm) this.take(typicalRow(model.rows), "the typical row of the reference", { ask: false });
    const stopPolling = context.poll(THRESHOLDS_SECONDS, () => this.readThresholds());
    this.stop = () => {
      this.ended = true;
      stopPolling();
    };
  }

  build(place, model) {
    const { rows } = model;
    const report = (fault) => this.report(fault);
    this.alert = element("p", { class: "trouble try-alert", role: "alert", hidden: true });
    this.offer = element("p", { hidden: true });
    this.words = element("p", { class: "soft", id: "try-words" }, "No row is chosen yet.");
    this.picture = this.isImage ? pictureOf(new Float64Array(rows.shape.reduce((a, b) => a * b)), rows.shape, { class: "try-picture", hidden: true, "aria-label": "the image that is sent" }) : null;
    this.button = element("button", { type: "button", class: "primary", id: "try-predict", disabled: true, onclick: () => this.begin() }, "Predict");
    this.back = element("button", { type: "button", id: "try-back", disabled: true, onclick: () => this.restore() }, "Back to the chosen row");
    this.form = this.hasForm ? rowForm(rows, (at, value) => this.change(withCell(this.row, rows, at, value))) : null;
    this.json = jsonField(rows, (row, groups) => this.takePasted(row, groups), report);
    this.groupFields = groupFields(model, (groups) => { this.groups = groups; if (this.chosen?.prediction) this.ask(); });
    this.sliders = this.isImage
      ? imageSliders((nudge) => { this.nudge = nudge; if (this.isChosen()) this.ask(); })
      : this.hasForm ? cellSlider(model, () => this.row, (at, value) => this.slide(at, value)) : null;
    this.answer = element("div", { id: "try-answer" }, element("p", { class: "soft" }, "The answer appears here."));
    this.why = explanationPanel(this.context, () => this.explained(), report);
    this.requests = requestPanel({ model, keyed: hasKey });
    place.append(this.alert, this.offer, element("div", { class: "try-columns" },
      element("div", {},
        element("h2", {}, "A row"),
        knownRows(model, (row, words) => this.take(row, words)),
        takesFiles(rows) ? fileDrop(rows.shape, (file) => this.takeFile(file)) : null,
        this.form ? element("section", {}, element("h3", {}, "A form"), this.form.element) : null,
        this.groupFields?.element, this.json.element,
        element("div", { class: "try-chosen" }, this.picture, element("div", {}, this.words, element("p", { class: "try-row" }, this.button, this.back))),
        this.sliders ? element("section", {}, element("h3", {}, "Nudge it"), this.sliders.element) : null),
      element("div", {},
        element("h2", {}, "The answer"), this.answer,
        element("section", {}, element("h3", {}, "Why?"), this.why.element),
        element("section", {}, element("h3", {}, "The same request elsewhere"), this.requests.element))),
    element("p", { class: "soft" }, notesOn(model)));
  }

  /** Choose a row; `values` are the pixels of an image if they are known. */
  async take(row, words, { values = null, ask = true } = {}) {
    this.say(null);
    try {
      if (this.isImage) values ??= await valuesOf(row, this.context.model.rows.shape);
    } catch {
      values = null; // not an image of numbers: the server says what is wrong with it
    }
    if (this.ended) return;
    this.chosen = { row, values, words, prediction: null };
    this.sliders?.reset();
    this.nudge = { ...STILL };
    this.row = row;
    this.sent = row;
    this.fillForm();
    this.show(words);
    if (ask) await this.ask();
  }

  async takePasted(row, groups) {
    this.groups = groups;
    this.groupFields?.show(groups);
    await this.take(row, "pasted JSON");
  }

  async takeFile(file, options = {}) {
    this.say(null);
    try {
      const { row, values, note, fitted } = await readPicture(file, this.context.model.rows.shape, options);
      await this.take(row, note, { values });
      if (!fitted && this.refused) this.offerFit(file);
    } catch (fault) {
      this.report(fault);
    }
  }

  /** The file was refused as it is, perhaps for its colours: offer to make one that the model takes. */
  offerFit(file) {
    this.offer.replaceChildren(element("button", { type: "button", id: "try-fit", onclick: () => this.takeFile(file, { fit: true }) }, "Fit the picture to the model"));
    this.offer.hidden = false;
  }

  /** The button Predict: a row that the form made becomes the chosen row, from which later changes are counted. */
  async begin() {
    if (this.row !== this.chosen.row) this.chosen = { ...this.chosen, row: this.row, words: "your row", prediction: null };
    await this.ask();
  }

  /** Another row by the form or the slider: once there is an answer, the gateway answers each change. */
  change(row) {
    this.row = row;
    this.sent = row;
    this.show(`${this.chosen.words}, changed`);
    if (this.chosen.prediction) this.ask();
  }

  slide(at, value) {
    this.change(withCell(this.row, this.context.model.rows, at, value));
    this.fillForm();
  }

  restore() {
    this.sliders?.reset();
    this.nudge = { ...STILL };
    this.row = this.chosen.row;
    this.sent = this.row;
    this.fillForm();
    this.show(this.chosen.words);
    this.ask();
  }

  show(words) {
    this.words.textContent = `${words[0].toUpperCase()}${words.slice(1)}`;
    this.button.disabled = false;
    this.back.disabled = this.unchanged;
    this.json.show(this.row);
    if (this.picture) {
      this.picture.hidden = this.chosen.values === null;
      if (this.chosen.values) paint(this.picture, this.pixels, this.context.model.rows.shape);
    }
    this.requests.show(this.body);
    this.why.clear();
  }

  /** Write the row into the form; not while somebody types there. */
  fillForm() {
    if (this.row !== null && typeof this.row === "object") this.form?.show(this.row);
  }

  get unchanged() { return this.row === this.chosen.row && isStill(this.nudge); }

  get pixels() {
    const { values } = this.chosen;
    return isStill(this.nudge) ? values : nudged(values, this.context.model.rows.shape, this.nudge);
  }

  get body() {
    const parameters = this.withheld === null ? { detail: true } : {};
    return bodyOf(this.sent, { groups: this.groups, top: topOf(this.context.model.classes), parameters });
  }

  isChosen() {
    if (this.chosen === null) this.report(new Error("Choose a row first."));
    return this.chosen !== null;
  }

  explained() {
    if (!this.isChosen()) return null;
    return { row: this.sent, values: this.chosen.values && this.pixels };
  }

  async predict() {
    const { model, api } = this.context;
    const { chosen } = this;
    this.refused = false;
    try {
      if (this.isImage && chosen.values && !isStill(this.nudge)) this.sent = await rowOf(this.pixels, model.rows.shape);
      else this.sent = this.row;
      const { unchanged } = this;
      this.show(isStill(this.nudge) ? this.words.textContent : `${chosen.words}, changed`);
      const path = `/v1/models/${encodeURIComponent(model.name)}:predict`;
      const { predictions: [prediction] } = await api.post(path, this.body).catch((fault) => {
        if (fault.status !== 403 || this.withheld !== null) throw fault;
        this.withheld = fault.detail; // the key may perhaps predict, but not see p-values
        return api.post(path, this.body);
      });
      if (this.ended || chosen !== this.chosen) return;
      if (unchanged) chosen.prediction = prediction;
      this.say(null);
      const before = unchanged ? null : chosen.prediction;
      this.draw = () => this.answer.replaceChildren(answerOf(prediction, { before, model, thresholds: this.thresholds, withheld: this.withheld }));
      this.draw();
    } catch (fault) {
      if (this.ended) return;
      this.refused = fault.status === 422;
      this.report(fault);
    }
  }

  async readThresholds() {
    if (Object.keys(this.thresholds).length) return;
    this.thresholds = (await this.context.api.get("/console/data/now")).thresholds;
    if (!this.ended) this.draw();
  }

  /** Say what is wrong: the sentence of the server, and each fault with its place. */
  report(fault) {
    const faults = (fault.document?.errors ?? []).map(({ loc, msg }) => (loc.length ? `${loc.join(".")}: ${msg}` : msg));
    this.say([fault.detail ?? fault.message, ...faults].join(" · "));
  }

  say(sentence) {
    this.alert.textContent = sentence ?? "";
    this.alert.hidden = sentence === null;
    this.offer.hidden = true;
  }
}

function notesOn(model) {
  const remembering = model.guards.filter((guard) => guard.remembers).map((guard) => guard.name);
  const memory = remembering.length
    ? ` ${remembering.join(", ")} compares a client's rows with each other: many small changes of one row look like an attack.` : "";
  return `Rows that you try are requests like all others: the server counts them, and the monitors see them.${memory}`;
}
