// What the server does now: load, latency, actions, and whether the guards' p-values are flat.

import { bars, lines } from "../chart.js";
import { milliseconds, number, percent } from "../format.js";

export const tab = { name: "now", title: "Now", start };

const SECONDS = 2;

function start(element, { api, poll }) {
  element.textContent = "…";
  return poll(SECONDS, async () => { await api.get("/console/data/now"); });
}
