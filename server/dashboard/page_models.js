// Models: the list, and one with its graph of neurons.
import { bytes, card, confirm, facts, h, number, plural, problem, shortId, svg, table, time } from "./dom.js";
import * as api from "./api.js";

const COLUMNS = ["Name", "Input", "Classes", "Parameters", "Units", "Layers", "Size", "Uploaded"];

export async function modelsPage(root, { signal }) {
  const models = await api.all("v1/models", 1000, signal);
  const cells = (model) => {
    const info = model.info || {};
    const input = info.inputs && info.inputs[0];
    return [h("span", null, h("a", { class: "strong", href: "#/models/" + model.id }, model.name || shortId(model.id)), h("span", { class: "id" }, shortId(model.id))), input ? input.shape.join(" × ") : "", number(info.classes), number(info.parameters), number(info.units), number(info.layers), bytes(model.size), time(model.created_at)];
  };
  root.append(h("div", { class: "head" }, h("h1", null, "Models"), h("a", { class: "button", href: "#/new" }, "New job")),
    models.length ? table("Models", COLUMNS, models.map(cells))
      : h("div", { class: "card empty" }, h("h2", null, "No models yet"), h("p", { class: "muted" }, "An ONNX image classifier is uploaded together with its samples, for a job."), h("a", { class: "button primary", href: "#/new" }, "Upload one")));
}

const DOTS = 40; // of a layer; of larger ones every n-th unit is drawn
const EDGES = 900; // the strongest are drawn
const ALL_LAYERS = 24; // of larger networks connections are asked for by layer, as they are chosen

// Layers from left to right in columns of units, edges by strength.
function graphPicture(graph, chosen) {
  const GAP = Math.max(46, Math.min(120, 860 / Math.max(1, graph.layers.length)));
  const HEIGHT = 330, top = 14, left = 24;
  const width = Math.max(320, left * 2 + GAP * (graph.layers.length - 1));
  const place = (layer, channel) => {
    const shown = Math.min(DOTS, layer.channels);
    const at = Math.min(shown - 1, Math.floor((channel * shown) / layer.channels));
    return top + ((at + 0.5) * (HEIGHT - 2 * top)) / shown;
  };
  const home = (unit) => {
    let low = 0, high = graph.layers.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (graph.layers[middle].first <= unit) low = middle;
      else high = middle - 1;
    }
    return low;
  };
  const picture = svg("svg", { class: "graph", width, height: HEIGHT + 26, viewBox: `0 0 ${width} ${HEIGHT + 26}`, role: "img", "aria-label": `Graph of ${plural(graph.units, "unit")} in ${plural(graph.layers.length, "layer")}` });
  const forward = graph.edges.flat().filter((edge) => edge.relation === "forward").map((edge) => ({ ...edge, a: home(edge.from), b: home(edge.to) }))
    .filter((edge) => chosen < 0 || edge.a === chosen || edge.b === chosen).sort((a, b) => b.weight - a.weight).slice(0, EDGES);
  const x = (layer) => left + GAP * layer;
  for (const { a, b, from, to, weight } of forward) {
    const y1 = place(graph.layers[a], from - graph.layers[a].first), y2 = place(graph.layers[b], to - graph.layers[b].first);
    const middle = (x(a) + x(b)) / 2;
    picture.append(svg("path", { class: "edge", d: `M${x(a)} ${y1.toFixed(1)}C${middle} ${y1.toFixed(1)} ${middle} ${y2.toFixed(1)} ${x(b)} ${y2.toFixed(1)}`, "stroke-opacity": Math.max(0.06, Math.min(0.7, weight)).toFixed(2) }));
  }
  graph.layers.forEach((layer, i) => {
    const shown = Math.min(DOTS, layer.channels);
    for (let dot = 0; dot < shown; dot++) {
      picture.append(svg("circle", { class: i === chosen ? "neuron chosen" : "neuron", cx: x(i), cy: top + ((dot + 0.5) * (HEIGHT - 2 * top)) / shown, r: shown > 20 ? 2.6 : 3.6 }));
    }
    picture.append(svg("text", { class: "tick", x: x(i), y: HEIGHT + 16, "text-anchor": "middle" }, String(layer.channels)));
  });
  return picture;
}

// graph.edges: one list a layer, of the edges that end in it; empty where they were not asked for yet.
function graphCard(graph, load) {
  let chosen = -1;
  const place = h("div", { class: "scroll-x", tabindex: 0, role: "group", "aria-label": "Graph of the network" });
  const body = h("tbody");
  const paint = () => {
    place.replaceChildren(graphPicture(graph, chosen));
    body.replaceChildren(...graph.layers.map((layer, i) => h("tr", { class: i === chosen ? "chosen" : null }, h("td", null, h("button", { type: "button", class: "quiet layer-name", "aria-pressed": String(i === chosen), onclick: () => {
      chosen = chosen === i ? -1 : i;
      load(i).then(paint, () => {});
      load(i + 1).then(paint, () => {});
      paint();
      body.children[i].querySelector("button").focus();
    } }, layer.name)), h("td", { class: "num" }, number(layer.channels)), h("td", { class: "num" }, number(layer.depth)))));
  };
  paint();
  for (let i = 0; i < Math.min(ALL_LAYERS, graph.layers.length); i++) load(i).then(paint, () => {});
  return card("Graph of neurons", h("p", { class: "hint" }, "Layers from the input (left) to the output; a line is a strong connection. Of a layer with more than 40 units every n-th is drawn. Choose a layer to see its connections alone."), place,
    h("div", { class: "scroll-x", tabindex: 0, role: "group", "aria-label": "Layers" }, h("table", { class: "compact" }, h("thead", null, h("tr", null, h("th", { scope: "col" }, "Layer"), h("th", { scope: "col", class: "num" }, "Units"), h("th", { scope: "col", class: "num" }, "Depth"))), body)));
}

export async function modelPage(root, { signal, id }) {
  const model = await api.get("v1/models/" + id, signal);
  const info = model.info || {};
  const input = info.inputs && info.inputs[0], output = info.outputs && info.outputs[0];
  const place = h("div", null, h("p", { class: "muted" }, "Reading the graph…"));
  const trouble = h("div");
  const fetchInstead = (event) => {
    if (!api.hasToken()) return; // the browser does it better
    event.preventDefault();
    api.download("v1/models/" + id + "/content", model.name || "model.onnx").catch((error) => trouble.replaceChildren(problem(error)));
  };
  root.append(h("p", { class: "crumb" }, h("a", { href: "#/models" }, "← Models")), h("div", { class: "head" }, h("div", null, h("h1", null, model.name || shortId(id)), h("p", { class: "id" }, id)), h("div", { class: "actions" },
    h("a", { class: "button primary", href: "#/new?model=" + id }, "New job with it"),
    h("a", { class: "button", href: api.address("v1/models/" + id + "/content"), download: model.name || "model.onnx", onclick: fetchInstead }, "Download"),
    h("button", { type: "button", class: "danger", onclick: async () => {
      if (await confirm("Delete this model?", (model.name || shortId(id)) + " will be gone from the server. Jobs that are over keep their reports and repaired models.", "Delete", () => api.remove("v1/models/" + id))) location.hash = "#/models";
    } }, "Delete"))),
    card("Network", facts([["Parameters", number(info.parameters)], ["Prunable units", number(info.units)], ["Layers with units", number(info.layers)], ["Classes", number(info.classes)],
      ["Input", input ? h("span", null, h("code", null, input.name), " " + input.shape.join(" × ")) : null], ["Output", output ? h("code", null, output.name) : null], ["Opset", number(info.opset)], ["Producer", info.producer || null],
      ["Size", bytes(model.size)], ["Uploaded", time(model.created_at)], ["SHA-256", h("code", { class: "hash" }, model.sha256)]])), trouble, place);
  try {
    const graph = await api.get("v1/models/" + id + "/graph", signal);
    const asked = new Map();
    graph.edges = graph.layers.map(() => []);
    const load = (layer) => {
      if (!asked.has(layer) && layer < graph.layers.length) {
        asked.set(layer, api.get("v1/models/" + id + "/graph?layer=" + layer, signal).then((part) => { graph.edges[layer] = part.edges || []; }));
      }
      return asked.get(layer) || Promise.resolve();
    };
    place.replaceChildren(graphCard(graph, load));
  } catch (error) {
    if (!signal.aborted) place.replaceChildren(problem(error, "The graph cannot be shown"));
  }
}
