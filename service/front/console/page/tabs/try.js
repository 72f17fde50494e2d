// The tab Try: choose a row, see what the gateway answers and why, nudge the row, copy the request.

import { hasKey } from "../api.js";
import { answerOf, topOf } from "../try/answers.js";
import { make } from "../dom.js";
import { button } from "../try/elements.js";
import { explanationPanel } from "../try/explanations.js";
import { rowForm } from "../try/forms.js";
import { layout } from "../try/layout.js";
import { newestOf } from "../try/newest.js";
import { cellSlider, imageSliders } from "../try/nudge_controls.js";
import { paint, pictureOf, readPicture, takesFiles, valuesOf } from "../try/pictures.js";
import { requestPanel } from "../try/request_panel.js";
import { bodyOf, fieldsOf, sizeOf, typicalRow } from "../try/rows.js";
import { fileDrop, groupFields, jsonField, knownRows } from "../try/sources.js";
import { TriedRow } from "../try/tried_row.js";

document.head.append(make("link", { rel: "stylesheet", href: new URL("../try/try.css", import.meta.url).href }));

const THRESHOLDS_SECONDS = 2;

export const tab = { name: "try", title: "Try", start: (place, context) => new Trial(place, context).stop };

/** One visit of the tab. */
class Trial {
  constructor(place, context) {
    const { rows } = context.model;
    this.context = context;
    this.tried = new TriedRow(rows);
    this.groups = {};
    this.thresholds = {}; // the server has them a moment after its start
    this.withheld = null; // why the key may not see p-values
    this.draw = () => {}; // shows the last answer again
    this.ended = false;
    this.ask = newestOf(() => this.predict());
    this.makeControls(context.model);
    this.makePanels(context.model);
    const sources = [
      knownRows(context.model, (row, words) => this.take(row, words)),
      takesFiles(rows) ? fileDrop(rows.shape, (file) => this.takeFile(file)) : null,
    ];
    place.append(...layout(context.model, sources, this));
    if (this.form) this.take(typicalRow(rows), "the typical row of the reference", { ask: false });
    const stopPolling = context.poll(THRESHOLDS_SECONDS, () => this.readThresholds());
    this.stop = () => {
      this.ended = true;
      stopPolling();
    };
  }

  makeControls(model) {
    const { rows } = model;
    const change = (at, value) => this.setCell(at, value);
    this.isImage = rows.kind === "image";
    this.form = fieldsOf(rows).length ? rowForm(rows, change) : null;
    this.groupFields = groupFields(model, (groups) => this.setGroups(groups));
    this.json = jsonField(rows, (row, groups) => this.takePasted(row, groups), (fault) => this.report(fault));
    this.sliders = this.isImage ? imageSliders((nudge) => this.setNudge(nudge)) : null;
    const slide = (at, value) => {
      change(at, value);
      this.fillForm();
    };
    if (this.form) this.sliders = cellSlider(model, () => this.tried.row, slide);
    const shown = { class: "try-picture", hidden: true, "aria-label": "the image that is sent" };
    this.picture = this.isImage ? pictureOf(new Float64Array(sizeOf(rows.shape)), rows.shape, shown) : null;
    this.button = button("try-predict", "Predict", () => this.begin(), "primary");
    this.back = button("try-back", "Back to the chosen row", () => this.restore());
    this.button.disabled = this.back.disabled = true; // until a row is chosen
  }

  makePanels(model) {
    this.alert = make("p", { class: "trouble try-alert", role: "alert", hidden: true });
    this.offer = make("p", { hidden: true });
    this.words = make("p", { class: "soft", id: "try-words" }, "No row is chosen yet.");
    this.answer = make("div", { id: "try-answer" }, make("p", { class: "soft" }, "The answer appears here."));
    this.why = explanationPanel(this.context, () => this.explained(), (fault) => this.report(fault));
    this.requests = requestPanel({ model, keyed: hasKey });
  }

  /** Choose a row; `values` are the pixels of an image if they are known. */
  async take(row, words, { values = null, ask = true } = {}) {
    this.say(null);
    try {
      if (this.isImage) values ??= await valuesOf(row, this.context.model.rows.shape);
    } catch {
      values = null; // no image of numbers: the server says what is wrong with the row
    }
    if (this.ended) return;
    this.tried.choose(row, words, values);
    this.showChosen();
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
    const fit = () => this.takeFile(file, { fit: true });
    this.offer.replaceChildren(button("try-fit", "Fit the picture to the model", fit));
    this.offer.hidden = false;
  }

  setGroups(groups) {
    this.groups = groups;
    this.askAgain();
  }

  setNudge(nudge) {
    if (!this.isChosen()) return;
    this.tried.nudge = nudge;
    this.ask();
  }

  setCell(at, value) {
    this.tried.setCell(at, value);
    this.show();
    this.askAgain();
  }

  /** Once there is an answer, the gateway answers each change. */
  askAgain() {
    if (this.tried.chosen?.prediction) this.ask();
  }

  begin() {
    this.tried.settle();
    this.ask();
  }

  restore() {
    this.tried.restore();
    this.showChosen();
    this.ask();
  }

  showChosen() {
    this.sliders?.reset();
    this.fillForm();
    this.show();
  }

  /** Write the row into the form; not while somebody types there. */
  fillForm() {
    if (this.tried.row !== null && typeof this.tried.row === "object") this.form?.show(this.tried.row);
  }

  show() {
    const { tried } = this;
    this.words.textContent = tried.words[0].toUpperCase() + tried.words.slice(1);
    this.button.disabled = false;
    this.back.disabled = tried.unchanged;
    this.json.show(tried.row);
    if (this.picture) {
      this.picture.hidden = tried.chosen.values === null;
      if (tried.chosen.values) paint(this.picture, tried.pixels, tried.rows.shape);
    }
    this.requests.show(this.body);
    this.why.clear();
  }

  get body() {
    const parameters = this.withheld === null ? { detail: true } : {};
    return bodyOf(this.tried.sent, { groups: this.groups, top: topOf(this.context.model.classes), parameters });
  }

  isChosen() {
    if (this.tried.chosen === null) this.report(new Error("Choose a row first."));
    return this.tried.chosen !== null;
  }

  explained() {
    return this.isChosen() ? { row: this.tried.sent, values: this.tried.pixels } : null;
  }

  async predict() {
    const { chosen, unchanged } = this.tried;
    this.refused = false;
    try {
      await this.tried.write();
      this.show();
      const prediction = await this.prediction();
      if (this.ended || chosen !== this.tried.chosen) return;
      if (unchanged) chosen.prediction = prediction;
      this.say(null);
      const before = unchanged ? null : chosen.prediction;
      const { model } = this.context;
      this.draw = () => {
        const { thresholds, withheld } = this;
        this.answer.replaceChildren(answerOf(prediction, { before, model, thresholds, withheld }));
      };
      this.draw();
    } catch (fault) {
      if (this.ended) return;
      this.refused = fault.status === 422;
      this.report(fault);
    }
  }

  async prediction() {
    const { model, api } = this.context;
    const path = `/v1/models/${encodeURIComponent(model.name)}:predict`;
    const post = async () => (await api.post(path, this.body)).predictions[0];
    try {
      return await post();
    } catch (fault) {
      if (fault.status !== 403 || this.withheld !== null) throw fault;
      this.withheld = fault.detail; // perhaps the key may predict, but not see p-values
      this.requests.show(this.body);
      return post();
    }
  }

  async readThresholds() {
    if (Object.keys(this.thresholds).length) return;
    this.thresholds = (await this.context.api.get("/console/data/now")).thresholds;
    if (!this.ended) this.draw();
  }

  /** Say what is wrong: the sentence of the server, and each fault with its place. */
  report(fault) {
    const placed = ({ loc, msg }) => (loc.length ? `${loc.join(".")}: ${msg}` : msg);
    this.say([fault.detail ?? fault.message, ...(fault.document?.errors ?? []).map(placed)].join(" · "));
  }

  say(sentence) {
    this.alert.textContent = sentence ?? "";
    this.alert.hidden = sentence === null;
    this.offer.hidden = true;
  }
}
