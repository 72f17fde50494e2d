// What the server does now: load, latency, actions, and whether the guards' p-values are flat.

import { bars, lines } from "../chart.js";
import { milliseconds, number, percent } from "../format.js";

export const tab = { name: "now", title: "Now", start };

const SECONDS = 2;
const RECENT = 15;
const ACTIONS = [["allow", "--green"], ["flag", "--yellow"], ["abstain", "--sky"], ["reject", "--orange"]];

const sum = (values) => values.reduce((all, value) => all + (value ?? 0), 0);
const mean = (values) => (values.length ? sum(values) / values.length : null);
const last = (values) => values.findLast((value) => value !== null) ?? null;

function make(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// The figures of the last half minute, each with its name.
function figuresOf({ series, budget }) {
  const recent = (values) => values.slice(-RECENT);
  const rows = Object.values(series.rows).map(recent);
  const touched = sum(recent(series.rows.flag)) + sum(recent(series.rows.abstain)) + sum(recent(series.rows.reject));
  const all = sum(rows.flat());
  return [
    ["requests a second", number(mean(recent(series.requests)))],
    ["rows a second", number(all / Math.max(1, rows[0].length))],
    ["median latency", milliseconds(last(recent(series.p50)))],
    ["99 % are faster than", milliseconds(last(recent(series.p99)))],
    ["rows that wait", number(series.queue.at(-1) ?? 0)],
    ["device busy", percent(mean(recent(series.busy)))],
    ["rows touched", all ? percent(touched / all) : "–"],
    ["false-alarm budget", percent(budget)],
  ];
}

class Figures {
  constructor(element) {
    this.list = make("dl", "", "figures");
    element.append(this.list);
    this.values = new Map();
  }

  show(figures) {
    for (const [name, value] of figures) {
      if (!this.values.has(name)) {
        const box = make("div");
        const shown = make("dd", value);
        box.append(make("dt", name), shown);
        this.list.append(box);
        this.values.set(name, shown);
      }
      this.values.get(name).textContent = value;
    }
  }
}

// The density of the p-values in each tenth: 1 everywhere on clean rows.
function density({ bounds, recent }) {
  const total = sum(recent);
  const tenths = new Array(10).fill(0);
  bounds.forEach((bound, place) => { tenths[Math.max(0, Math.ceil(10 * bound - 1e-6) - 1)] += recent[place]; });
  const values = tenths.map((count) => (total ? (10 * count) / total : 0));
  return { total, labels: tenths.map((_, place) => number((place + 1) / 10)), values };
}

class Guard {
  constructor(element, guard) {
    this.box = make("div");
    element.append(this.box);
    this.chart = bars(this.box, this.drawn(guard));
    this.words = make("p", "", "soft");
    this.box.append(this.words);
  }

  drawn(guard) {
    const { labels, values, total } = density(guard.p_values);
    const shares = values.map((value, place) => `up to ${labels[place]}: ${number(value)}`).join(", ");
    return {
      title: `Guard ${guard.name}: p-values`,
      labels,
      series: [{ name: "density of the p-values", values }],
      line: { name: "clean rows", value: 1 },
      summary: total ? `Density of the p-values of ${total} rows, flat at 1 on clean rows. ${shares}.` : "No rows yet.",
    };
  }

  show(guard, threshold) {
    this.chart.update(this.drawn(guard));
    const { judged, flagged } = guard.recent;
    const promised = threshold === undefined ? "" : ` On clean rows the guard flags ${percent(threshold)}.`;
    this.words.textContent = judged
      ? `${number(flagged)} of ${number(judged)} rows flagged (${percent(flagged / judged)}) in these minutes.${promised}`
      : `No row was judged in these minutes.${promised}`;
  }
}

function start(element, { api, poll, say, model }) {
  const figures = new Figures(element);
  const blocks = make("div", "", "blocks");
  const guards = make("div", "", "blocks");
  const heading = make("h2", "Guards");
  const intro = make("p", "A p-value is the share of clean rows that are at least as strange. So the p-values of clean "
    + "rows are flat: each tenth gets a tenth of the rows. Foreign rows pile up on the left.", "soft");
  const section = make("section");
  element.append(make("h2", "The last minutes", "visually-hidden"), blocks, section);
  section.append(heading, intro, guards);
  section.hidden = model.guards.length === 0;
  let charts = null;
  const shown = new Map();

  const given = (now) => {
    const { series, times } = now;
    return [
      { title: "Requests a second", times, unit: "a second", series: [
        { name: "all", values: series.requests, fill: true },
        { name: "refused", values: series.refused, colour: "--yellow" },
        { name: "failed", values: series.failed, colour: "--act" },
      ] },
      { title: "Latency (ms)", times, unit: "ms", series: [
        { name: "median", values: series.p50 }, { name: "99 % are faster", values: series.p99 },
      ] },
      { title: "Rows a second, by action", times, unit: "a second",
        series: ACTIONS.map(([name, colour]) => ({ name, values: series.rows[name], colour })) },
      { title: "Waiting and in flight", times, unit: "", series: [
        { name: "rows that wait", values: series.queue }, { name: "requests in flight", values: series.in_flight },
      ] },
      { title: "Rows in a batch (mean)", times, unit: "rows", series: [{ name: "rows in a batch", values: series.batch }] },
      { title: "Device busy (share of time)", times, unit: "", top: 1, series: [{ name: "busy", values: series.busy, fill: true }] },
    ];
  };

  const end = poll(SECONDS, async () => {
    const now = await api.get("/console/data/now");
    figures.show(figuresOf(now));
    const all = given(now);
    charts ??= all.map((each) => {
      const place = make("div");
      blocks.append(place);
      return lines(place, each);
    });
    charts.forEach((chart, place) => chart.update(all[place]));
    for (const guard of now.guards) {
      if (!shown.has(guard.name)) shown.set(guard.name, new Guard(guards, guard));
      shown.get(guard.name).show(guard, now.thresholds[guard.name]);
    }
    if (now.ready) say(null);
  });
  return () => {
    end();
    charts?.forEach((chart) => chart.stop());
    for (const guard of shown.values()) guard.chart.stop();
  };
}
