// Shows the last request as text for other clients, with a button that copies the text.

import { make } from "../dom.js";
import { choice, labelled } from "./elements.js";
import { requestText, WAYS } from "./request_texts.js";

/** The panel. `keyed()` says whether the server wants a key. Returns {element, show(body)}. */
export function requestPanel({ model, keyed }) {
  let asked = null; // the request that is shown
  const list = choice(WAYS.map((way) => [way, way]), { id: "try-way" });
  const text = make("pre", { id: "try-text", tabindex: "0", "aria-label": "the request as text" });
  const said = make("span", { class: "soft", role: "status", id: "try-copied" });
  const button = make("button", { type: "button", id: "try-copy", onclick: copy }, "Copy");

  async function copy() {
    try {
      await navigator.clipboard.writeText(text.textContent);
      said.textContent = "Copied.";
    } catch { // a page that came without TLS from another machine may not write to the clipboard
      getSelection().selectAllChildren(text);
      said.textContent = "The browser keeps the clipboard closed. The text is selected: press Ctrl+C.";
    }
  }

  const shown = () => {
    text.textContent = requestText(list.value, asked);
    said.textContent = "";
  };
  list.addEventListener("input", shown);
  const made = make("div", { hidden: true }, make("div", { class: "try-row" }, labelled("For", list), button, said), text);
  return {
    element: made,
    show: (body) => {
      const base = new URL(".", document.baseURI).href;
      asked = { base, model: model.name, rows: model.rows, body, keyed: keyed() };
      made.hidden = false;
      shown();
    },
  };
}
