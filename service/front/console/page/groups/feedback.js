// Says in words which outcomes a groups monitor lacks, and what can therefore not be known.

import { number, percent } from "../format.js";
import { figuresOf } from "./figures.js";

const MINIMUM = 30;
const NAMED = 6;

/** Count answered rows and known outcomes; null if the server hides a count that is too small. */
export function coverageOf(monitor) {
  const groups = figuresOf(monitor, "label_coverage").filter((one) => one.labels.group !== undefined);
  if (!groups.length) return null;
  const shown = groups.filter((one) => one.n !== null);
  const answered = shown.reduce((sum, one) => sum + one.n, 0);
  const known = shown.reduce((sum, one) => sum + Math.round((one.value ?? 0) * one.n), 0);
  return { groups, answered, known, hidden: groups.length - shown.length };
}

/** Give findings of {level, sentence}; `name` is the model's name, `stores` whether the server stores rows. */
export function missing(monitor, name, stores) {
  const found = coverageOf(monitor);
  const look = (sentence) => ({ level: "look", sentence });
  if (!stores) {
    return [look("The config turns the store off (store.enabled: false). So the server cannot join outcomes with rows, and no figure that needs outcomes will appear.")];
  }
  if (found === null || !found.answered) return [look("No row has been answered yet.")];
  if (!found.known) {
    return [look(`No outcome is known yet of ${number(found.answered)} answered rows. Send outcomes to POST /v1/models/${name}:feedback, or run guardhouse feedback --file labels.csv. Then accuracy and the rates that need outcomes appear.`)];
  }
  const findings = [dependent(monitor), ...byGroup(found), uneven(found.groups, "group"), uneven(ofLabels(monitor), "label"), outside(found)];
  return findings.filter(Boolean).map(look);
}

function ofLabels(monitor) {
  return figuresOf(monitor, "label_coverage").filter((one) => one.labels.group === undefined);
}

function dependent(monitor) {
  if (!figuresOf(monitor, "labels_depend_on_decision")[0]?.value) return null;
  const never = ofLabels(monitor).filter((one) => one.n >= MINIMUM && one.value === 0).map((one) => one.labels.label);
  return `Outcomes come for some predictions and never for others (${listed(never)}), as if only approved loans were ever repaid. Rates that need outcomes count only the rows whose outcome can come.`;
}

function byGroup({ groups }) {
  const rows = groups.filter((one) => one.n && one.value !== null && one.labels.group !== "unknown");
  const outcomes = (one) => Math.round(one.value * one.n);
  const none = rows.filter((one) => outcomes(one) === 0).map((one) => `${one.labels.group} (${number(one.n)} rows)`);
  const few = rows.filter((one) => outcomes(one) > 0 && outcomes(one) < MINIMUM).map((one) => `${one.labels.group} (${outcomes(one)})`);
  return [
    none.length ? `No outcome is known of these groups: ${listed(none)}.` : null,
    few.length ? `Fewer than ${MINIMUM} outcomes are known of these groups, so their intervals are wide: ${listed(few)}.` : null,
  ];
}

/** Say which group or label has outcomes less often than another, if the intervals lie apart. */
function uneven(figures, key) {
  const known = figures.filter((one) => one.n && one.interval && one.value !== null && one.labels[key] !== "unknown");
  if (known.length < 2) return null;
  const least = known.reduce((a, b) => (b.interval[1] < a.interval[1] ? b : a));
  const most = known.reduce((a, b) => (b.interval[0] > a.interval[0] ? b : a));
  if (least.interval[1] >= most.interval[0]) return null;
  const whose = key === "group" ? ["rows of", "rows of"] : ["rows predicted", "rows predicted"];
  return `Outcomes come less often for ${whose[0]} ${least.labels[key]} (${percent(least.value)}) than for ${whose[1]} ${most.labels[key]} (${percent(most.value)}). If the rows with an outcome differ from the rest, the rates are of differently chosen rows.`;
}

function outside({ groups, answered }) {
  const unknown = groups.find((one) => one.labels.group === "unknown");
  if (!unknown?.n) return null;
  return `${number(unknown.n)} answered rows (${percent(unknown.n / answered)}) come without a value of the attribute. These rows are in no compared group.`;
}

function listed(names) {
  const more = names.length - NAMED;
  return names.slice(0, NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
