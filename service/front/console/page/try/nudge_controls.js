// Sliders that change the row a little: an image as a whole, or one number of a table or tensor.

import { number } from "../format.js";
import { make } from "../dom.js";
import { choice, labelled } from "./elements.js";
import { rangeOf, STILL } from "./nudges.js";
import { cellAt, fieldsOf, named } from "./rows.js";

const STEPS = 200;
const IMAGE = {
  noise: { text: "Noise", min: 0, max: 0.5, step: 0.01 },
  blur: { text: "Blur", min: 0, max: 3, step: 0.1 },
  brightness: { text: "Brightness", min: -0.6, max: 0.6, step: 0.02 },
};

/** Sliders for noise, blur and brightness. `changed(nudge)` hears of each change. Returns {element, reset()}. */
export function imageSliders(changed) {
  const sliders = Object.entries(IMAGE).map(([name, { text, ...bounds }]) => {
    const slider = make("input", { type: "range", id: `try-${name}`, value: 0, ...bounds });
    const shown = make("output", { for: slider.id }, "0");
    slider.addEventListener("input", () => {
      shown.textContent = slider.value;
      changed(Object.fromEntries(sliders.map((each) => [each.name, Number(each.slider.value)])));
    });
    return { name, slider, shown, line: make("div", { class: "try-slider" }, labelled(text, slider), shown) };
  });
  return {
    element: make("div", {}, sliders.map(({ line }) => line)),
    reset: () => sliders.forEach(({ name, slider, shown }) => {
      slider.value = STILL[name];
      shown.textContent = "0";
    }),
  };
}

/**
 * A list of the numeric fields, and a slider for the chosen field; null if there is none. `rowNow()` gives the row, and
 * `changed(place, value)` hears of each change. Returns {element, reset()}.
 */
export function cellSlider(model, rowNow, changed) {
  const fields = fieldsOf(model.rows).map((field, place) => ({ field, place })).filter(({ field }) => field.kind === "numeric");
  if (!fields.length) return null;
  const list = choice(fields.map(({ field, place }) => [place, field.name]), { id: "try-column" });
  const slider = make("input", { type: "range", id: "try-value", min: 0, max: STEPS, step: 1, value: STEPS / 2 });
  const shown = make("output", { for: slider.id });
  const known = model.known_rows.map((row) => named(row, model.rows));
  let [low, high] = [0, 1];
  const reset = () => {
    const place = Number(list.value);
    const now = rowNow() === null ? null : cellAt(rowNow(), model.rows, place);
    const { field } = fields.find((each) => each.place === place);
    [low, high] = rangeOf(field, [...known.map((row) => cellAt(row, model.rows, place)), now]);
    slider.value = typeof now === "number" ? (STEPS * (now - low)) / (high - low) : STEPS / 2;
    shown.textContent = typeof now === "number" ? number(now) : "missing";
  };
  list.addEventListener("input", reset);
  slider.addEventListener("input", () => {
    const value = Number((low + ((high - low) * slider.value) / STEPS).toPrecision(4));
    shown.textContent = number(value);
    changed(Number(list.value), value);
  });
  return {
    element: make("div", { class: "try-slider" }, labelled("Column", list), labelled("Value", slider), shown),
    reset: () => queueMicrotask(reset), // after the new row is there
  };
}
