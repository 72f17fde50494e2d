// What the gateway answered about one row: label, probabilities, prediction set, action, and each guard.

import { number, percent } from "../format.js";
import { make } from "../dom.js";
import { ladder, scaleOf } from "./ladder.js";

const SHOWN = 10;
const LEAST = 0.0001;
const ACTIONS = {
  allow: "The gateway answers.",
  flag: "The gateway answers, and marks the answer as doubtful.",
  abstain: "The gateway keeps the answer back: a person should decide.",
  reject: "The gateway refuses the row.",
};

/** How many labels to ask for: null if the model has few. */
export const topOf = (classes) => (classes.length > 2 * SHOWN ? SHOWN : null);

/**
 * Show an answer.
 *
 * `prediction` is a row of a v1 answer, `before` the answer before the nudge or null, `model` what the server says of
 * itself, `thresholds` the p-value of each guard at and under which the guard flags, `withheld` why there are no p-values or null.
 */
export function answerOf(prediction, { before, model, thresholds, withheld }) {
  return make("div", { class: "try-answer" },
    headline(prediction, model),
    probabilities(prediction, model),
    withheld === null ? guards(prediction, before, model, thresholds)
      : make("p", { class: "soft" }, `The server shows no p-values: ${withheld}.`),
  );
}

function headline(prediction, model) {
  const { action } = prediction;
  const lines = [make("p", {}, ACTIONS[action] ?? action, ...reasonsOf(prediction))];
  if (model.shadow) lines.push(make("p", { class: "soft" }, "Shadow mode: guards judge rows and change no answer."));
  const set = setOf(prediction, model);
  if (set) lines.push(make("p", {}, set));
  for (const warning of prediction.warnings ?? []) lines.push(make("p", { class: "look" }, `Warning: ${warning}.`));
  return make("div", { class: "try-headline", role: "status" },
    make("p", { class: "try-label" },
      make("strong", {}, labelOf(prediction)),
      make("span", { class: `try-action ${action}` }, action)),
    lines);
}

function labelOf(prediction) {
  if ("value" in prediction) return number(prediction.value);
  return prediction.label ?? "no answer";
}

function reasonsOf({ reasons, action }) {
  if (!reasons?.length) return [];
  return [action === "allow" ? ` Flagged by ${reasons.join(", ")}.` : ` Reason: ${reasons.join(", ")}.`];
}

function setOf(prediction, model) {
  const share = model.coverage ? `, which holds the truth for ${percent(model.coverage)} of ordinary rows` : "";
  if (prediction.interval) return `Interval: ${prediction.interval.map(number).join(" to ")}${share}.`;
  const set = prediction.prediction_set;
  if (!set) return null;
  if (!set.length) return "The prediction set is empty: no label is likely enough.";
  const size = prediction.prediction_set_size ?? set.length;
  const shown = set.slice(0, 2 * SHOWN).join(", ");
  const more = size > 2 * SHOWN ? `, and ${size - 2 * SHOWN} more` : "";
  return `Prediction set${share}: ${shown}${more}.`;
}

function probabilities(prediction, model) {
  if (!prediction.probabilities) return null;
  const all = Object.entries(prediction.probabilities).sort(([, one], [, other]) => other - one);
  const shown = all.slice(0, SHOWN);
  const many = model.classes.length > shown.length ? ` (the ${shown.length} most probable of ${model.classes.length})` : "";
  const member = new Set(prediction.prediction_set ?? []);
  return make("section", {},
    make("h3", {}, `Probabilities${many}`),
    make("table", { class: "try-bars" },
      make("tbody", {}, shown.map(([label, share]) => make("tr", {},
        make("th", { scope: "row", title: label }, label),
        make("td", { class: "try-bar" }, bar(share, member.has(label) ? "member" : "")),
        make("td", {}, shareOf(share)))))),
    member.size ? make("p", { class: "soft" }, "Full bars are in the prediction set.") : null);
}

/** A share as text; a small share is never shown as none. */
const shareOf = (share) => (share > 0 && share < LEAST ? `< ${percent(LEAST)}` : percent(share));

/** A bar from the left, over a share of the width. */
function bar(share, kind) {
  const made = make("span", { class: `bar ${kind}`, "aria-hidden": "true" });
  made.style.inlineSize = `${100 * share}%`;
  return made;
}

function guards(prediction, before, model, thresholds) {
  const found = Object.entries(prediction.guards ?? {});
  const hidden = model.guards.filter((guard) => !guard.visible).length;
  const pValues = found.flatMap(([name, finding]) => [finding.p_value, before?.guards?.[name]?.p_value]);
  const scale = scaleOf([...pValues, ...Object.values(thresholds)]);
  return make("section", {},
    make("h3", {}, "Guards"),
    found.length ? null : make("p", { class: "soft" }, "The model has no guard whose findings answers may show."),
    found.map(([name, finding]) => (
      guard(name, finding, { before: before?.guards?.[name]?.p_value, model, threshold: thresholds[name], scale })
    )),
    found.length ? make("p", { class: "soft" },
      "A p-value is the share of ordinary rows that are at least as strange.",
      Object.keys(thresholds).length ? " The shaded part is where the guard flags." : " The server does not say yet where its guards flag.",
      before ? " A ring is the p-value before the change." : "") : null,
    hidden ? make("p", { class: "soft" }, `Answers do not show ${hidden} more ${hidden === 1 ? "guard" : "guards"}.`) : null);
}

function guard(name, finding, { before, model, threshold, scale }) {
  const about = model.guards.find((each) => each.name === name);
  const p = finding.p_value;
  const cause = (said) => make("li", {}, model.rows.columns.some(({ name: column }) => column === said) ? `column ${said}` : said);
  return make("div", { class: finding.flagged ? "try-guard flags" : "try-guard" },
    make("p", {},
      make("strong", {}, name), about ? ` (${about.kind}) ` : " ",
      make("span", { class: finding.flagged ? "act" : "good" }, finding.flagged ? `flags: ${about?.action ?? "flag"}` : "does not flag")),
    p === null ? make("p", { class: "soft" }, absence(finding))
      : [make("p", { class: "try-p" }, sentenceOf(p, threshold)), ladder(name, { p, before, threshold, scale })],
    finding.causes?.length ? make("ul", { class: "try-causes" }, finding.causes.map(cause)) : null);
}

function absence(finding) {
  return finding.skipped ? "Left out, because the server is under load." : "No p-value: the guard could not judge the row.";
}

function sentenceOf(p, threshold) {
  const limit = threshold === undefined ? "" : threshold > 0 ? `; flags at ${number(threshold)} or less` : "; never flags";
  return `p-value ${number(p)}${limit}`;
}
