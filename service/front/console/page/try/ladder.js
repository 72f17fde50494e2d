// A p-value on a logarithmic scale: small and strange on the left, 1 and ordinary on the right.

import { draw } from "../dom.js";

const LEAST = 1e-4;

/** The scale from the smallest of the values, or 0.0001, up to 1. */
export function scaleOf(values) {
  const found = values.filter((value) => value > 0);
  const lowest = Math.min(LEAST, ...found);
  const decades = Math.ceil(-Math.log10(lowest) - 1e-9);
  return { decades, place: (p) => 100 * (1 + Math.log10(Math.max(p, 10 ** -decades)) / decades) };
}

/**
 * The picture of one guard's p-value. A filled dot is the p-value, a ring the p-value before the nudge, and the shaded
 * part is where the guard flags.
 */
export function ladder(name, { p, before, threshold, scale }) {
  const across = (value) => `${Math.min(98.5, Math.max(1.5, scale.place(value)))}%`;
  const parts = [draw("rect", { class: "ladder-rail", x: "0", y: "11", width: "100%", height: "6", rx: "3" })];
  if (threshold > 0) {
    parts.push(draw("rect", { class: "ladder-flags", x: "0", y: "5", width: across(threshold), height: "18", rx: "3" }));
    parts.push(draw("line", { class: "ladder-threshold", x1: across(threshold), x2: across(threshold), y1: "1", y2: "27" }));
  }
  for (let decade = 0; decade <= scale.decades; decade += 1) {
    const x = `${scale.place(10 ** -decade)}%`;
    const anchor = decade === 0 ? "end" : decade === scale.decades ? "start" : "middle";
    parts.push(draw("text", { class: "ladder-tick", x, y: "40", "text-anchor": anchor }, tickOf(decade)));
  }
  if (before !== null && before !== undefined) parts.push(draw("circle", { class: "ladder-before", cx: across(before), cy: "14", r: "6" }));
  parts.push(draw("circle", { class: p <= threshold ? "ladder-p flags" : "ladder-p", cx: across(p), cy: "14", r: "6" }));
  return draw("svg", { class: "ladder", height: "44", role: "img", "aria-label": `${name}: p-value ${p.toPrecision(3)}` }, parts);
}

const tickOf = (decade) => (decade < 4 ? String(10 ** -decade) : `1e-${decade}`);
