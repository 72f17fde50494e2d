// Controls of the tab Try.

import { make } from "../dom.js";

/** A button, which may be of another class than others. */
export function button(id, text, onclick, kind = null) {
  return make("button", { type: "button", id, class: kind, onclick }, text);
}

/** A labelled control; returns the label with both. */
export function labelled(text, control) {
  return make("label", { class: "try-field" }, make("span", {}, text), control);
}

/** A drop-down list of [value, text] pairs. */
export function choice(options, attributes = {}) {
  return make("select", attributes, options.map(([value, text]) => make("option", { value }, text)));
}
