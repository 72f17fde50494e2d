// Where a row comes from: known rows of the reference, an image file, or pasted JSON.

import { make } from "../dom.js";
import { pictureOf, sizesOf } from "./pictures.js";
import { flatten, named, readPasted, shortened } from "./rows.js";

const SHOWN_CELLS = 3;
const LONGEST = 20_000; // characters of JSON that a text field shows

/** Buttons for the known rows; null if the server has none. `choose(row, words)` hears which. */
export function knownRows(model, choose) {
  if (!model.known_rows.length) return null;
  const buttons = model.known_rows.map((given, at) => {
    const row = shortened(named(given, model.rows));
    const words = `known row ${at + 1}`;
    return make("button", { type: "button", class: "try-known", "aria-label": words, onclick: () => choose(row, words) },
      ...faceOf(row, model.rows, at));
  });
  return make("section", {},
    make("h3", {}, "A known row"),
    make("div", { class: "try-strip" }, buttons),
    make("p", { class: "soft" }, "Rows of the reference, which the bundle stores."));
}

function faceOf(row, rows, at) {
  if (rows.kind === "image") return [pictureOf(flatten(row), rows.shape, { class: "try-thumb", "aria-hidden": "true" })];
  if (rows.kind === "tensor") return [`Row ${at + 1}`];
  const cells = Object.entries(row).slice(0, SHOWN_CELLS).map(([name, value]) => `${name} ${value ?? "missing"}`);
  return [make("strong", {}, `Row ${at + 1} `), make("span", { class: "soft" }, cells.join(", "))];
}

/** A place to choose or drop an image file. `choose(file)` hears of it. */
export function fileDrop(shape, choose) {
  const sizes = sizesOf(shape);
  const input = make("input", { type: "file", id: "try-file", accept: "image/png,image/jpeg" });
  input.addEventListener("change", () => {
    if (input.files[0]) choose(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  const zone = make("div", { class: "try-drop" },
    make("label", { for: "try-file" }, "Choose a PNG or JPEG file, or drop it here"), input,
    make("p", { class: "soft" }, `The model takes ${sizes}. The page fits other pictures to this size.`));
  const over = (event) => {
    event.preventDefault();
    zone.classList.toggle("over", event.type === "dragover");
  };
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", over);
  zone.addEventListener("drop", (event) => {
    over(event);
    const [file] = event.dataTransfer.files;
    if (file) choose(file);
  });
  return make("section", {}, make("h3", {}, "An image file"), zone);
}

/** A text field with the row as JSON. `choose(row, groups)` hears of pasted text. Returns {element, show(row)}. */
export function jsonField(rows, choose, report) {
  const text = make("textarea", { id: "try-json", rows: "6", spellcheck: "false" });
  const use = () => {
    try {
      const { row, groups } = readPasted(text.value, rows);
      choose(row, groups);
    } catch (fault) {
      report(fault);
    }
  };
  const made = make("details", { class: "try-json" },
    make("summary", {}, "The row as JSON"),
    make("label", { for: "try-json" }, "A row, or a whole request with one row"), text,
    make("p", {}, make("button", { type: "button", id: "try-json-use", onclick: use }, "Use this JSON")));
  return {
    element: made,
    show: (row) => {
      const written = JSON.stringify(row);
      text.value = written.length > LONGEST ? "" : written;
      text.placeholder = written.length > LONGEST ? `The row has ${written.length} characters, too many to show.` : "";
    },
  };
}

/**
 * Fields for the attributes that come with a request; null if the model has none. `changed(values)` hears of each
 * change. Returns {element, show(values)}.
 */
export function groupFields(model, changed) {
  if (!model.groups.length) return null;
  const values = () => Object.fromEntries(model.groups.map((name, at) => [name, inputs[at].value || null]));
  const inputs = model.groups.map((_, at) => make("input", {
    id: `try-group-${at}`, type: "text", autocomplete: "off", placeholder: "not given", oninput: () => changed(values()),
  }));
  const made = make("details", {},
    make("summary", {}, "Groups of the row"),
    make("div", { class: "try-cells" }, model.groups.map((name, at) => (
      make("div", { class: "try-cell" }, make("label", { for: inputs[at].id }, name), inputs[at])))));
  return { element: made, show: (given) => inputs.forEach((input, at) => { input.value = given[model.groups[at]] ?? ""; }) };
}
