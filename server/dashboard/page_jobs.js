// The list of jobs. The first page is asked for again every few seconds; jobs that run are followed by their events.
import { DASH, TERMINAL, announce, badge, change, duration, h, meter, number, plural, problem, roughly, shortId, time, verdict } from "./dom.js";
import * as api from "./api.js";

const REFRESH_MS = 3000;
const PAGE = 50;
// A browser opens six connections to a server at most, for all its tabs together.
const STREAMS = 2;

const STATES = [["", "All"], ["queued", "Queued"], ["running", "Running"], ["succeeded", "Succeeded"], ["failed", "Failed"], ["cancelled", "Cancelled"]];
const FILTERS = ["state", "method", "label"];
const COLUMNS = ["Job", "State", "Progress", "Verdict", "Accuracy", "Attack success", "Created"];

// Names of models by their ids, asked for once each.
const names = new Map();
export function modelName(id, signal) {
  if (!names.has(id)) {
    names.set(id, api.get("v1/models/" + id, signal).then((model) => model.name || shortId(id), (error) => {
      if (error.status !== 404) names.delete(id);
      return "deleted model";
    }));
  }
  return names.get(id);
}

export function labels(job) {
  return Object.entries(job.labels || {}).map(([key, value]) => h("span", { class: "tag" }, value === "" ? key : key + "=" + value));
}

function progressCell(job) {
  const progress = job.progress || {};
  if (job.state === "queued") return [h("span", { class: "muted" }, "waiting")];
  if (TERMINAL.includes(job.state)) {
    const took = job.started_at && job.finished_at ? (new Date(job.finished_at) - new Date(job.started_at)) / 1000 : null;
    if (job.problem) return [h("span", { class: "clip muted", title: job.problem.message }, job.problem.message)];
    return [h("span", { class: "muted" }, took === null ? "" : "in " + duration(took))];
  }
  const eta = typeof progress.eta_s === "number" ? " · " + roughly(progress.eta_s) + " left" : "";
  return [meter(progress.fraction, "progress"), h("span", { class: "small muted" }, (progress.stage || "starting") + eta)];
}

class Row {
  constructor(job, signal) {
    this.name = h("a", { href: "#/jobs/" + job.id, class: "strong" }, shortId(job.id));
    this.cells = COLUMNS.map((title) => h("td", { role: "cell", "data-title": title }));
    this.cells[0].append(this.name, h("span", { class: "id" }, job.method + " · " + shortId(job.id)), ...labels(job));
    this.node = h("tr", { role: "row" }, this.cells);
    this.update(job);
    modelName(job.model_id, signal).then((name) => {
      this.name.textContent = name;
      this.name.title = name;
    }, () => {});
  }

  update(job) {
    const same = this.job && JSON.stringify(this.job) === JSON.stringify(job);
    this.job = job;
    const created = time(job.created_at);
    if (created.textContent !== this.cells[6].textContent) this.cells[6].replaceChildren(created);
    if (same) return;
    const summary = job.summary || {};
    this.cells[1].replaceChildren(badge(job.state));
    this.cells[2].replaceChildren(...progressCell(job));
    this.cells[3].replaceChildren(verdict(summary.verdict));
    this.cells[4].replaceChildren(change(summary.accuracy_before, summary.accuracy_after));
    this.cells[5].replaceChildren(change(summary.asr_before, summary.asr_after));
    for (const cell of this.cells) cell.classList.toggle("blank", ["", DASH].includes(cell.textContent));
  }
}

export async function jobsPage(root, { signal, query }) {
  const filter = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) || ""]));
  const filtered = FILTERS.some((name) => filter[name]);
  const rows = new Map();
  const streams = new Map();
  let after = null;

  const address = (changed) => {
    const words = new URLSearchParams(Object.entries({ ...filter, ...changed }).filter(([, value]) => value));
    return "#/jobs" + (words.size ? "?" + words : "");
  };
  const states = STATES.some(([state]) => state === filter.state) ? STATES : [...STATES, [filter.state, filter.state]];
  const body = h("tbody", { role: "rowgroup" });
  const empty = h("div", { class: "empty", hidden: true });
  const more = h("button", { type: "button", hidden: true, onclick: () => loadMore() }, "Show more");
  const trouble = h("div");
  const count = h("span", { class: "muted small", role: "status" });
  const label = h("input", { id: "label-filter", type: "search", placeholder: "team=vision", value: filter.label, autocomplete: "off" });
  const method = h("select", { id: "method-filter", onchange: () => { location.hash = address({ method: method.value }); } }, h("option", { value: "" }, "all"),
    filter.method ? h("option", { value: filter.method, selected: true }, filter.method) : null);
  api.get("v1/capabilities", signal).then((about) => method.append(...about.methods.filter((one) => one.name !== filter.method).map((one) => h("option", { value: one.name }, one.name))), () => {});
  root.append(
    h("div", { class: "head" }, h("h1", null, "Jobs"), h("a", { class: "button primary", href: "#/new" }, "New job")),
    h("div", { class: "filters" },
      h("div", { class: "chips", role: "group", "aria-label": "State" }, states.map(([state, text]) =>
        h("a", { class: "chip", href: address({ state }), "aria-current": state === filter.state ? "true" : null }, text))),
      h("div", { class: "field inline" }, h("label", { for: "method-filter" }, "Method"), method),
      h("form", { class: "inline", onsubmit: (event) => {
        event.preventDefault();
        location.hash = address({ label: label.value.trim() });
      } }, h("label", { for: "label-filter" }, "Label"), label, h("button", { type: "submit" }, "Filter")),
      count),
    trouble,
    h("div", { class: "card flush" }, h("table", { class: "jobs", role: "table", "aria-label": "Jobs" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, COLUMNS.map((title) => h("th", { role: "columnheader", scope: "col" }, title)))), body), empty),
    h("div", { class: "actions center" }, more));

  const page = (from) => {
    const words = new URLSearchParams({ limit: PAGE });
    for (const name of FILTERS) if (filter[name]) words.set(name, filter[name]);
    if (from) words.set("after", from);
    return api.get("v1/jobs?" + words, signal);
  };

  function put(job) {
    if (rows.has(job.id)) return rows.get(job.id).update(job);
    const row = new Row(job, signal);
    rows.set(job.id, row);
    // Newest first; ids grow with time.
    const next = [...body.children].find((node) => node.dataset.id < job.id);
    row.node.dataset.id = job.id;
    body.insertBefore(row.node, next || null);
    return undefined;
  }

  function drop(id) {
    rows.get(id).node.remove();
    rows.delete(id);
  }

  function tell() {
    empty.hidden = rows.size > 0;
    if (!empty.hidden && empty.textContent === "") {
      empty.append(h("h2", null, filtered ? "No job matches." : "No jobs yet."), h("p", { class: "muted" }, filtered ? "None has this state, method and label." : "Upload a model and a few hundred clean images: a job finds the neurons of a backdoor and prunes them."),
        filtered ? h("a", { class: "button", href: "#/jobs" }, "Show all jobs") : h("a", { class: "button primary", href: "#/new" }, "Start the first one"));
    }
    more.hidden = after === null;
    count.textContent = rows.size ? (after === null ? plural(rows.size, "job") : "the newest " + number(rows.size)) : "";
  }

  // Follows what runs; a stream also tells when its job is over.
  function follow() {
    for (const [id, row] of rows) {
      if (streams.size >= STREAMS) return;
      if (streams.has(id) || !["running", "starting", "cancelling"].includes(row.job.state) || document.hidden) continue;
      const stop = new AbortController();
      signal.addEventListener("abort", () => stop.abort());
      streams.set(id, stop);
      api.events(id, (type, data) => {
        const live = rows.get(id);
        if (!live) return stop.abort();
        // A stream begins with what was; the row is newer than that.
        if (type === "progress" && !TERMINAL.includes(live.job.state) && data.time >= live.job.updated_at) live.update({ ...live.job, progress: data.data });
        if (type === "done") {
          live.update(data);
          announce("Job of " + live.name.textContent + " " + data.state);
        }
        return undefined;
      }, stop.signal).catch(() => {}).finally(() => streams.delete(id));
    }
  }

  async function refresh() {
    const first = await page(null);
    const seen = new Set(first.data.map((job) => job.id));
    const oldest = first.has_more ? first.next_after : "";
    for (const job of first.data) put(job);
    for (const id of [...rows.keys()]) if (!seen.has(id) && id >= oldest) drop(id);
    if (after === null && first.has_more && rows.size <= first.data.length) after = first.next_after;
    // Jobs further down that are not over yet.
    const stale = [...rows.values()].filter((row) => !seen.has(row.job.id) && !TERMINAL.includes(row.job.state) && !streams.has(row.job.id)).slice(0, 5);
    for (const row of stale) {
      const job = await api.get("v1/jobs/" + row.job.id, signal);
      if (filter.state && job.state !== filter.state) drop(job.id);
      else put(job);
    }
    tell();
    follow();
  }

  async function loadMore() {
    more.disabled = true;
    try {
      const next = await page(after);
      for (const job of next.data) put(job);
      after = next.has_more ? next.next_after : null;
      trouble.replaceChildren();
      tell();
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(problem(error));
    }
    more.disabled = false;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) for (const stop of streams.values()) stop.abort();
  }, { signal });

  await refresh();
  (async () => {
    while (!signal.aborted) {
      await api.pause(REFRESH_MS, signal);
      if (signal.aborted || document.hidden) continue;
      try {
        await refresh();
        trouble.replaceChildren();
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 401) return; // the page starts anew with the next token
        trouble.replaceChildren(problem(error, "The list is not up to date"));
      }
    }
  })();
}
