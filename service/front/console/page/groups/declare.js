// Says how a config declares groups, with the model's own columns and labels.

import { copyButton, make } from "../dom.js";

/** Make the page of a model without a groups monitor. */
export function howToDeclare(model) {
  const text = example(model);
  return make(
    "section",
    {},
    make("h3", {}, "This model has no groups"),
    make("p", {}, "A groups monitor counts answers and outcomes by group, and compares the groups. The config declares the monitor, for example:"),
    make("pre", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Example of a groups monitor" }, make("code", {}, text)),
    copyButton("the example", () => text),
    make("p", {}, "Then fit the bundle again (guardhouse fit) and start the server with the new bundle. The groups of a row come from a column, from a column in bands (edges), or with the request (source: {request: NAME})."),
    make("p", { class: "soft" }, "A monitor never changes an answer. docs/monitors.md describes every key."),
  );
}

function example(model) {
  const columns = model.rows?.columns ?? [];
  const named = columns.find((column) => column.kind === "categorical");
  const numeric = columns.find((column) => column.kind === "numeric");
  const positive = model.classes.length === 2 ? `, positive: ${JSON.stringify(model.classes[1])}` : "";
  const tolerance = model.classes.length ? ", tolerance: 0.1" : "";
  const lines = ["monitors:"];
  const line = (name, source, more) => lines.push(`  - {name: ${name}, kind: groups, attribute: ${name}, source: {${source}}${more}${positive}${tolerance}}`);
  if (named) line(plain(named.name), `column: ${JSON.stringify(named.name)}`, "");
  if (numeric) line(plain(numeric.name), `column: ${JSON.stringify(numeric.name)}, edges: [${edges(numeric)}]`, "");
  if (lines.length === 1) line("sex", "request: sex", ", levels: [Female, Male]");
  return lines.join("\n");
}

function plain(name) {
  const kept = name.replace(/[^A-Za-z0-9_-]/g, "_");
  return /^[A-Za-z_]/.test(kept) ? kept : `_${kept}`;
}

function edges({ minimum, maximum }) {
  if (!Number.isFinite(minimum) || !Number.isFinite(maximum)) return "25, 45, 65";
  return [0.25, 0.5, 0.75].map((part) => Number((minimum + part * (maximum - minimum)).toPrecision(3))).join(", ");
}
