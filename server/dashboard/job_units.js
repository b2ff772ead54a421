// The network as a strip a layer: pruned units marked, all units shaded by a figure, the figures of one unit on hover or by keys.
import { card, h, number, plural, svg } from "./dom.js";

const FEATURES = {
  l1: "L1 norm of the weights", in: "strength of what comes in", out: "strength of what goes out", lipschitz: "Lipschitz constant", mean: "mean on clean samples",
  deviation: "deviation on clean samples", gain: "gain after the repair", taylor_clean: "what pruning it costs on clean samples *",
  taylor_trigger: "what pruning it gains on triggers *", change: "change under the triggers *",
};

// Without the file of the units there is only the list of pruned ones.
function fromReport(report) {
  return { features: [], layers: report.pruned.map((one) => ({ layer: one.layer, pruned: one.channels, values: [], count: Math.max(...one.channels) + 1 })) };
}

const count = (layer) => (layer.values.length ? layer.values[0].length : layer.count);

// Ranks in [0, 1]: shades tell more units apart than values with a few giants would.
function ranks(values) {
  const order = values.map((value, i) => [value === null ? -Infinity : value, i]).sort((a, b) => a[0] - b[0]);
  const place = new Array(values.length);
  order.forEach(([, i], at) => { place[i] = values.length > 1 ? at / (values.length - 1) : 0; });
  return place;
}

// Names of layers without the folders that all of them share, and without a last part that all have; whole names are in the titles.
function shortNames(layers) {
  const parts = layers.map(({ layer }) => layer.split("/"));
  const shared = (at) => parts.every((one) => one.length > 1 && one.at(at) === parts[0].at(at));
  if (parts.length > 1 && shared(-1)) for (const one of parts) one.pop();
  while (parts.length > 1 && shared(0)) for (const one of parts) one.shift();
  return parts.map((one) => one.join("/"));
}

function strip(layer, name, widest, features, shadeBy, show) {
  const units = count(layer);
  const pruned = new Set(layer.pruned);
  const shades = shadeBy >= 0 ? ranks(layer.values[shadeBy]) : null;
  const picture = svg("svg", { class: "strip", viewBox: `0 0 ${units} 10`, preserveAspectRatio: "none", width: Math.max(4, (100 * units) / widest) + "%", height: 22, "aria-hidden": "true" });
  picture.append(svg("rect", { class: "ground", width: units, height: 10 }));
  for (let i = 0; i < units; i++) {
    if (!pruned.has(i) && !shades) continue;
    picture.append(svg("rect", { class: pruned.has(i) ? "cut" : "unit", x: i, width: 1, height: 10, "fill-opacity": pruned.has(i) ? 1 : (0.12 + 0.68 * shades[i]).toFixed(2) }));
  }
  const cursor = svg("rect", { class: "pick", width: 1, height: 10, visibility: "hidden" });
  picture.append(cursor);
  let at = -1;
  const pick = (unit) => {
    at = Math.max(0, Math.min(units - 1, unit));
    cursor.setAttribute("x", at);
    cursor.setAttribute("visibility", "visible");
    show(layer, at, pruned.has(at));
  };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    pick(Math.floor(((event.clientX - box.left) / box.width) * units));
  });
  const leave = () => cursor.setAttribute("visibility", "hidden");
  picture.addEventListener("pointerleave", leave);
  const label = `${layer.layer}: ${plural(units, "unit")}, ` + (pruned.size ? `pruned: ${layer.pruned.join(", ")}` : "none pruned") + ". Arrow keys go through the units.";
  const box = h("div", { class: "strip-box", tabindex: 0, role: "group", "aria-label": label, onblur: leave, onkeydown: (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -units, End: units }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    pick(at < 0 ? 0 : at + step);
  } }, picture);
  return h("div", { class: "layer" }, h("span", { class: "layer-name", title: layer.layer }, name), box, h("span", { class: pruned.size ? "layer-count cut" : "layer-count" }, pruned.size ? `${pruned.size} / ${units}` : String(units)));
}

export function unitStrip(report, file) {
  const data = file || fromReport(report);
  if (!data.layers.length) return card("Pruned units", h("p", { class: "muted" }, "No unit was pruned."));
  const widest = Math.max(...data.layers.map(count));
  const names = shortNames(data.layers);
  const details = h("div", { class: "unit-details", "aria-live": "polite" }, h("p", { class: "muted" }, "Point at a unit, or go to a layer with Tab and through its units with the arrow keys."));
  const rows = h("div", { class: "layers" });
  const show = (layer, unit, pruned) => {
    details.replaceChildren(h("p", null, h("strong", null, "unit " + unit), " of ", h("span", { class: "layer-name" }, layer.layer), pruned ? h("span", { class: "verdict bad" }, "pruned") : null),
      h("dl", { class: "facts tight" }, data.features.map((name, f) => h("div", null, h("dt", null, FEATURES[name] || name), h("dd", null, number(layer.values[f][unit]))))));
  };
  const paint = (shadeBy) => rows.replaceChildren(...data.layers.map((layer, i) => strip(layer, names[i], widest, data.features, shadeBy, show)));
  const start = Math.max(data.features.indexOf("change"), Math.min(0, data.features.length - 1));
  const select = h("select", { id: "shade", onchange: () => paint(Number(select.value)) }, h("option", { value: -1 }, "nothing"),
    data.features.map((name, i) => h("option", { value: i, selected: i === start }, (FEATURES[name] || name).replace(" *", ""))));
  paint(start);
  return card("Pruned units by layer", h("p", { class: "hint" }, `${plural(report.pruned_units, "unit")} pruned, in red, from the input (top) to the output.`),
    data.features.length ? h("div", { class: "field inline" }, h("label", { for: "shade" }, "Shade by"), select) : null, details, rows,
    data.features.includes("change") ? h("p", { class: "small muted" }, "* in deviations from the mean of the layer") : null);
}
