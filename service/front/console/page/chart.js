// Charts over uPlot, in the page's colours; each has a text alternative.

import uPlot from "./vendor/uPlot.esm.js";

const PALETTE = ["--blue", "--orange", "--green", "--pink", "--yellow", "--sky"];
const HEIGHT = 170;
const scheme = matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// The frame of a chart: a figure with a title, a place for the drawing, and the text alternative.
function frame(element, { title, summary }) {
  const figure = document.createElement("figure");
  const heading = document.createElement("h3");
  const place = document.createElement("div");
  const text = document.createElement("p");
  heading.textContent = title ?? "";
  heading.hidden = !title;
  place.className = "chart";
  place.setAttribute("role", "img");
  text.className = "visually-hidden";
  figure.append(heading, place, text);
  element.append(figure);
  const describe = (sentence) => {
    place.setAttribute("aria-label", title ?? sentence);
    text.textContent = sentence;
  };
  describe(summary ?? "");
  return { figure, place, describe };
}

// Draw with `options(width)` and `data()`, and draw anew on another width or colour scheme.
function keep(place, options, data) {
  let plot = null;
  let width = 0;
  const draw = () => {
    plot?.destroy();
    plot = new uPlot(options(width), data(), place);
  };
  const watch = new ResizeObserver(([entry]) => {
    const found = Math.floor(entry.contentRect.width);
    if (found < 40 || found === width) return;
    width = found;
    if (plot === null) draw();
    else plot.setSize({ width, height: HEIGHT });
  });
  watch.observe(place);
  const onScheme = () => plot !== null && draw();
  scheme.addEventListener("change", onScheme);
  return {
    redraw: () => plot !== null && draw(),
    setData: () => plot?.setData(data()),
    stop: () => {
      watch.disconnect();
      scheme.removeEventListener("change", onScheme);
      plot?.destroy();
      plot = null;
    },
  };
}

const axis = (more = {}) => ({
  stroke: colour("--soft"),
  grid: { stroke: colour("--line"), width: 1 },
  ticks: { stroke: colour("--line"), width: 1, size: 4 },
  font: "12px system-ui, sans-serif",
  size: 44,
  ...more,
});

const short = (x) => (x === null ? "" : x.toLocaleString("en", { maximumSignificantDigits: 3, notation: Math.abs(x) >= 10000 ? "compact" : "standard" }));

function range(least, top) {
  return (_, low, high) => [Math.min(least ?? 0, low ?? 0), Math.max(top ?? 0, high ?? 0) * 1.05 || 1];
}

// Last values and greatest values in words.
function wordsOf({ series, unit, threshold }) {
  const said = series.map(({ name, values }) => {
    const known = values.filter((value) => value !== null);
    if (!known.length) return `${name}: nothing yet`;
    return `${name}: now ${short(known.at(-1))}, at most ${short(Math.max(...known))}`;
  });
  const level = threshold === undefined || threshold === null ? "" : ` The threshold is ${short(threshold)}.`;
  return `${said.join("; ")}${unit ? ` (${unit})` : ""}.${level}`;
}

// Lines over time: {title, times (s), series: [{name, values, colour?, dash?, fill?}], unit, threshold?, top?}.
// Gives {update(given), stop()}; an update with other names draws anew.
export function lines(element, given) {
  let now = given;
  const { figure, place, describe } = frame(element, { title: given.title, summary: wordsOf(given) });
  const all = () => (now.threshold === undefined || now.threshold === null
    ? now.series
    : [...now.series, { name: "threshold", values: now.times.map(() => now.threshold), colour: "--act", dash: [6, 4] }]);
  const options = (width) => ({
    width,
    height: HEIGHT,
    cursor: { show: false },
    legend: { live: false, show: all().length > 1 },
    scales: { x: { time: true }, y: { range: range(0, now.top) } },
    axes: [axis({ size: 26, space: 70 }), axis({ size: 48, values: (_, ticks) => ticks.map(short) })],
    series: [{}, ...all().map((each, place) => {
      const stroke = colour(each.colour ?? PALETTE[place % PALETTE.length]);
      return {
        label: each.name, stroke, width: 1.6, dash: each.dash, spanGaps: false, points: { show: false },
        fill: each.fill ? `${stroke}22` : undefined,
      };
    })],
  });
  const data = () => [now.times, ...all().map((each) => each.values)];
  const chart = keep(place, options, data);
  const names = () => all().map((each) => each.name).join("\n");
  return {
    element: figure,
    update(next) {
      const before = names();
      now = { ...now, ...next };
      describe(wordsOf(now));
      if (names() === before) chart.setData();
      else chart.redraw();
    },
    stop: chart.stop,
  };
}

// Bars beside each other: {title, labels, series: [{name, values, colour?}], unit, line?: {name, value}, summary?}.
export function bars(element, given) {
  let now = given;
  const words = () => now.summary ?? now.series
    .map(({ name, values }) => `${name}: ${now.labels.map((label, place) => `${label} ${short(values[place] ?? null)}`).join(", ")}`)
    .join("; ");
  const { figure, place, describe } = frame(element, { title: given.title, summary: words() });
  const level = () => (now.line ? [{ ...now.line, values: now.labels.map(() => now.line.value) }] : []);
  const options = (width) => {
    const count = now.series.length;
    const drawBars = (at) => uPlot.paths.bars({
      disp: {
        x0: { unit: 1, values: (plot) => now.labels.map((_, index) => index - 0.4 + (0.8 * at) / count) },
        size: { unit: 1, values: () => now.labels.map(() => (0.8 / count) * 0.94) },
      },
    });
    return {
      width,
      height: HEIGHT,
      cursor: { show: false },
      legend: { live: false, show: count + level().length > 1 },
      scales: { x: { time: false, range: [-0.6, now.labels.length - 0.4] }, y: { range: range(0, now.line?.value) } },
      axes: [
        axis({
          size: 26, grid: { show: false }, space: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500],
          values: (_, ticks) => ticks.map((tick) => now.labels[tick] ?? ""),
        }),
        axis({ size: 48, values: (_, ticks) => ticks.map(short) }),
      ],
      series: [
        {},
        ...now.series.map((each, at) => {
          const stroke = colour(each.colour ?? PALETTE[at % PALETTE.length]);
          return { label: each.name, stroke, fill: `${stroke}bb`, width: 1, points: { show: false }, paths: drawBars(at) };
        }),
        ...level().map((each) => ({
          label: each.name, stroke: colour("--ink"), width: 1.4, dash: [6, 4], points: { show: false },
        })),
      ],
    };
  };
  const data = () => [now.labels.map((_, index) => index), ...[...now.series, ...level()].map((each) => each.values)];
  const chart = keep(place, options, data);
  return {
    element: figure,
    update(next) {
      const before = now;
      now = { ...now, ...next };
      describe(words());
      if (before.labels.length === now.labels.length && before.series.length === now.series.length) chart.setData();
      else chart.redraw();
    },
    stop: chart.stop,
  };
}
