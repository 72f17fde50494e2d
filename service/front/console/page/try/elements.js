// Makes elements. Every text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children. A function as attribute `onclick` and the like becomes a listener. */
export function element(tag, attributes = {}, ...children) {
  return furnished(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function drawn(tag, attributes = {}, ...children) {
  return furnished(document.createElementNS(SVG, tag), attributes, children);
}

function furnished(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A button, which may be of another class than others. */
export function button(id, text, onclick, kind = null) {
  return element("button", { type: "button", id, class: kind, onclick }, text);
}

/** A labelled control; returns the label with both. */
export function labelled(text, control) {
  return element("label", { class: "try-field" }, element("span", {}, text), control);
}

/** A drop-down list of [value, text] pairs. */
export function choice(options, attributes = {}) {
  return element("select", attributes, options.map(([value, text]) => element("option", { value }, text)));
}
