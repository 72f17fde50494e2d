// The tab Model: what is served, how good it is, what its guards and monitors do, and the config.

import { make } from "../dom.js";
import { AccuracyView } from "../model/accuracy.js";
import { GuardsView, MonitorsView } from "../model/guards.js";
import { ServedView, config, report } from "../model/served.js";

const SECONDS = 5;

export const tab = {
  name: "model",
  title: "Model",
  start(element, { model, api, poll }) {
    const views = { served: new ServedView(model), accuracy: new AccuracyView(model), guards: new GuardsView(model), monitors: new MonitorsView(model) };
    element.append(make("h2", {}, "Model"), ...Object.values(views).map((view) => view.element), config(model), report());
    return poll(SECONDS, async () => {
      views.served.show(model);
      const [{ report: watched }, now] = await Promise.all([api.get("/console/data/monitors"), api.get("/console/data/now")]);
      const accuracy = Object.values(watched.monitors).find((monitor) => monitor.kind === "accuracy");
      if (accuracy) views.accuracy.show(accuracy);
      views.monitors.show(watched.monitors);
      views.guards.show(now);
    });
  },
};
