// The tab Model: what is served, how good it is, what its guards and monitors do, and the config.

import { make } from "../dom.js";
import { AccuracyView } from "../model/accuracy.js";
import { GuardsView, MonitorsView } from "../model/guards.js";
import { config, report, served } from "../model/served.js";
import { watch } from "../watch.js";

const EVERY = 5000;

export const tab = {
  name: "model",
  title: "Model",
  start(element, { model, api }) {
    const trouble = make("p", { role: "alert", class: "act" });
    const [accuracy, guards, monitors] = [new AccuracyView(model), new GuardsView(model), new MonitorsView(model)];
    element.append(
      make("h2", {}, "Model"),
      trouble,
      served(model),
      accuracy.element,
      guards.element,
      monitors.element,
      config(model),
      report(),
    );
    return watch(async () => {
      try {
        const [watched, now] = await Promise.all([api.get("/console/data/monitors"), api.get("/console/data/now")]);
        const found = watched.report.monitors;
        const entry = Object.values(found).find((one) => one.kind === "accuracy");
        if (entry) accuracy.show(entry);
        monitors.show(found);
        guards.show(now);
        trouble.textContent = "";
      } catch (failure) {
        trouble.textContent = failure.detail ?? String(failure);
      }
    }, EVERY);
  },
};
