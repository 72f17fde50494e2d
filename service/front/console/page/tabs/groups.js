// The tab Groups: each groups monitor's rates and differences with intervals, and which outcomes are missing.

import { make } from "../dom.js";
import { GroupsView } from "../groups/view.js";
import { howToDeclare } from "../groups/declare.js";

const SECONDS = 5;

export const tab = {
  name: "groups",
  title: "Groups",
  start(element, { model, api, poll }) {
    const intro = make("p", { class: "soft" }, "Each bar is a 95 % interval that holds at every time at which somebody looks, so it is wider than an interval for one look. A difference between groups says nothing of its cause.");
    const views = new Map();
    element.append(make("h2", {}, "Groups"));
    if (!model.monitors.some((monitor) => monitor.kind === "groups")) {
      element.append(howToDeclare(model));
      return null;
    }
    const body = make("div", {}, make("p", { class: "soft" }, "The server computes the figures …"));
    element.append(intro, body);
    return poll(SECONDS, async () => {
      const { report } = await api.get("/console/data/monitors");
      show(report.monitors);
    });

    function show(monitors) {
      for (const [name, monitor] of Object.entries(monitors)) {
        if (monitor.kind !== "groups") continue;
        if (!views.has(name)) {
          if (!views.size) body.replaceChildren();
          const about = model.monitors.find((one) => one.name === name);
          views.set(name, new GroupsView(name, about?.settings ?? {}, model));
          body.append(views.get(name).element);
        }
        views.get(name).show(monitor, monitors);
      }
    }
  },
};
