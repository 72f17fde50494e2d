// What each guard is, what it does and what it cannot see, and what the monitors watch.

import { make } from "../dom.js";
import { number, percent } from "../format.js";

const ACTIONS = {
  flag: "flags the row, and the answer stays",
  abstain: "abstains: the row gets no label",
  reject: "rejects the row",
};

const ON_ERROR = { ignore: "the row is answered without this guard" };
/** What the monitors that come with Guardhouse watch; of any other, its class says so. */
const WATCHES = {
  accuracy: "How often the model is right: by its confidence before outcomes come, and by the outcomes afterwards.",
  bins: "How many rows fall into each bin of each column, p-value and prediction, for Prometheus.",
  groups: "Rates and actions by group, and whether the groups differ by more than the tolerance.",
  sequential: "Whether rows, p-values or predictions are still distributed as on held-out rows.",
  suitability: "Whether the accuracy has fallen by more than a margin, before outcomes come.",
};

export class GuardsView {
  constructor(model) {
    this.counts = new Map();
    const cards = model.guards.map((guard) => this.card(guard, model));
    this.element = make(
      "section",
      { "aria-label": "Guards" },
      make("h3", {}, "Guards"),
      make("p", {}, cards.length ? summary(model) : "The config names no guard: every row is answered."),
      make("div", { class: "cards" }, cards),
    );
  }

  /** Show what was counted: `now` is the document of the last minutes. */
  show(now) {
    for (const guard of now.guards ?? []) {
      const line = this.counts.get(guard.name);
      if (line) line.textContent = counted(guard, now.thresholds?.[guard.name]);
    }
  }

  card(guard, model) {
    const line = make("dd", {}, "nothing yet");
    this.counts.set(guard.name, line);
    const sees = guard.blind_spots || "The guard's author does not say what the guard cannot see.";
    return make(
      "article",
      { class: "card" },
      make("h4", {}, guard.name, " ", make("span", { class: "soft" }, guard.kind)),
      make("p", {}, guard.what),
      make(
        "dl",
        { class: "facts" },
        ...fact("Action", `${ACTIONS[guard.action] ?? guard.action}${model.shadow ? " (not in shadow mode)" : ""}`),
        ...fact("Budget", share(guard, model)),
        make("dt", {}, "Counted"),
        line,
        ...fact("In answers", [guard.visible ? "shown" : "not shown", guard.optional ? "may be left out of a request" : null].filter(Boolean).join(", ")),
        ...(guard.on_error ? fact("If it crashes", ON_ERROR[guard.on_error] ?? ACTIONS[guard.on_error] ?? guard.on_error) : []),
        ...fact("Cannot see", sees),
      ),
    );
  }
}

function summary({ guards, budget, guarantee, shadow }) {
  const promise = guarantee === "pac" ? "with 95 % confidence" : "on average";
  const all = guards.filter((guard) => guard.share !== null && !guard.target_error && !guard.remembers);
  const shared = all.length ? `${all.length === 1 ? "One guard has" : `${number(all.length)} guards share`} a false-alarm budget of ${percent(budget)}: of clean rows, at most this share is flagged, ${promise}.` : "No guard shares the false-alarm budget.";
  return `${shared}${shadow ? " The server is in shadow mode, so no guard changes an answer." : ""} No guard sees everything.`;
}

function share(guard, { guards, budget }) {
  if (guard.remembers) return "none: judges a client by its queries, not a row by its values";
  if (guard.target_error) return `none: abstains on purpose, so that at most ${percent(guard.target_error)} of the answered rows are wrong`;
  const total = guards.filter((one) => one.share !== null && !one.target_error && !one.remembers).reduce((sum, one) => sum + one.share, 0);
  return `${percent(guard.share / total)} of the budget of ${percent(budget)}`;
}

function counted({ judged, flagged }, threshold) {
  const rows = judged ? `${number(flagged)} of ${number(judged)} rows flagged (${percent(flagged / judged)}) since the start` : "no row judged yet";
  return threshold === undefined || threshold === null ? rows : `${rows}; flags at p ≤ ${threshold.toPrecision(3)}`;
}

function fact(name, value) {
  return [make("dt", {}, name), make("dd", {}, value)];
}

export class MonitorsView {
  constructor(model) {
    this.states = new Map();
    const lines = model.monitors.map((monitor) => this.line(monitor));
    const heads = ["monitor", "state", "what it watches"].map((head) => make("th", { scope: "col", class: "name" }, head));
    const table = make("table", {}, make("thead", {}, make("tr", {}, heads)), make("tbody", {}, lines));
    this.element = make(
      "section",
      { "aria-label": "Monitors" },
      make("h3", {}, "Monitors"),
      make("p", {}, "A monitor watches the stream of answered rows. A monitor may warn, and never changes an answer."),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Monitors" }, table),
    );
  }

  /** Show the states of the report. */
  show(monitors) {
    for (const [name, { state }] of Object.entries(monitors)) {
      const cell = this.states.get(name);
      if (!cell) continue;
      cell.textContent = state.replace("_", " ");
      cell.className = `name ${{ alarm: "act", warning: "look", ok: "good" }[state] ?? ""}`;
    }
  }

  line({ name, kind, what, blind_spots: blind }) {
    const state = make("td", { class: "name" }, "unknown");
    this.states.set(name, state);
    const said = [WATCHES[kind] ?? what, blind].filter(Boolean).join(" ");
    return make("tr", {}, make("th", { scope: "row", class: "name" }, name, " ", make("span", { class: "soft" }, kind)), state, make("td", { class: "name" }, said));
  }
}
