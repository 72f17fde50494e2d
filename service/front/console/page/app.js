// The console's frame: the key, the tabs, and what every tab needs.

import { api, useKey, whenKeyIsNeeded } from "./api.js";

// The modules under tabs/, in the order of the tabs.
const MODULES = ["try", "now", "drift", "groups", "model"];
const MODEL_SECONDS = 5;

const at = (id) => document.getElementById(id);
let tabs = [];
let context = null;
let stop = null;
let shown = null;

// Say what is wrong in the line for alerts; null: nothing is wrong.
function say(sentence) {
  const line = at("trouble");
  if (line.textContent !== (sentence ?? "")) line.textContent = sentence ?? "";
  line.hidden = sentence === null;
}

function describe(model) {
  document.title = `${model.name} · Guardhouse`;
  at("title").textContent = model.name;
  const task = model.classes.length ? `${model.task} into ${model.classes.length} classes` : model.task;
  const mode = model.shadow ? " · shadow mode: guards are counted and act on no row" : "";
  at("subtitle").textContent = `version ${model.version} · ${task}${mode}`;
  say(model.ready ? null : notReady(model.trouble));
}

const notReady = (trouble) => `The server cannot predict now: ${trouble}`;

const sentenceOf = (fault) => {
  if (fault.status === undefined) return `The page has an error: ${fault.message}`;
  return fault.status === 503 ? notReady(fault.detail) : fault.detail;
};

// Call `work` now and every so many seconds, but not while the page is hidden; gives a function that ends it.
export function poll(seconds, work) {
  let timer = null;
  let ended = false;
  const round = async () => {
    clearTimeout(timer);
    if (ended || document.hidden) return;
    try {
      await work();
    } catch (fault) {
      say(sentenceOf(fault));
    }
    if (!ended) {
      clearTimeout(timer);
      timer = setTimeout(round, 1000 * seconds);
    }
  };
  document.addEventListener("visibilitychange", round);
  round();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", round);
  };
}

function show(name) {
  const tab = tabs.find((each) => each.name === name) ?? tabs[0];
  if (tab === undefined || tab === shown) return;
  stop?.();
  shown = tab;
  const panel = at("panel");
  for (const button of at("tabs").children) {
    const selected = button.id === `tab-${tab.name}`;
    button.setAttribute("aria-selected", String(selected));
    button.tabIndex = selected ? 0 : -1;
  }
  panel.replaceChildren();
  panel.setAttribute("aria-labelledby", `tab-${tab.name}`);
  panel.dataset.tab = tab.name;
  const element = document.createElement("div");
  panel.append(element);
  stop = tab.start(element, context) ?? null;
}

function makeTabs() {
  at("panel").setAttribute("role", "tabpanel");
  at("tabs").replaceChildren(...tabs.map((tab) => {
    const button = document.createElement("button");
    button.id = `tab-${tab.name}`;
    button.type = "button";
    button.textContent = tab.title;
    button.setAttribute("role", "tab");
    button.setAttribute("aria-controls", "panel");
    button.addEventListener("click", () => { location.hash = tab.name; });
    return button;
  }));
  at("tabs").hidden = false;
}

at("tabs").addEventListener("keydown", (event) => {
  const place = tabs.indexOf(shown);
  const places = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 };
  if (!(event.key in places)) return;
  event.preventDefault();
  const next = tabs[(places[event.key] + tabs.length) % tabs.length];
  at(`tab-${next.name}`).focus();
  location.hash = next.name;
});

addEventListener("hashchange", () => show(location.hash.slice(1)));

function askForKey(sentence) {
  at("login").hidden = false;
  say(sentence);
  at("key").focus();
}

whenKeyIsNeeded((refused) => askForKey(refused ? "This key is not known to the server." : null));

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value.trim());
  at("key").value = "";
  at("login").hidden = true;
  say(null);
  begin();
});

// Read what is served, then open the tabs; while the server cannot say it, ask again.
async function begin() {
  try {
    const model = await api.get("/console/data/model");
    describe(model);
    if (context === null) {
      context = { model, api, poll, say };
      const modules = await Promise.allSettled(MODULES.map((name) => import(`./tabs/${name}.js`)));
      tabs = modules.filter((each) => each.status === "fulfilled").map((each) => each.value.tab);
      makeTabs();
      poll(MODEL_SECONDS, async () => {
        const now = await api.get("/console/data/model");
        Object.assign(context.model, now);
        describe(now);
      });
    } else {
      Object.assign(context.model, model);
    }
    shown = null;
    show(location.hash.slice(1));
  } catch (fault) {
    if (fault.status === 401) return;
    if (fault.status === 403) {
      askForKey(`${fault.detail}: use another key.`);
      return;
    }
    say(sentenceOf(fault));
    setTimeout(begin, 1000 * MODEL_SECONDS);
  }
}

begin();
