// The state of the service, from its metrics, its readiness and its capabilities.
import { bytes, card, duration, facts, h, meter, number, plural, problem } from "./dom.js";
import * as api from "./api.js";

const REFRESH_MS = 5000;

// Prometheus text: {name: [{labels, value}]}.
function readMetrics(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match || line.startsWith("#")) continue;
    const labels = Object.fromEntries([...(match[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((pair) => [pair[1], pair[2]]));
    (found[match[1]] = found[match[1]] || []).push({ labels, value: Number(match[3]) });
  }
  return found;
}

const value = (metrics, name) => (metrics[name] ? metrics[name][0].value : undefined);

function tile(title, big, ...rest) {
  return h("div", { class: "tile" }, h("h3", null, title), h("p", { class: "big" }, big), ...rest);
}

function tiles(metrics) {
  const jobs = Object.fromEntries((metrics.onpd_jobs || []).map((one) => [one.labels.state, one.value]));
  const busy = value(metrics, "onpd_workers_busy"), workers = value(metrics, "onpd_workers");
  const free = value(metrics, "onpd_disk_free_bytes"), size = value(metrics, "onpd_disk_bytes");
  const start = value(metrics, "onpd_start_time_seconds");
  const requests = (metrics.onpd_http_requests_total || []).reduce((sum, one) => sum + one.value, 0);
  return h("div", { class: "tiles many" },
    tile("Workers busy", number(busy) + (workers === undefined ? "" : " of " + number(workers)), workers ? meter(busy / workers, "share of busy workers") : null),
    tile("Queue", number(jobs.queued), h("p", { class: "small muted" }, jobs.queued > 0 ? "waiting, the oldest for " + duration(value(metrics, "onpd_queue_age_seconds")) : "nothing waits")),
    free === undefined ? null : tile("Disk free", bytes(free), size ? meter(1 - free / size, "share of the disk in use") : null, size ? h("p", { class: "small muted" }, "of " + bytes(size)) : null),
    tile("Up for", start ? duration(Date.now() / 1000 - start) : "–", h("p", { class: "small muted" }, plural(requests, "request") + " answered")),
    tile("Connections", number(value(metrics, "onpd_http_connections")), h("p", { class: "small muted" }, bytes(value(metrics, "onpd_http_received_bytes_total")) + " received")));
}

const STAGES = ["load", "baseline", "expose", "graph", "search", "repair", "evaluate", "export"];

// How long a job spends where, on average over those that succeeded since the start.
function stageTimes(metrics) {
  const count = value(metrics, "onpd_jobs_timed_total");
  if (!count) return null;
  const seconds = Object.fromEntries((metrics.onpd_job_stage_seconds_total || []).map((one) => [one.labels.stage, one.value / count]));
  const sum = Object.values(seconds).reduce((all, one) => all + one, 0);
  return card("Where jobs spend their time", h("p", { class: "hint" }, `On average ${duration(sum)}, over ${plural(count, "job")} that succeeded since the start.`),
    h("ul", { class: "shares" }, STAGES.filter((name) => name in seconds).map((name) => h("li", null, h("span", null, name), meter(sum > 0 ? seconds[name] / sum : 0, name), h("span", { class: "num" }, duration(seconds[name]))))));
}

function jobCounts(metrics) {
  return card("Jobs by state", h("ul", { class: "counts" }, (metrics.onpd_jobs || []).map((one) => h("li", null, h("strong", null, number(one.value)), h("a", { href: "#/jobs?state=" + encodeURIComponent(one.labels.state) }, one.labels.state)))));
}

function walls(sandbox) {
  if (!sandbox) return null;
  const up = [[sandbox.landlock_abi > 0, "files"], [sandbox.system_calls, "system calls"], [sandbox.own_user, "user"], [sandbox.memory, "memory"]].filter(([is]) => is).map(([, word]) => word);
  return up.length ? up.join(", ") : "none";
}

async function readiness(signal) {
  try {
    await api.get("readyz", signal);
    return h("p", { class: "notice good" }, h("strong", null, "Ready"), " The server takes jobs.");
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return problem(error, "Not ready");
  }
}

export async function systemPage(root, { signal }) {
  const capabilities = await api.get("v1/capabilities", signal);
  const state = h("div"), numbers = h("div", { class: "stack" });
  const limits = capabilities.limits || {};
  const refresh = async () => {
    const [ready, metrics] = await Promise.all([readiness(signal), api.text("metrics", signal).then(readMetrics, (error) => error)]);
    if (signal.aborted) return;
    state.replaceChildren(ready);
    if (metrics instanceof Error) numbers.replaceChildren(problem(metrics, "The numbers cannot be shown"));
    else numbers.replaceChildren(...[card("Now", tiles(metrics)), jobCounts(metrics), stageTimes(metrics)].filter(Boolean));
  };
  root.append(h("div", { class: "head" }, h("h1", null, "System"), h("span", { class: "muted" }, capabilities.name + " " + capabilities.version)), state, numbers,
    card("What this server takes", facts([["Version", capabilities.version], ["Methods", capabilities.methods.map((one) => one.name).join(", ")], ["Models", (capabilities.formats || {}).model ? [].concat(capabilities.formats.model).join(", ") : null],
      ["Samples", (capabilities.formats || {}).samples ? [].concat(capabilities.formats.samples).join(", ") : null], ["Opsets", capabilities.opset ? capabilities.opset.min + " to " + capabilities.opset.max : null],
      ["Largest upload", bytes(limits.upload_bytes)], ["Largest store", limits.stored_bytes ? bytes(limits.stored_bytes) : null], ["Unfinished uploads kept", limits.upload_lifetime_s ? duration(limits.upload_lifetime_s) : null], ["Walls around jobs", walls(capabilities.sandbox)]]),
    h("details", null, h("summary", null, plural((capabilities.operators || []).length, "operator")), h("p", { class: "small" }, (capabilities.operators || []).join(", "))),
    h("p", { class: "small" }, h("a", { href: api.address("openapi.json") }, "Description of the interface"))));
  await refresh();
  (async () => {
    while (!signal.aborted) {
      await api.pause(REFRESH_MS, signal);
      if (!signal.aborted && !document.hidden) await refresh().catch(() => {});
    }
  })();
}
