// Where the parts of the tab are.

import { element } from "./elements.js";

/** The elements of the tab: `sources` are places to choose rows from, and `parts` holds the other parts by name. */
export function layout(model, sources, parts) {
  const titled = (title, part) => (part ? element("section", {}, element("h3", {}, title), part.element) : null);
  const buttons = element("p", { class: "try-row" }, parts.button, parts.back);
  const left = element("div", {},
    element("h2", {}, "A row"),
    ...sources,
    titled("A form", parts.form), parts.groupFields?.element, parts.json.element,
    element("div", { class: "try-chosen" }, parts.picture, element("div", {}, parts.words, buttons)),
    titled("Nudge it", parts.sliders));
  const right = element("div", {},
    element("h2", {}, "The answer"), parts.answer,
    titled("Why?", parts.why), titled("The same request elsewhere", parts.requests));
  const columns = element("div", { class: "try-columns" }, left, right);
  return [parts.alert, parts.offer, columns, element("p", { class: "soft" }, notesOn(model))];
}

function notesOn(model) {
  const remembering = model.guards.filter((guard) => guard.remembers).map((guard) => guard.name);
  const memory = remembering.length === 0 ? ""
    : ` ${remembering.join(", ")} compares a client's rows with each other: many small changes of one row look like an attack.`;
  return `Rows that you try are requests like all others: the server counts them, and the monitors see them.${memory}`;
}
