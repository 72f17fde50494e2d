// Where the parts of the tab are.

import { make } from "../dom.js";

/** The elements of the tab: `sources` are places to choose rows from, and `parts` holds the other parts by name. */
export function layout(model, sources, parts) {
  const titled = (title, part) => (part ? make("section", {}, make("h3", {}, title), part.element) : null);
  const buttons = make("p", { class: "try-row" }, parts.button, parts.back);
  const left = make("div", {},
    make("h2", {}, "A row"),
    ...sources,
    titled("A form", parts.form), parts.groupFields?.element, parts.json.element,
    make("div", { class: "try-chosen" }, parts.picture, make("div", {}, parts.words, buttons)),
    titled("Nudge it", parts.sliders));
  const right = make("div", {},
    make("h2", {}, "The answer"), parts.answer,
    titled("Why?", parts.why), titled("The same request elsewhere", parts.requests));
  const columns = make("div", { class: "try-columns" }, left, right);
  return [parts.alert, parts.offer, columns, make("p", { class: "soft" }, notesOn(model))];
}

function notesOn(model) {
  const remembering = model.guards.filter((guard) => guard.remembers).map((guard) => guard.name);
  const memory = remembering.length === 0 ? ""
    : ` ${remembering.join(", ")} compares a client's rows with each other: many small changes of one row look like an attack.`;
  return `Rows that you try are requests like all others: the server counts them, and the monitors see them.${memory}`;
}
