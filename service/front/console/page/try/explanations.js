// Why did the model say that? Asks for an explanation, and shows it as a heat map or as bars.

import { number } from "../format.js";
import { make } from "../dom.js";
import { choice, labelled } from "./elements.js";
import { paintHeat, pictureOf } from "./pictures.js";
import { bodyOf, flatten, nameOf, shortened, sizeOf } from "./rows.js";

const SHOWN = 15;
const MOST_TARGETS = 100;
const NEIGHBOURS = "neighbours";

/**
 * The controls and the place of an explanation. `asked()` gives {row, values} or null, and `report(fault)` hears of a
 * fault. Returns {element, clear()}.
 */
export function explanationPanel(context, asked, report) {
  const { model, api } = context;
  const methods = model.explain.methods.filter(({ method }) => method !== NEIGHBOURS || model.neighbours);
  const none = make("p", { class: "soft" }, "The config allows no explanation of such rows.");
  if (!methods.length) return { element: none, clear: () => {} };
  const method = choice(methods.map((each) => [each.method, each.method]), { id: "try-method" });
  const standard = methods.find((each) => each.default);
  if (standard) method.value = standard.method;
  const target = choice(targetsOf(model), { id: "try-target" });
  const button = make("button", { type: "button", id: "try-explain", onclick: explain }, "Explain");
  const shown = make("div", { id: "try-explanation", "aria-live": "polite" });

  async function explain() {
    const question = asked();
    if (!question) return;
    button.disabled = true;
    shown.replaceChildren(make("p", { class: "soft" }, "Explaining: the first explanation after a start takes some seconds."));
    try {
      const parameters = { method: method.value, ...(target.value ? { target: target.value } : {}) };
      const body = bodyOf(question.row, { parameters });
      const { explanations: [found] } = await api.post(`/v1/models/${encodeURIComponent(model.name)}:explain`, body);
      shown.replaceChildren(...explanationOf(found, question, context));
    } catch (fault) {
      shown.replaceChildren();
      report(fault);
    } finally {
      button.disabled = false;
    }
  }

  const controls = make("div", { class: "try-row" }, labelled("Method", method), labelled("What is explained", target), button);
  return { element: make("div", {}, controls, shown), clear: () => shown.replaceChildren() };
}

function targetsOf(model) {
  const labels = model.classes.length > MOST_TARGETS ? [] : model.classes;
  const guards = model.guards.filter((guard) => guard.visible && !guard.remembers);
  return [
    ["", model.classes.length ? "the predicted label" : "the value"],
    ...labels.map((label) => [label, `label ${label}`]),
    ...guards.map(({ name }) => [`guard:${name}`, `score of guard ${name}`]),
  ];
}

function explanationOf(found, { values }, { model }) {
  const parts = [make("p", {}, sentenceOf(found))];
  if (found.causes.length) parts.push(make("ul", {}, found.causes.map((cause) => make("li", {}, cause))));
  if (found.attributions !== null) {
    const { kind, shape } = model.rows;
    if (kind === "tabular") parts.push(contributionBars(Object.entries(found.attributions)));
    else if (kind === "image") parts.push(heatMap(flatten(found.attributions), values, shape));
    else parts.push(contributionBars(flatten(found.attributions).map((value, at) => [nameOf(at, shape), value])));
  }
  if (found.neighbours.length) parts.push(nearest(found.neighbours, model));
  return parts;
}

function sentenceOf(found) {
  const subject = found.target?.startsWith("guard:") ? `the score of guard ${found.target.slice(6)} (more is stranger)`
    : found.label === null ? "the value" : `the logit of label ${found.label}`;
  if (found.method === "causes") return `The guard names its causes itself. Its score is ${number(found.output_value)}.`;
  if (found.attributions === null) return "The rows of the reference that look to the model most like this row:";
  const change = found.baseline_value === null || found.output_value === null ? ""
    : ` The baseline has ${number(found.baseline_value)}, and this row ${number(found.output_value)}.`;
  return `Contributions to ${subject}, by ${found.method}.${change}`;
}

function heatMap(attributions, values, shape) {
  const [channels, height, width] = shape;
  const plane = height * width;
  const sums = Array.from({ length: plane }, (_, at) => {
    let sum = 0;
    for (let channel = 0; channel < channels; channel += 1) sum += attributions[channel * plane + at];
    return sum;
  });
  const best = sums.reduce((most, value, at) => (value > sums[most] ? at : most), 0);
  const label = `Heat map of ${width} × ${height} pixels; pixel (${(best % width) + 1}, ${Math.floor(best / width) + 1}) raises most.`;
  const canvas = pictureOf(values, shape, { class: "try-picture", "aria-label": label });
  const style = getComputedStyle(document.documentElement);
  paintHeat(canvas, sums, [height, width], ["--try-supports", "--try-opposes"].map((name) => style.getPropertyValue(name)));
  return make("figure", { class: "try-heat" }, canvas, legend());
}

function legend() {
  return make("figcaption", {},
    make("span", { class: "try-key supports", "aria-hidden": "true" }), " raises ",
    make("span", { class: "try-key opposes", "aria-hidden": "true" }), " lowers");
}

/** Bars to the right for contributions that raise, to the left for those that lower; the largest first. */
function contributionBars(contributions) {
  const order = contributions.toSorted(([, one], [, other]) => Math.abs(other) - Math.abs(one));
  const strongest = Math.abs(order[0]?.[1] ?? 0) || 1;
  const line = ([name, value]) => {
    const bar = make("span", { class: value < 0 ? "bar opposes" : "bar supports", "aria-hidden": "true" });
    bar.style.inlineSize = `${(50 * Math.abs(value)) / strongest}%`;
    bar.style.marginInlineStart = `${value < 0 ? 50 - (50 * Math.abs(value)) / strongest : 50}%`;
    return make("tr", {},
      make("th", { scope: "row", title: name }, name), make("td", { class: "try-bar" }, bar), make("td", {}, number(value)));
  };
  const table = (lines) => make("table", { class: "try-bars" }, make("tbody", {}, lines.map(line)));
  const rest = order.slice(SHOWN);
  return make("div", {},
    table(order.slice(0, SHOWN)), make("p", { class: "soft" }, ...legend().childNodes),
    rest.length ? make("details", {}, make("summary", {}, `${rest.length} smaller contributions`), table(rest)) : null);
}

function nearest(neighbours, model) {
  const { kind, shape } = model.rows;
  return make("section", {},
    make("h3", {}, "Nearest rows of the reference"),
    make("ul", { class: "try-neighbours" }, neighbours.map(({ index, label, distance, row }) => make("li", {},
      kind === "image" && row ? pictureOf(flatten(row), shape, { class: "try-thumb", "aria-label": `reference row ${index}` }) : null,
      make("span", {}, `row ${index}: ${label === null ? "no label" : typeof label === "number" ? number(label) : label}`),
      make("span", { class: "soft" }, `distance ${number(distance)}`),
      row && kind === "tabular" ? make("span", { class: "soft" }, cellsOf(row)) : null,
      row && kind === "tensor" && sizeOf(shape) <= SHOWN ? make("span", { class: "soft" }, flatten(row).map(number).join(", ")) : null))));
}

const cellsOf = (row) => Object.entries(row).slice(0, SHOWN).map(([name, value]) => `${name} ${shortened(value) ?? "missing"}`).join(", ");
