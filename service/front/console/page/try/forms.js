// A form made from the schema: one control for each column, in groups, with a filter if there are many.

import { make } from "../dom.js";
import { labelled } from "./elements.js";
import { cellAt, cellOf, fieldsOf } from "./rows.js";

const FEW = 24;
const GROUP = 20;
let forms = 0; // so that each form has ids of its own

/** A form for rows of this schema. `changed(place, value)` hears of every change. Returns {element, show(row)}. */
export function rowForm(rows, changed) {
  const fields = fieldsOf(rows);
  forms += 1;
  const lines = fields.map((field, place) => lineOf(field, `try-cell-${forms}-${place}`, (value) => changed(place, value)));
  const groups = fields.length > FEW ? grouped(fields, lines) : null;
  const made = make("div", { class: "try-form" },
    groups ? filterOf(fields, lines, groups) : null,
    groups ?? make("div", { class: "try-cells" }, lines.map(({ line }) => line)));
  return { element: made, show: (row) => lines.forEach(({ set }, place) => set(cellAt(row, rows, place))) };
}

function lineOf(field, id, changed) {
  const control = field.kind === "categorical" ? categories(field, id) : numbers(field, id);
  control.addEventListener("input", () => changed(cellOf(field, control.value)));
  const line = make("div", { class: "try-cell" },
    make("label", { for: id }, field.name), control,
    field.kind === "categorical" && field.categories?.length ? suggestions(field, id) : null);
  return { line, set: (value) => { control.value = value ?? ""; } };
}

function numbers(field, id) {
  const hint = field.minimum === null && field.maximum === null ? "missing"
    : `${field.minimum ?? "…"} to ${field.maximum ?? "…"}`;
  return make("input", { id, type: "text", inputmode: "decimal", autocomplete: "off", placeholder: hint });
}

/** A text with suggestions, and not a list: a value that the reference never had is worth a try. */
function categories(field, id) {
  const list = field.categories?.length ? `${id}-list` : null;
  return make("input", { id, type: "text", list, autocomplete: "off", placeholder: "missing" });
}

function suggestions(field, id) {
  return make("datalist", { id: `${id}-list` }, field.categories.map((value) => make("option", { value })));
}

function grouped(fields, lines) {
  const groups = [];
  for (let at = 0; at < lines.length; at += GROUP) {
    const last = Math.min(at + GROUP, lines.length) - 1;
    groups.push(make("details", { open: at === 0 },
      make("summary", {}, `${fields[at].name} to ${fields[last].name} (${last - at + 1} columns)`),
      make("div", { class: "try-cells" }, lines.slice(at, last + 1).map(({ line }) => line))));
  }
  return groups;
}

function filterOf(fields, lines, groups) {
  const input = make("input", { type: "search", id: `try-filter-${forms}`, autocomplete: "off" });
  const found = make("span", { class: "soft", role: "status" }, `${fields.length} columns`);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let count = 0;
    fields.forEach((field, place) => {
      const fits = field.name.toLowerCase().includes(wanted);
      lines[place].line.hidden = !fits;
      count += fits;
    });
    groups.forEach((group, at) => {
      const some = [...group.querySelectorAll(".try-cell")].some((line) => !line.hidden);
      group.hidden = !some;
      group.open = wanted ? some : at === 0;
    });
    found.textContent = wanted ? `${count} of ${fields.length} columns` : `${fields.length} columns`;
  });
  return make("div", { class: "try-row" }, labelled("Find a column", input), found);
}
