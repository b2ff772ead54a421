// The parts of a job's page that show its course and its report.
import { DASH, TERMINAL, card, duration, h, number, percent, plural } from "./dom.js";
import { beforeAfter, legend, lineChart, pairBars } from "./charts.js";
import { difference, patch, picture, unpack } from "./pixels.js";

const STAGES = [["load", "Load"], ["baseline", "Baseline"], ["expose", "Expose"], ["graph", "Graph"], ["search", "Search"], ["repair", "Repair"], ["evaluate", "Evaluate"], ["export", "Export"]];

// Which stages are done, how long each took, and which is on.
export function timeline({ job, starts, report }) {
  const over = TERMINAL.includes(job.state);
  const at = job.state === "succeeded" ? STAGES.length : STAGES.findIndex(([name]) => name === (job.progress || {}).stage);
  const seconds = (name) => {
    if (report && report.seconds) return report.seconds[name];
    const i = starts.findIndex((one) => one.stage === name);
    if (i < 0) return null;
    const end = i + 1 < starts.length ? starts[i + 1].at : job.finished_at ? Date.parse(job.finished_at) : null;
    return end === null ? null : (end - starts[i].at) / 1000;
  };
  return h("ol", { class: "timeline", "aria-label": "Stages" }, STAGES.map(([name, text], i) => {
    const kind = i < at ? "done" : i > at || at < 0 ? "todo" : over ? "stopped" : "now";
    const took = kind === "done" || kind === "stopped" ? seconds(name) : null;
    return h("li", { class: kind, "aria-current": kind === "now" ? "step" : null }, h("span", { class: "knob", "aria-hidden": "true" }), h("span", { class: "stage" }, text),
      h("span", { class: "small muted" }, kind === "now" ? "running" : kind === "stopped" ? "stopped here" : took === null ? "" : duration(took)),
      kind === "done" ? h("span", { class: "unseen" }, "done") : null);
  }));
}

// Levels in the order of their worth to a reader; each has a dash of its own, so that equal ones are all seen.
const LEVELS = [["greedy", "greedy start"], ["random", "random search"], ["ppo", "policy (PPO)"]];

export function rewardChart(live) {
  const found = () => (live.report && live.report.search && live.report.search.reward) || {};
  const levels = () => LEVELS.map(([tone, name]) => ({ name, tone, y: typeof found()[tone] === "number" ? found()[tone] : tone === "greedy" ? live.greedy : null })).filter((level) => typeof level.y === "number");
  const data = () => ({
    x: "masks scored", y: "reward", levels: levels(),
    series: [{ name: "best", tone: "best", points: live.curve.map((point) => [point.evaluations, point.best]) },
      { name: "mean of the policy", tone: "mean", dips: true, points: live.curve.filter((point) => typeof point.mean === "number").map((point) => [point.evaluations, point.mean]) }],
  });
  const chart = lineChart("Reward against masks scored", data);
  const words = h("p", { class: "small muted" });
  const key = h("div");
  return {
    node: h("div", null, key, chart, words),
    update() {
      const last = live.curve[live.curve.length - 1], random = live.report && live.report.search && live.report.search.random_evaluations;
      key.replaceChildren(legend([{ name: "best " + number(last.best), tone: "best" }, { name: "mean of the policy", tone: "mean" }, ...levels().map((level) => ({ ...level, name: level.name + " " + number(level.y), dashed: true }))]));
      words.textContent = `Best after ${plural(last.evaluations, "mask")}: ${number(last.best)}.` + (typeof found().none === "number" ? ` With nothing pruned: ${number(found().none)}.` : "") + (random ? ` Random search had ${plural(random, "mask")}.` : "");
      chart.redraw();
    },
  };
}

function tile(title, value, ...rest) {
  return h("div", { class: "tile" }, h("h3", null, title), value ? h("p", { class: "big" }, value) : null, ...rest);
}

export function figures(report) {
  const { accuracy, probe } = report;
  const interval = accuracy.interval_after;
  return card("Before and after", h("div", { class: "tiles" },
    tile("Accuracy on clean samples", percent(accuracy.after), beforeAfter("Accuracy before and after", accuracy.before, accuracy.after),
      h("p", { class: "small muted" }, `95 % interval ${percent(interval[0])} to ${percent(interval[1])}; on samples kept aside ${percent(accuracy.locked_before)} → ${percent(accuracy.locked_after)}`)),
    probe ? tile("Attack success", percent(probe.asr_after), beforeAfter("Attack success before and after", probe.asr_before, probe.asr_after),
      h("p", { class: "small muted" }, `Triggered images seen rightly: ${percent(probe.recovery_before)} → ${percent(probe.recovery_after)}`))
      : tile("Attack success", DASH, h("p", { class: "small muted" }, "Not measured: no triggered samples were given.")),
    tile("Pruned units", number(report.pruned_units), h("p", { class: "small muted" }, `of ${number(report.model.units)} (${percent(report.pruned_units / Math.max(1, report.model.units), 2)})`))));
}

const FAMILY_UNITS = { patch: "pixels that the trigger costs", additive: "loss at the bound", warp: "loss at the bound", tone: "loss" };

// A trigger that sends each class to another one has no single target; what it does is a map.
function eachToAnother(found) {
  if (!found) return null;
  const to = found.map || [];
  const rows = () => [{ name: "all", suspect: true, before: found.size_before, after: found.size_after }];
  if (!found.suspect) return h("p", { class: "small muted" }, `No trigger that sends each class to another one stands out: the smallest, of family ${found.family}, has size ${number(found.size_before, 2)} and moves ${percent(found.success)} of the images.`);
  const chart = pairBars("Size of the all-to-all trigger", rows);
  chart.redraw();
  return h("div", { class: "everyone" }, h("h3", null, "⚠ All-to-all: one " + found.family + " trigger sends each class to another"),
    h("p", { class: "small muted" }, `Size ${number(found.size_before, 2)} before` + (typeof found.size_after === "number" ? ` and ${number(found.size_after, 2)} after the repair` : "") + `; it moves ${percent(found.success)} of the images.`), chart,
    h("ul", { class: "map", "aria-label": "Where each class is sent" }, to.map((goal, from) => h("li", null, h("span", null, String(from)), h("span", { class: "arrow", "aria-label": "to" }, "→"), h("strong", null, goal === null ? "away" : String(goal))))));
}

export function sizesByClass(report) {
  if (!report.exposure) return null; // a method that looks for no trigger
  const { classes, suspects } = report.exposure;
  const families = [...new Set(classes.flatMap((one) => Object.keys(one.families || {})))];
  if (!families.length) return null;
  const suspect = classes.find((one) => suspects.includes(one.class));
  let family = suspect ? suspect.family : families[0];
  const rows = () => classes.filter((one) => one.families && one.families[family]).map((one) => ({
    name: "class " + one.class, suspect: one.family === family && suspects.includes(one.class), before: one.families[family].size, after: one.family === family ? one.size_after : null }));
  const chart = pairBars("Trigger size by class", rows);
  const words = h("p", { class: "small muted" });
  const paint = () => {
    const marked = rows().filter((row) => row.suspect);
    words.textContent = "Bars: " + (FAMILY_UNITS[family] || "size") + ". " + (marked.length ? "Suspected: " + marked.map((row) => row.name + ", " + number(row.before, 2) +
      (typeof row.after === "number" ? " before and " + number(row.after, 2) + " after" : "")).join("; ") + "." : "No class stands out here.");
    chart.redraw();
  };
  const choice = h("div", { class: "chips", role: "group", "aria-label": "Kind of trigger" }, families.map((name) => h("button", {
    type: "button", class: "chip", "aria-pressed": String(name === family), onclick: (event) => {
      family = name;
      for (const button of choice.children) button.setAttribute("aria-pressed", String(button === event.target));
      paint();
    } }, name)));
  paint();
  return card("How small a trigger reaches each class", h("p", { class: "hint" }, "A class that a much smaller trigger reaches than the others is the target of a backdoor. After the repair it must cost as much as any other."),
    choice, h("div", { class: "scroll-y", tabindex: 0, role: "group", "aria-label": "Trigger size by class" }, chart),
    h("ul", { class: "legend" }, [["suspect", "suspected, before"], ["before", "other classes"], ["after", "after the repair"]].map(([tone, text]) => h("li", null, h("span", { class: "swatch " + tone }), text))), words, eachToAnother(report.exposure.all_to_all));
}

function trigger(one, shape) {
  const clean = unpack(one.clean), triggered = unpack(one.triggered);
  const to = one.class === null ? "each class to another" : "class " + one.class;
  const delta = difference(shape, Array.from(clean), triggered, "the difference that the trigger makes");
  const figure = (canvas, text) => h("figure", null, canvas, h("figcaption", null, text));
  return h("div", { class: "trigger" }, h("h3", null, one.family + " → " + to), h("p", { class: "small muted" }, `size ${number(one.size, 2)}, sends ${percent(one.success)} of other images there`),
    h("div", { class: "figures" }, figure(picture(shape, clean, "a clean sample"), "sample"), figure(picture(shape, triggered, "the sample with the trigger"), "with trigger"),
      one.mask ? figure(patch(shape, unpack(one.mask), unpack(one.pattern), "the inverted trigger: its pattern where its mask is"), "trigger")
        : figure(delta.canvas, "difference × " + number(delta.times, 1))));
}

export function triggerPictures(file) {
  if (!file.triggers.length) return null;
  const shape = { channels: file.channels, height: file.height, width: file.width };
  return card("Triggers found", h("p", { class: "hint" }, "Inverted from clean samples alone: what sends images to the suspected class."), h("div", { class: "triggers" }, file.triggers.map((one) => trigger(one, shape))));
}
