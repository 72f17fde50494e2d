// Reads the figures of a groups monitor from the monitors' report, and says in words what each means.

import { number, percent } from "../format.js";

const OUTSIDE = new Set(["other", "unknown"]);
export const SHARES = [0, 1];

/** The figures by group, in the order of the page; `note` explains one for the chosen label. */
export const BY_GROUP = [
  {
    name: "selection_rate",
    title: "Selection rate",
    note: (label) => `Of the answered rows, the share that the model gave the label ${label}.`,
  },
  {
    name: "accuracy",
    title: "Accuracy",
    note: () => "Of the answered rows whose outcome is known, the share that the model answered right.",
  },
  {
    name: "true_positive_rate",
    title: "True positive rate",
    note: (label) => `Of the rows whose outcome is ${label}, the share that the model gave this label.`,
  },
  {
    name: "false_positive_rate",
    title: "False positive rate",
    note: (label) => `Of the rows whose outcome is another label, the share that the model gave the label ${label}.`,
  },
  {
    name: "positive_predictive_value",
    title: "Positive predictive value",
    note: (label) => `Of the rows that the model gave the label ${label}, the share whose outcome is this label.`,
  },
  {
    name: "calibration_gap",
    title: "Calibration gap",
    note: () => "Mean confidence less accuracy. Above 0 the model is surer than it is right.",
    limits: [-1, 1],
  },
  {
    name: "mean_error",
    title: "Mean error",
    note: () => "Mean of predicted less actual value, in the unit of the target.",
    limits: [-Infinity, Infinity],
    format: number,
  },
  {
    name: "action_rate",
    title: "Rows that guards touched",
    note: () => "Of all rows, the share that a guard flagged, abstained from or rejected.",
    only: { action: "any" },
  },
];

/** The differences, and what each compares. */
export const COMPARED = {
  demographic_parity_difference: "selection rate",
  equal_opportunity_difference: "true positive rate",
  equalized_odds_difference: "true or false positive rate",
  accuracy_difference: "accuracy",
  mean_error_difference: "mean error",
};

/** Choose how a difference of this name is written. */
export function formatOf(name) {
  return name.endsWith("mean_error_difference") ? number : percent;
}

/** Give the figures of a name whose labels agree with `wanted`. */
export function figuresOf(monitor, name, wanted = {}) {
  const asked = Object.entries(wanted);
  return monitor.statistics.filter((one) => one.name === name && asked.every(([key, value]) => one.labels[key] === value));
}

/** Give the labels for which the monitor reports rates, in the monitor's order. */
export function labelsOf(monitor) {
  const found = figuresOf(monitor, "selection_rate").map((one) => one.labels.label);
  return [...new Set(found.filter((label) => label !== undefined))];
}

/** Give the rows of a table of one figure: the declared groups, and `other` and `unknown` if they have rows. */
export function groupRows(monitor, { name, only = {} }, label) {
  return figuresOf(monitor, name, only)
    .filter((one) => one.labels.group !== undefined && (one.labels.label ?? label) === label)
    .filter((one) => one.n !== 0 || !OUTSIDE.has(one.labels.group))
    .map((one) => ({ ...one, name: one.labels.group, tone: OUTSIDE.has(one.labels.group) ? "aside" : "" }));
}

/** Give the tolerance that the config declares; null if there is none. */
export function toleranceOf(monitor) {
  return figuresOf(monitor, "tolerance")[0]?.value ?? null;
}

/** Give the rows of the table of differences, for all rows and for recent rows. */
export function differenceRows(monitor, label) {
  const tolerance = toleranceOf(monitor);
  const rows = [];
  for (const [name, what] of Object.entries(COMPARED)) {
    for (const [prefix, time] of [["", ""], ["recent_", ", recent rows"]]) {
      for (const one of figuresOf(monitor, prefix + name)) {
        if ((one.labels.label ?? label) !== label) continue;
        rows.push({ ...one, ...verdict(one, tolerance), name: `${what}${time}`, statistic: prefix + name });
      }
    }
  }
  return rows;
}

/** Say whether an interval proves that a difference is beyond the tolerance, or within it. */
function verdict({ value, interval }, tolerance) {
  if (value === null && !interval) return { says: "too few rows", tone: "" };
  if (!interval) return { says: "too few rows for an interval", tone: "" };
  if (tolerance === null) {
    return interval[0] > 0 ? { says: "more than chance explains", tone: "look" } : { says: "chance may explain it", tone: "" };
  }
  if (interval[0] > tolerance) return { says: "beyond the tolerance", tone: "act" };
  if (interval[1] <= tolerance) return { says: "within the tolerance", tone: "good" };
  return { says: "not decided yet", tone: "" };
}
