// What is served: the bundle, its rows, labels and limits, and the config as text.

import { copyButton, make } from "../dom.js";
import { number } from "../format.js";

const PLATFORMS = { pytorch_module: "a PyTorch module, built by code of the bundle", pytorch_export: "a program exported by torch.export" };
const NAMED = 12;

/** The list of what is served. */
export class ServedView {
  constructor(model) {
    this.ready = make("dd");
    this.element = make(
      "section",
      { "aria-label": "What is served" },
      make("h3", {}, "What is served"),
      make(
        "dl",
        { class: "facts" },
        ...fact("Model", `${model.name}, version ${model.version}`),
        make("dt", {}, "Ready"),
        this.ready,
        ...fact("Bundle", make("code", {}, model.bundle), " ", copyButton("the bundle id", () => model.bundle)),
        ...fact("Form", PLATFORMS[model.platform] ?? model.platform),
        ...fact("Task", task(model)),
        ...fact("Rows", rows(model)),
        ...fact("Limit", `${number(model.max_rows_per_request)} rows in a request`),
        ...fact("Mode", model.shadow ? "shadow: guards judge and are counted, and no answer changes" : "enforce: guards act on rows"),
        ...fact("Explanations", explanations(model.explain)),
        ...fact("Store", stored(model)),
      ),
      ...columns(model),
    );
    this.show(model);
  }

  /** Show whether the server can predict. */
  show({ ready, trouble }) {
    this.ready.textContent = ready ? "yes" : `no: ${trouble}`;
    this.ready.className = ready ? "good" : "act";
  }
}

/** Show the config. */
export function config(model) {
  return make(
    "section",
    { "aria-label": "Config" },
    make("h3", {}, "Config"),
    make("p", {}, "The config as the server uses it, with the default values of the keys that the file leaves out."),
    make("details", {}, make("summary", {}, "Show the config"), copyButton("the config", () => model.config), make("pre", { class: "scroll long", tabindex: "0", role: "region", "aria-label": "Config" }, make("code", {}, model.config))),
  );
}

/** Say how to get the report, which a server does not hold. */
export function report() {
  const command = "guardhouse report BUNDLE --config gateway.yaml --out report.html";
  return make(
    "section",
    { "aria-label": "Report" },
    make("h3", {}, "Report"),
    make("p", {}, "A server serves no report. This command writes one about the bundle: the data, over- and underfitting, calibration, what the guards find, groups, and the cost of each stage. Add --clean and --suspect with files of your own to test the promises on rows that no step has seen."),
    make("pre", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Command" }, make("code", {}, command)),
    copyButton("the command", () => command),
  );
}

function fact(name, ...value) {
  return [make("dt", {}, name), make("dd", {}, ...value)];
}

function explanations({ methods, method }) {
  const names = methods.map((each) => each.method);
  return names.length ? `${names.join(", ")}; ${method} if a request names none` : "no method is allowed";
}

function task({ task: kind, classes }) {
  if (!classes.length) return kind;
  const more = classes.length - NAMED;
  return `${kind} with ${number(classes.length)} labels: ${classes.slice(0, NAMED).join(", ")}${more > 0 ? ` and ${number(more)} more` : ""}`;
}

function rows({ rows: schema }) {
  if (schema.kind === "tabular") return `tables of ${number(schema.columns.length)} columns`;
  return `${schema.kind === "image" ? "images" : "tensors"} of shape [${schema.shape.join(", ")}]`;
}

function stored({ stores_rows: answers, stores_inputs: inputs }) {
  if (!answers) return "off: outcomes cannot be joined with rows";
  return inputs ? "answers, outcomes and inputs" : "answers and outcomes, no inputs";
}

function columns({ rows: { columns: all } }) {
  if (!all?.length) return [];
  const heads = ["column", "kind", "values", "missing"].map((head) => make("th", { scope: "col", class: "name" }, head));
  const lines = all.map((column) =>
    make(
      "tr",
      {},
      make("th", { scope: "row", class: "name" }, column.name),
      ...[column.kind, values(column), column.nullable ? "allowed" : "refused"].map((text) => make("td", { class: "name" }, text)),
    ),
  );
  const table = make("table", {}, make("thead", {}, make("tr", {}, heads)), make("tbody", {}, lines));
  const scroll = make("div", { class: "scroll long", tabindex: "0", role: "region", "aria-label": "Columns" }, table);
  return [make("details", {}, make("summary", {}, `Show the ${number(all.length)} columns`), scroll)];
}

function values({ kind, categories, minimum, maximum }) {
  if (kind === "categorical") {
    const more = categories.length - NAMED;
    return categories.slice(0, NAMED).join(", ") + (more > 0 ? ` and ${number(more)} more` : "");
  }
  const bounds = [minimum, maximum].map((bound) => (bound === null || bound === undefined ? null : number(bound)));
  if (bounds[0] !== null && bounds[1] !== null) return `${bounds[0]} to ${bounds[1]}`;
  if (bounds[0] !== null) return `at least ${bounds[0]}`;
  return bounds[1] !== null ? `at most ${bounds[1]}` : "any number";
}
