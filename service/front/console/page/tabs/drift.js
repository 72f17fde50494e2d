// What drifted: the evidence of every stream over time, and the bins of the reference beside the live ones.

import { bars, lines } from "../chart.js";
import { number, percent, time } from "../format.js";

export const tab = { name: "drift", title: "Drift", start };

const SECONDS = 5;
const MOST_LINES = 6;
const MOST_STREAMS = 6;
const STATES = { ok: "good", warning: "look", alarm: "act", insufficient_data: "soft" };
const WORDS = { ok: "ok", warning: "warning", alarm: "alarm", insufficient_data: "too few rows yet" };
const NOT_DRIFT = ["accuracy", "groups"];

function make(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const total = (values) => values.reduce((all, value) => all + value, 0);

// Half the sum of the differences of two distributions: 0 if they agree, 1 if they share no bin.
function distance({ reference, live }) {
  const rows = total(live);
  if (!rows) return null;
  return total(reference.map((share, place) => Math.abs(share - live[place] / rows))) / 2;
}

function statistic(monitor, name, stream) {
  const found = monitor?.statistics.find((each) => each.name === name && each.labels.stream === stream);
  return found?.value ?? null;
}

// The streams of all monitors in one list, the one with the most evidence first.
function streamsOf({ report, histograms, evidence }) {
  const streams = new Map(histograms.map((each) => [each.stream, { ...each, evidence: null, threshold: null, drifted: false, psi: null }]));
  for (const { monitor, stream, values, threshold } of evidence) {
    const found = streams.get(stream) ?? { stream, bins: [], reference: [], live: [] };
    const told = report.monitors[monitor];
    streams.set(stream, {
      ...found, monitor, threshold,
      evidence: values.at(-1) ?? null,
      drifted: statistic(told, "drifted", stream) === 1,
      psi: statistic(told, "psi", stream),
    });
  }
  return [...streams.values()]
    .map((each) => ({ ...each, distance: distance(each), rows: total(each.live) }))
    .sort((a, b) => (b.drifted - a.drifted) || ((b.evidence ?? -1) - (a.evidence ?? -1)) || ((b.distance ?? -1) - (a.distance ?? -1)));
}

function verdict(streams, watching) {
  const drifted = streams.filter((each) => each.drifted).map((each) => each.stream);
  if (!watching.length) return ["The config has no monitor of drift.", "soft"];
  if (drifted.length) return [`Drift in ${drifted.join(", ")}.`, "act"];
  if (watching.some(([, each]) => each.state === "alarm")) return ["A monitor has raised an alarm.", "act"];
  if (watching.some(([, each]) => each.state === "warning")) return ["There is some evidence of drift, and not enough for an alarm.", "look"];
  if (watching.every(([, each]) => each.state === "insufficient_data")) return ["There are too few rows to say anything yet.", "soft"];
  return ["No stream has drifted.", "good"];
}

function showMonitors(list, watching) {
  list.replaceChildren(...watching.map(([name, { kind, state, since }]) => {
    const item = make("li");
    item.append(make("span", WORDS[state] ?? state, `badge ${STATES[state] ?? "soft"}`), ` ${name} (${kind}), since ${time(since)}`);
    return item;
  }));
}

function row(cells, tag = "td") {
  const line = make("tr");
  cells.forEach((cell, place) => {
    const made = make(tag, cell, place === 0 ? "name" : "");
    if (tag === "th") made.scope = "col";
    line.append(made);
  });
  return line;
}

function showTable(body, streams) {
  body.replaceChildren(...streams.map((each) => {
    const line = row([
      each.stream, each.drifted ? "drifted" : "", number(each.evidence), number(each.threshold), number(each.psi),
      percent(each.distance), number(each.rows),
    ]);
    if (each.drifted) line.className = "act";
    return line;
  }));
}

// The names of bins: numbers by their place, and words as they are.
function barsOf(each) {
  const rows = total(each.live);
  const state = each.drifted ? " (drifted)" : "";
  return {
    title: `${each.stream}${state}`,
    labels: each.bins,
    series: [
      { name: "reference", values: each.reference, colour: "--soft" },
      { name: `live (${number(rows)} rows)`, values: each.live.map((count) => (rows ? count / rows : 0)), colour: each.drifted ? "--act" : "--blue" },
    ],
  };
}

function start(element, { api, poll }) {
  const headline = make("p", "", "lead");
  const monitors = make("ul", "", "plain");
  const overTime = make("section");
  const beside = make("section");
  const tables = make("section");
  element.append(make("h2", "Drift"), headline, monitors, overTime, beside, tables);

  overTime.append(make("h2", "Evidence over time"), make("p", "The evidence is a log e-value: chance alone lets it reach the "
    + "threshold once in the average run length that the config states. It falls while the rows look like the reference.", "soft"));
  const place = make("div");
  overTime.append(place);
  beside.append(make("h2", "Reference and live rows side by side"), make("p",
    "The shares of each bin. The bins hold the reference's quantiles; “below” and “above” are values that the reference did not have.", "soft"));
  const blocks = make("div", "", "blocks");
  const chosen = make("p");
  const label = make("label", "Another stream ");
  const select = make("select");
  label.append(select);
  chosen.append(label);
  const other = make("div");
  beside.append(blocks, chosen, other);

  const table = make("table");
  const head = make("thead");
  const body = make("tbody");
  const scroll = make("div", "", "scroll long");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", "Every stream");
  head.append(row(["stream", "", "evidence", "threshold", "PSI of recent rows", "distance", "rows"], "th"));
  table.append(head, body);
  scroll.append(table);
  tables.append(make("h2", "Every stream"), scroll);

  for (const section of [overTime, beside, tables]) section.hidden = true;

  let chart = null;
  const shown = new Map();
  let picked = null;
  let known = [];

  const draw = (to, key, each) => {
    const before = shown.get(key);
    const names = [each.stream, each.drifted, each.bins.length].join();
    if (before?.names === names) {
      before.chart.update(barsOf(each));
      return;
    }
    before?.chart.stop();
    const box = before?.box ?? make("div");
    box.replaceChildren();
    to.append(box);
    shown.set(key, { names, box, chart: bars(box, barsOf(each)) });
  };

  const pick = () => {
    picked = known.find((each) => each.stream === select.value) ?? null;
    if (picked !== null) draw(other, "picked", picked);
  };
  select.addEventListener("change", pick);

  const end = poll(SECONDS, async () => {
    const watched = await api.get("/console/data/monitors");
    const watching = Object.entries(watched.report.monitors).filter(([, each]) => !NOT_DRIFT.includes(each.kind));
    const streams = streamsOf(watched);
    const [sentence, level] = verdict(streams, watching);
    headline.textContent = sentence;
    headline.className = `lead ${level}`;
    showMonitors(monitors, watching);
    showTable(body, streams);
    tables.hidden = streams.length === 0;

    const judged = streams.filter((each) => each.evidence !== null).slice(0, MOST_LINES);
    overTime.hidden = judged.length === 0;
    if (judged.length) {
      const told = judged.map((each) => watched.evidence.find((one) => one.stream === each.stream && one.monitor === each.monitor));
      const names = told.map((each) => each.stream).sort();
      const by = new Map(told.map((each) => [each.stream, each]));
      const times = told[0].times;
      const given = {
        title: judged.length < watched.evidence.length ? `The ${judged.length} streams with the most evidence (log e-value)` : "Log e-value of each stream",
        times, unit: "log e-value", threshold: judged[0].threshold,
        series: names.map((name) => ({ name, values: times.map((_, at) => by.get(name).values.at(at - times.length) ?? null) })),
      };
      chart ??= lines(place, given);
      chart.update(given);
    }

    known = streams.filter((each) => each.bins.length > 0);
    beside.hidden = known.length === 0;
    known.slice(0, MOST_STREAMS).forEach((each, at) => draw(blocks, `place ${at}`, each));
    chosen.hidden = known.length <= MOST_STREAMS;
    const names = known.map((each) => each.stream).sort();
    if (select.options.length !== names.length + 1) {
      select.replaceChildren(...names.map((name) => new Option(name, name)));
      select.prepend(new Option("choose a stream", ""));
      select.value = picked?.stream ?? "";
    }
    if (picked !== null) pick();
  });
  return () => {
    end();
    chart?.stop();
    for (const each of shown.values()) each.chart.stop();
  };
}
