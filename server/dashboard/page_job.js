// One job: followed from its first event on, then with its report.
import { TERMINAL, announce, badge, bytes, card, confirm, duration, facts, h, meter, number, percent, plural, problem, roughly, shortId, time, verdict } from "./dom.js";
import * as api from "./api.js";
import { labels, modelName } from "./page_jobs.js";
import { figures, rewardChart, sizesByClass, timeline, triggerPictures } from "./job_parts.js";
import { unitStrip } from "./job_units.js";

const DOWNLOADS = {
  "model.onnx": "the repaired model", "report.json": "the report", "mask.json": "which units are pruned", "trace.jsonl": "what happened, line by line",
  "triggers.json": "the triggers found, as pixels", "units.json": "figures of each unit",
};

function statusCard(live) {
  const { job } = live;
  const progress = job.progress || {};
  const parts = [];
  if (!TERMINAL.includes(job.state)) {
    const eta = typeof progress.eta_s === "number" ? "about " + roughly(progress.eta_s) + " left" : job.state === "queued" ? "waiting for a worker" : "";
    parts.push(h("div", { class: "progress-line" }, meter(progress.fraction, "progress of the job"), h("strong", null, percent(progress.fraction, 0))),
      h("p", { class: "muted" }, [progress.message, eta].filter(Boolean).join(" · ")));
  }
  if (job.problem) {
    parts.push(h("div", { class: "notice bad" }, h("strong", null, job.state === "failed" ? "The job failed" : "What happened"), h("p", null, job.problem.message),
      job.problem.where ? h("p", { class: "small" }, "at ", h("code", null, job.problem.where)) : null));
  }
  return [...parts, timeline(live)];
}

const order = (file) => (Object.keys(DOWNLOADS).indexOf(file.name) + 100) % 100;

function downloads(id, artifacts) {
  return card("Downloads", h("ul", { class: "files" }, [...artifacts].sort((a, b) => order(a) - order(b)).map((file) => {
    const path = "v1/jobs/" + id + "/artifacts/" + file.name;
    const link = h("a", { href: api.address(path), download: file.name }, file.name);
    const trouble = h("span", { class: "small" });
    link.addEventListener("click", (event) => {
      if (!api.hasToken()) return; // the browser does it better
      event.preventDefault();
      api.download(path, file.name).catch((error) => { trouble.textContent = error.message; });
    });
    return h("li", null, link, h("span", { class: "muted small" }, (DOWNLOADS[file.name] || "") + " · " + bytes(file.size)), trouble);
  })));
}

function about(job, report) {
  const origin = (report && report.provenance) || {};
  const parameters = Object.entries(origin.parameters || job.parameters || {});
  const samples = (id) => (id ? h("a", { href: "#/samples" }, shortId(id)) : null);
  return card("About this job", facts([["Method", job.method], ["Model", h("a", { href: "#/models/" + job.model_id }, shortId(job.model_id))], ["Samples", samples(job.samples_id)],
    ["Triggered samples", samples(job.probe_id)], ["Seed", String(job.seed)], ["Priority", job.priority ? number(job.priority) : null],
    ["Created", time(job.created_at)], ["Attempt", job.attempt > 1 ? number(job.attempt) + " of " + number(job.max_attempts) : null],
    ["Labels", Object.keys(job.labels || {}).length ? h("span", null, labels(job)) : null], ["Deadline", job.deadline_s ? duration(job.deadline_s) : null], ["Took", report && report.seconds ? duration(report.seconds.total) : null], ["Version", origin.version], ["Backend", origin.backend ? origin.backend + ", " + plural(origin.threads, "thread") : null],
    ["Processor", origin.cpu], ["Memory at most", origin.peak_memory_bytes ? bytes(origin.peak_memory_bytes) : null],
    ["Model SHA-256", report ? h("code", { class: "hash" }, report.model.sha256) : null], ["Samples SHA-256", report ? h("code", { class: "hash" }, report.samples.sha256) : null]]),
  parameters.length ? h("details", null, h("summary", null, "Parameters"), facts(parameters.map(([name, value]) => [name, h("code", null, String(value))]))) : null);
}

async function showReport(top, place, job, signal) {
  const base = "v1/jobs/" + job.id;
  const report = await api.get(base + "/result", signal);
  const { data: artifacts } = await api.get(base + "/artifacts", signal);
  const has = (name) => artifacts.some((file) => file.name === name);
  const [triggers, units] = await Promise.all(["triggers.json", "units.json"].map((name) => (has(name) ? api.get(base + "/artifacts/" + name, signal) : null)));
  top.replaceChildren(figures(report));
  place.replaceChildren(...[sizesByClass(report), triggers ? triggerPictures(triggers, report) : null, unitStrip(report, units), downloads(job.id, artifacts), about(job, report)].filter(Boolean));
  return report;
}

export async function jobPage(root, { signal, id }) {
  const live = { job: await api.get("v1/jobs/" + id, signal), starts: [], curve: [], greedy: null, report: null };
  const title = h("h1", null, shortId(id));
  const state = h("span", { class: "head-state" });
  const buttons = h("div", { class: "actions" });
  const status = h("div");
  const search = h("section", { class: "card", hidden: true });
  const top = h("div", { class: "stack" });
  const report = h("div", { class: "stack" });
  const trouble = h("div");
  const chart = rewardChart(live);
  search.append(h("h2", null, "Search"), h("p", { class: "hint" }, "The reward of a mask: 0 is a network that behaves on triggered images exactly as it did on clean ones."), chart.node);
  root.append(h("p", { class: "crumb" }, h("a", { href: "#/jobs" }, "← Jobs")), h("div", { class: "head" }, h("div", null, title, h("p", { class: "id" }, id)), state, buttons), trouble,
    h("section", { class: "card" }, h("h2", null, "Course"), status), top, search, report);
  modelName(live.job.model_id, signal).then((name) => {
    title.textContent = name;
    document.title = name + " · onp";
  }, () => {});

  async function act(path) {
    trouble.replaceChildren();
    try {
      return await api.post("v1/jobs/" + id + path);
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(problem(error));
      return null;
    }
  }

  const cancel = h("button", { type: "button", class: "danger", onclick: async () => {
    cancel.disabled = true;
    const now = await act("/cancel");
    if (now) take(now);
    else cancel.disabled = false;
  } }, "Cancel");

  let shown = "";
  function paintHead() {
    const { job } = live;
    const key = job.state + (job.summary ? job.summary.verdict : "");
    if (key === shown) return;
    shown = key;
    state.replaceChildren(badge(job.state), ...(job.summary ? [verdict(job.summary.verdict)] : []));
    const list = [];
    if (!TERMINAL.includes(job.state)) {
      if (job.state === "cancelling") cancel.disabled = true;
      if (cancel.isConnected) return; // put in anew between press and release, it would lose the click
      list.push(cancel);
    }
    if (job.state === "failed" || job.state === "cancelled") {
      list.push(h("button", { type: "button", class: "primary", onclick: async () => {
        const again = await act("/retry");
        if (again) location.hash = "#/jobs/" + again.id;
      } }, "Retry"));
    }
    list.push(h("a", { class: "button", href: "#/new?like=" + id }, "New job like this"));
    if (TERMINAL.includes(job.state)) {
      list.push(h("button", { type: "button", class: "danger", onclick: async () => {
        if (await confirm("Delete this job?", "Its report, the repaired model and all its other files will be gone. The model and the samples that it was given stay.", "Delete", () => api.remove("v1/jobs/" + id))) location.hash = "#/jobs";
      } }, "Delete"));
    }
    buttons.replaceChildren(...list);
  }

  let planned = false;
  function paint() {
    if (planned || signal.aborted) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      paintHead();
      status.replaceChildren(...statusCard(live));
      search.hidden = live.curve.length === 0;
      if (!search.hidden) chart.update();
    });
  }

  // What a job is answered to be while it ends may come in after the event that it has ended.
  function take(job) {
    if (TERMINAL.includes(live.job.state) && !TERMINAL.includes(job.state)) return;
    live.job = job;
    paint();
  }

  function onEvent(type, event) {
    if (type === "done") {
      take(event);
      announce("The job " + event.state);
      if (event.state === "succeeded") showResult(event);
      else report.replaceChildren(about(event, null));
      return;
    }
    if (type === "state") {
      if (event.data.state === "starting") {
        live.starts = [];
        live.curve = [];
      }
      if (!TERMINAL.includes(live.job.state) && event.time >= live.job.updated_at) live.job = { ...live.job, state: event.data.state };
    }
    if (type === "progress") {
      const data = event.data;
      if (!live.starts.some((one) => one.stage === data.stage)) live.starts.push({ stage: data.stage, at: Date.parse(event.time) });
      const last = live.curve[live.curve.length - 1];
      if (typeof data.best_reward === "number" && data.evaluations > 0 && (!last || data.evaluations > last.evaluations)) {
        live.curve.push({ evaluations: data.evaluations, best: data.best_reward, mean: data.mean_reward });
      }
      if (typeof data.greedy_reward === "number") live.greedy = data.greedy_reward;
      if (!TERMINAL.includes(live.job.state) && event.time >= live.job.updated_at) live.job = { ...live.job, state: live.job.state === "queued" ? "running" : live.job.state, progress: data };
    }
    paint();
  }

  async function showResult(job) {
    try {
      live.report = await showReport(top, report, job, signal);
      const found = live.report.search || {};
      if (found.curve && found.curve.length) live.curve = found.curve;
      paint();
    } catch (error) {
      if (!signal.aborted && error.name !== "AbortError") report.replaceChildren(problem(error, "The result cannot be shown"));
    }
  }

  paint();
  if (live.job.state !== "succeeded") report.replaceChildren(about(live.job, null));
  api.events(id, onEvent, signal).catch((error) => {
    if (!signal.aborted && error.status !== 401) trouble.replaceChildren(problem(error, "The job can no longer be followed"));
  });
}
