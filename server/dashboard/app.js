// Pages by the part of the address after "#", the token dialog, the colours.
import { announce, h, problem } from "./dom.js";
import * as api from "./api.js";
import { jobsPage } from "./page_jobs.js";
import { newPage } from "./page_new.js";
import { jobPage } from "./page_job.js";
import { modelsPage, modelPage } from "./page_models.js";
import { samplesPage } from "./page_samples.js";
import { systemPage } from "./page_system.js";

// A page fills `root` and stops what it started when `signal` aborts.
const ROUTES = [
  [/^\/jobs$/, jobsPage, "Jobs", "#/jobs"],
  [/^\/jobs\/(job_[0-9A-Z]{26})$/, jobPage, "Job", "#/jobs"],
  [/^\/new$/, newPage, "New job", "#/new"],
  [/^\/models$/, modelsPage, "Models", "#/models"],
  [/^\/models\/(mdl_[0-9A-Z]{26})$/, modelPage, "Model", "#/models"],
  [/^\/samples$/, samplesPage, "Samples", "#/samples"],
  [/^\/system$/, systemPage, "System", "#/system"],
];

const main = document.getElementById("main");
const dialog = document.getElementById("token-dialog");
const forget = document.getElementById("forget");
let current = null;

function mark(target) {
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.getAttribute("href") === target) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function show(moved) {
  const [path, query] = (location.hash.slice(1) || "/jobs").split("?");
  if (current) current.abort();
  current = new AbortController();
  const signal = current.signal;
  const found = ROUTES.map(([pattern, page, title, tab]) => ({ match: pattern.exec(path), page, title, tab })).find((one) => one.match);
  const root = h("div", { class: "page" });
  main.replaceChildren(root);
  forget.hidden = !api.hasToken();
  mark(found ? found.tab : "");
  document.title = (found ? found.title : "Not found") + " · onp";
  if (moved) {
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
    announce(found ? found.title : "Not found");
  }
  if (!found) {
    root.append(h("h1", null, "Not found"), h("p", null, "There is no such page. ", h("a", { href: "#/jobs" }, "To the jobs")));
    return;
  }
  try {
    await found.page(root, { signal, id: found.match[1], query: new URLSearchParams(query || "") });
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (error.status !== 401) root.replaceChildren(h("h1", null, found.title), problem(error));
  }
}

// --- token ---

api.onTokenWanted((hadOne) => {
  document.getElementById("token-why").textContent = hadOne ? "The token was not accepted: it is wrong, was revoked or has expired." : "This server asks for a token.";
  forget.hidden = true;
  if (!dialog.open) dialog.showModal();
});

document.getElementById("token-form").addEventListener("submit", () => {
  const field = document.getElementById("token-field");
  api.setToken(field.value.trim());
  field.value = "";
  show(false);
});

forget.addEventListener("click", () => {
  api.setToken(null);
  show(false);
});

// --- colours: as the system, or as chosen ---

const THEMES = { auto: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };

function paint(theme) {
  const button = document.getElementById("theme");
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.textContent = THEMES[theme][0];
  button.setAttribute("aria-label", "Colours: " + THEMES[theme][1]);
  button.title = "Colours: " + THEMES[theme][1];
}

let theme = localStorage.getItem("onp-theme");
if (!(theme in THEMES)) theme = "auto";
paint(theme);
document.getElementById("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  localStorage.setItem("onp-theme", theme);
  paint(theme);
});

api.onConnection((reached) => {
  const sign = document.getElementById("connection");
  sign.textContent = reached ? "" : "not connected";
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part after "#" names pages here
  main.focus();
});

window.addEventListener("hashchange", () => show(true));
show(false);
