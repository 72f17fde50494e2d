// A table of figures with intervals: each row has a name, a dot with a bar, the value and the number of rows.
// The drawing repeats what the cells say, so the table is its own text alternative.

import { draw, make } from "./dom.js";
import { number } from "./format.js";

const TICKS = 4;
const MARGIN = 0.04;

/** Write a value with its interval. */
export function withInterval(figure, format) {
  return [format(figure.value), written(figure.interval, format)].filter(Boolean).join(" ").replaceAll(" %", "\u00a0%");
}

/** Write an interval; empty if there is none. */
export function written(interval, format) {
  return interval ? `[${format(interval[0])}, ${format(interval[1])}]` : "";
}

export class EstimateTable {
  /** `format` writes a value, `limits` are the ends of the scale, `first` is the head of the names. */
  constructor({ title, note, format = number, limits = [-Infinity, Infinity], first = "group" }) {
    Object.assign(this, { format, limits });
    this.note = make("p", { class: "soft" }, note);
    this.axis = make("th", { scope: "col", class: "plot" });
    this.body = make("tbody");
    const heads = [make("th", { scope: "col", class: "name" }, first), this.axis, make("th", { scope: "col" }, "value and interval")];
    const table = make("table", { class: "estimates" }, make("thead", {}, make("tr", {}, heads)), this.body);
    this.scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, table);
    this.element = make("div", { class: "estimate" }, make("h4", {}, title), this.note, this.scroll);
  }

  /** Draw `rows` of {name, value, interval, n, says, tone}; `band` is a shaded range, `mark` a value to compare with. */
  show(rows, { band = null, mark = null } = {}) {
    this.element.hidden = !rows.length;
    const scale = scaleOf(rows, this.limits, band, mark);
    this.axis.replaceChildren(...axis(scale, this.format));
    this.body.replaceChildren(...rows.map((row) => this.line(row, scale, band, mark)));
    this.scroll.classList.toggle("long", rows.length > 25);
  }

  line(row, scale, band, mark) {
    const rows = row.n === null ? "few rows" : `${number(row.n)} ${row.n === 1 ? "row" : "rows"}`;
    return make(
      "tr",
      {},
      make("th", { scope: "row", class: "name" }, row.name, " ", make("span", { class: "soft" }, rows)),
      make("td", { class: "plot" }, plot(row, scale, band, mark)),
      make("td", { class: "value" }, ...said(row, this.format)),
    );
  }
}

function said(row, format) {
  if (row.n === null) return [make("span", { class: "soft" }, "hidden: too few rows")];
  if (row.value === null) return [make("span", { class: "soft" }, row.n ? "unknown yet" : "no rows yet")];
  const parts = [make("span", { class: "figure" }, format(row.value))];
  if (row.interval) parts.push(" ", make("span", { class: "soft" }, written(row.interval, format)));
  if (row.says) parts.push(" ", make("span", { class: `says ${row.tone ?? ""}` }, row.says));
  return parts;
}

/** Choose the ends and the ticks of a scale that holds every value, interval, band and mark. */
export function scaleOf(rows, limits, band, mark) {
  const shown = rows.filter((row) => row.value !== null).flatMap((row) => [row.value, ...(row.interval ?? [])]);
  const ends = [...shown, ...(band ?? []), ...(mark === null ? [] : [mark])].filter(Number.isFinite);
  let [low, high] = ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
  if (high - low < 1e-9 * Math.max(1, Math.abs(high))) [low, high] = [low - 0.05, high + 0.05];
  const step = roundStep((high - low) / TICKS);
  const margin = (high - low) * MARGIN;
  low = Math.max(limits[0], step * Math.floor((low - margin) / step));
  high = Math.min(limits[1], step * Math.ceil((high + margin) / step));
  const first = Math.ceil(low / step - 1e-6);
  const count = Math.floor(high / step + 1e-6) - first + 1;
  const ticks = Array.from({ length: count }, (_, place) => (first + place) * step);
  return { low, high, ticks };
}

function roundStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9));
}

/** Give the place of a value on a scale, in percent of the width; a small margin keeps dots at the ends whole. */
function place(value, { low, high }) {
  return `${(2 + (96 * (value - low)) / (high - low)).toFixed(2)}%`;
}

function axis(scale, format) {
  const last = scale.ticks.length - 1;
  const marks = scale.ticks.map((tick, index) => {
    if (index !== 0 && index !== last && index !== last / 2) return null; // the other ticks have no room for a number
    const at = place(tick, scale);
    const anchor = parseFloat(at) < 8 ? "start" : parseFloat(at) > 92 ? "end" : "middle";
    return draw("text", { x: at, y: 11, "text-anchor": anchor, class: index === last / 2 ? "middle" : null }, format(tick));
  });
  return [make("span", { class: "visually-hidden" }, "drawn"), draw("svg", { class: "ticks", "aria-hidden": "true" }, marks)];
}

function plot(row, scale, band, mark) {
  const svg = draw("svg", { class: "dots", "aria-hidden": "true" });
  if (band) {
    const width = `${parseFloat(place(band[1], scale)) - parseFloat(place(band[0], scale))}%`;
    svg.append(draw("rect", { class: "band", x: place(band[0], scale), y: 0, width, height: "100%" }));
  }
  for (const tick of scale.ticks) svg.append(upright("tick", tick, scale));
  if (band) svg.append(upright("edge", band[1], scale));
  if (mark !== null) svg.append(upright("mark", mark, scale));
  if (row.value !== null && row.interval) {
    const [from, to] = row.interval.map((end) => place(end, scale));
    svg.append(draw("line", { class: "bar", x1: from, x2: to, y1: "50%", y2: "50%" }));
  }
  if (row.value !== null) svg.append(draw("circle", { class: `dot ${row.tone ?? ""}`, cx: place(row.value, scale), cy: "50%", r: 4.5 }));
  return svg;
}

function upright(kind, value, scale) {
  return draw("line", { class: kind, x1: place(value, scale), x2: place(value, scale), y1: 0, y2: "100%" });
}
