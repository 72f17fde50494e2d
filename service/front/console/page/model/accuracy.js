// Accuracy in training, on held-out rows and in service, and whether the promises of coverage and false alarms hold.

import { make } from "../dom.js";
import { EstimateTable, withInterval } from "../estimates.js";
import { number, percent } from "../format.js";

const SHARES = [0, 1];
const KINDS = {
  train_accuracy: "training rows",
  reference_accuracy: "held-out rows",
  expected_accuracy: "live, expected",
  realised_accuracy: "live, realised",
  recent_accuracy: "live, realised on recent rows",
};

export class AccuracyView {
  constructor(model) {
    this.model = model;
    this.lead = make("p", { class: "lead" });
    this.sentences = make("div");
    this.accuracy = new EstimateTable({
      title: "Accuracy",
      note: "Expected: how often the model should be right by its calibrated confidence, before outcomes come. Realised: how often it was right, by the outcomes that came. The dashed line is the accuracy on held-out rows.",
      format: percent,
      limits: SHARES,
      first: "rows",
    });
    this.error = new EstimateTable({ title: "Mean error", note: "Predicted less actual value, in the unit of the target.", first: "rows" });
    this.coverage = new EstimateTable({
      title: "Coverage",
      note: `How often a prediction set or interval held the outcome. The dashed line is the promise, ${percent(model.coverage)}.`,
      format: percent,
      limits: SHARES,
      first: "rows",
    });
    this.alarms = new EstimateTable({
      title: "Rows that guards flagged",
      note: `The dashed line is the false-alarm budget, ${percent(model.budget)} of clean rows for all guards that share the budget. Live rows need not be clean: more flagged rows mean strange rows or a broken promise.`,
      format: percent,
      limits: SHARES,
      first: "rows",
    });
    this.element = make(
      "section",
      { "aria-label": "Accuracy and promises" },
      make("h3", {}, "Accuracy and promises"),
      this.lead,
      this.sentences,
      make("div", { class: "pairs" }, ...[this.accuracy, this.error, this.coverage, this.alarms].map((table) => table.element)),
    );
  }

  /** Show the entry of the accuracy monitor. */
  show(monitor) {
    const figures = monitor.statistics.filter((one) => one.labels.group === undefined);
    const find = (name) => figures.find((one) => one.name === name);
    const rows = Object.entries(KINDS).map(([name, text]) => ({ ...find(name), name: text })).filter((row) => row.n !== undefined);
    this.accuracy.show(rows, { mark: find("reference_accuracy")?.value ?? null });
    const error = find("mean_error");
    this.error.show(error ? [{ ...error, name: "live" }] : [], { mark: 0 });
    this.coverage.show(promised([{ ...find("coverage"), name: "live, with an outcome" }], this.model.coverage, "least"), { mark: this.model.coverage });
    const flagged = [{ ...find("flagged_share"), name: "live" }];
    this.alarms.show(promised(flagged, this.model.budget, "most"), { mark: this.model.budget });
    this.lead.textContent = monitor.error ?? this.verdict(find);
    this.sentences.replaceChildren(...this.remarks(find).map((text) => make("p", {}, text)));
  }

  verdict(find) {
    const [held, live, expected] = ["reference_accuracy", "realised_accuracy", "expected_accuracy"].map(find);
    if (!held) {
      const error = find("mean_error");
      return error?.n ? `Mean error of live rows: ${withInterval(error, number)}.` : "No outcome is known yet, so the live error is unknown.";
    }
    const before = held.n ? `The model is right on ${percent(held.value)} of held-out rows` : "The held-out rows have no labels";
    if (live?.n) return `${before}, and on ${withInterval(live, percent)} of live rows with an outcome.`;
    if (expected?.n) return `${before}. No outcome is known yet; by its confidence the model should be right on ${withInterval(expected, percent)} of live rows.`;
    return `${before}. No row has been answered yet.`;
  }

  remarks(find) {
    const said = [];
    const gap = find("generalisation_gap");
    if (gap?.value !== null && gap?.interval) {
      const proven = gap.interval[0] > 0 ? "this is the part that training learnt by heart" : "chance may explain it";
      said.push(`Training less held-out accuracy: ${withInterval(gap, points)} points; ${proven}.`);
    }
    const drop = find("accuracy_drop");
    if (drop?.value !== null && drop?.interval) {
      const proven = drop.interval[0] > 0 ? "the model has become worse than it was" : drop.interval[1] < 0 ? "the model is better on live rows" : "chance may explain it";
      said.push(`Held-out less live accuracy: ${withInterval(drop, points)} points; ${proven}.`);
    }
    if (find("estimate_valid")?.value === 0) {
      said.push("Guards flag more rows than their budget, so the expected accuracy cannot be trusted: the estimate is right for rows like the held-out rows.");
    }
    if (find("train_accuracy")?.n === 0) said.push("The training rows have no labels, or fit did not measure them, so their accuracy is unknown.");
    return said;
  }
}

function points(share) {
  return (100 * share).toFixed(1).replace("-", "−");
}

/** Say of each row whether its interval keeps a promise of at `bound` (least or most) a share. */
function promised(rows, promise, bound) {
  return rows.filter((row) => row.n !== undefined).map((row) => {
    if (!row.interval) return { ...row, says: "too few rows", tone: "" };
    const [low, high] = row.interval;
    const broken = bound === "least" ? high < promise : low > promise;
    const kept = bound === "least" ? low >= promise : high <= promise;
    if (broken) return { ...row, says: bound === "least" ? "less than promised" : "more than the budget", tone: "look" };
    return kept ? { ...row, says: "as promised", tone: "good" } : { ...row, says: "agrees with the promise", tone: "" };
  });
}
