// Makes elements of the page. Text from the server becomes a text node, and never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element. Attributes that are null, undefined or false are left out; a function listens: `onclick`. */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Make an element of a drawing. */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Make a button that copies what `text()` gives, and says so. */
export function copyButton(what, text) {
  const button = make("button", { type: "button", class: "copy" }, `Copy ${what}`);
  const said = make("span", { class: "soft", role: "status" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      said.textContent = "copied";
    } catch {
      said.textContent = "the browser does not allow this page to copy: select the text instead";
    }
  });
  return make("span", { class: "copying" }, button, " ", said);
}
