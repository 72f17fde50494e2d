// One groups monitor on the page: a verdict in words, rates by group, differences, feedback, and accuracy by group.

import { make } from "../dom.js";
import { EstimateTable, withInterval } from "../estimates.js";
import { number, percent, time } from "../format.js";
import { BY_GROUP, SHARES, differenceRows, figuresOf, formatOf, groupRows, labelsOf, toleranceOf } from "./figures.js";
import { coverageOf, missing } from "./feedback.js";

const LEVELS = { act: "needs action", look: "needs a look", good: "fine" };

export class GroupsView {
  constructor(name, settings, model) {
    Object.assign(this, { name, settings, model, label: undefined, tables: new Map() });
    this.state = make("span", { class: "state badge" });
    this.lead = make("p", { class: "lead" });
    this.source = make("p", { class: "soft" }, origin(settings));
    this.chooser = make("select");
    this.chosen = make("label", { class: "choice" }, "Rates of the label ", this.chooser);
    this.rates = make("div", { class: "pairs" });
    this.differences = make("div");
    this.ratio = make("p", { class: "soft" });
    this.findings = make("ul", { class: "findings" });
    this.coverage = make("div", { class: "pairs" });
    this.element = make(
      "section",
      { class: "groups", "aria-label": `Groups by ${settings.attribute ?? name}` },
      make("h3", {}, `Groups by ${settings.attribute ?? name} `, this.state),
      this.lead,
      this.source,
      this.chosen,
      this.differences,
      this.ratio,
      this.rates,
      make("h4", {}, "Feedback"),
      this.findings,
      this.coverage,
    );
    this.chooser.addEventListener("change", () => {
      this.label = this.chooser.value;
      this.redraw();
    });
  }

  /** Show a monitor's entry in the report; `monitors` are all entries, among them the accuracy monitor's. */
  show(monitor, monitors) {
    this.monitor = monitor;
    this.accuracy = Object.values(monitors).find((one) => one.kind === "accuracy");
    const labels = labelsOf(monitor);
    if (!labels.includes(this.label)) this.label = labels[0];
    if (this.chooser.options.length !== labels.length) {
      this.chooser.replaceChildren(...labels.map((label) => make("option", { value: label }, label)));
      this.chooser.value = this.label;
    }
    this.chosen.hidden = labels.length < 2;
    this.redraw();
  }

  redraw() {
    const { monitor } = this;
    this.state.textContent = monitor.state.replace("_", " ");
    this.state.className = `state badge ${{ alarm: "act", warning: "look", ok: "good" }[monitor.state] ?? ""}`;
    if (monitor.since) this.state.title = `since ${monitor.since}`;
    this.lead.textContent = monitor.error ?? this.verdict();
    this.drawDifferences();
    for (const figure of BY_GROUP) {
      const table = this.table(figure.name, this.rates, () => ({ title: figure.title, format: percent, limits: SHARES, ...figure, note: "" }));
      table.note.textContent = figure.note(this.label);
      table.show(groupRows(monitor, figure, this.label), figure.name === "calibration_gap" || figure.name === "mean_error" ? { mark: 0 } : {});
    }
    this.drawFeedback();
  }

  /** Say in one sentence by how much the groups differ, and what that means. */
  verdict() {
    const since = this.monitor.since ? ` since ${time(this.monitor.since)}` : "";
    if (this.monitor.state === "insufficient_data") {
      return `Too few rows to compare: two groups need at least ${number(this.settings.minimum ?? 30)} answered rows each.`;
    }
    const tolerance = toleranceOf(this.monitor);
    const rows = differenceRows(this.monitor, this.label);
    const worst = (tone) => rows.filter((row) => row.tone === tone).map((row) => `${row.name} ${withInterval(row, formatOf(row.statistic))}`);
    const [beyond, proven] = [worst("act"), worst("look")];
    if (beyond.length) return `The groups differ by more than the tolerance of ${formatOf(rows[0].statistic)(tolerance)}: ${beyond.join("; ")}.`;
    if (proven.length) return `The groups differ by more than chance explains: ${proven.join("; ")}. The config declares no tolerance, so no difference raises an alarm.`;
    if (this.monitor.state === "alarm") return `The monitor is in alarm${since}, until every difference is back within the tolerance.`;
    if (tolerance === null) return "Chance may explain every difference. The config declares no tolerance, so no difference raises an alarm.";
    return rows.every((row) => row.tone === "good")
      ? "Every difference lies within the tolerance."
      : "No difference is proven to be beyond the tolerance, and the rows do not decide each of them yet.";
  }

  drawDifferences() {
    const tolerance = toleranceOf(this.monitor);
    const rows = differenceRows(this.monitor, this.label);
    const format = formatOf(rows[0]?.statistic ?? "");
    const table = this.table("differences", this.differences, () => ({
      title: "Largest differences between groups",
      note: "",
      format,
      limits: format === percent ? SHARES : [0, Infinity],
      first: "difference in",
    }));
    table.note.textContent = tolerance === null
      ? "The largest difference between any two declared groups. The config declares no tolerance."
      : `The largest difference between any two declared groups. The shaded band is the declared tolerance, 0 to ${format(tolerance)}.`;
    table.show(rows, { band: tolerance === null ? null : [0, tolerance] });
    const ratio = figuresOf(this.monitor, "demographic_parity_ratio").find((one) => one.labels.label === this.label);
    this.ratio.hidden = !ratio || ratio.value === null;
    if (!this.ratio.hidden) this.ratio.textContent = `Smallest ratio of two groups' selection rates: ${withInterval(ratio, (x) => x.toFixed(2))}.`;
  }

  drawFeedback() {
    const findings = missing(this.monitor, this.model.name, this.model.stores_rows);
    const found = coverageOf(this.monitor);
    if (found?.known) {
      const share = percent(found.known / found.answered);
      findings.push({ level: findings.length ? "" : "good", sentence: `${number(found.known)} of ${number(found.answered)} answered rows (${share}) have an outcome.` });
    }
    this.findings.replaceChildren(...findings.map(item));
    const label = this.table("label_coverage", this.coverage, () => ({
      title: "Label coverage",
      note: "Of the answered rows, the share whose outcome is known.",
      format: percent,
      limits: SHARES,
    }));
    label.show(groupRows(this.monitor, { name: "label_coverage" }, undefined));
    const bounds = this.table("accuracy_bounds", this.coverage, () => ({
      title: "Accuracy, whatever the unknown outcomes are",
      note: "The bar reaches from the accuracy if every unknown outcome contradicts the answer to the accuracy if every one agrees.",
      format: percent,
      limits: SHARES,
    }));
    bounds.show(groupRows(this.monitor, { name: "accuracy_bounds" }, this.label).filter((row) => row.value !== null));
    const expected = this.table("expected_accuracy", this.coverage, () => ({
      title: "Expected accuracy",
      note: "How often the model should be right by its confidence, before outcomes come.",
      format: percent,
      limits: SHARES,
    }));
    const attribute = this.settings.attribute ?? this.name;
    expected.show(this.accuracy ? groupRows(this.accuracy, { name: "expected_accuracy", only: { attribute } }, undefined) : []);
  }

  /** Give the table of a name; the first time, make the table in `parent`. */
  table(name, parent, options) {
    if (!this.tables.has(name)) {
      this.tables.set(name, new EstimateTable(options()));
      parent.append(this.tables.get(name).element);
    }
    return this.tables.get(name);
  }
}

function item({ level, sentence }) {
  return make("li", {}, level ? make("span", { class: `level ${level}` }, LEVELS[level]) : null, sentence);
}

/** Say where the groups come from. */
function origin({ source, intersect, levels, alarm }) {
  const parts = [];
  if (source?.column) parts.push(`The groups come from the column ${source.column}${source.edges ? `, in bands with the edges ${source.edges.join(", ")}` : ""}.`);
  if (source?.request) parts.push(`The groups come with each request, under groups.${source.request}.`);
  if (intersect?.length) parts.push(`The groups are combinations of ${intersect.join(" and ")}.`);
  if (levels?.length) parts.push(`Declared: ${levels.join(", ")}. Any other value counts as other, and a missing value as unknown.`);
  if (alarm?.length) parts.push(`These may raise the alarm: ${alarm.map((name) => name.replaceAll("_", " ")).join(", ")}.`);
  return parts.join(" ");
}
