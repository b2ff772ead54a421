// A new job: files are uploaded and checked as they are chosen; the form of the parameters is made from what the server says it
// takes.
import { announce, bytes, facts, h, number, problem, shortId } from "./dom.js";
import * as api from "./api.js";
import * as uploads from "./uploads.js";

const KINDS = {
  model: { becomes: "model", title: "Model", accept: ".onnx", hint: "An ONNX image classifier, as PyTorch and other frameworks export it.", required: true },
  samples: { becomes: "samples", title: "Clean samples", accept: ".npz,.zip", hint: "A few hundred labelled images (npz, or a zip of folders), not from the training.", required: true },
  probe: { becomes: "samples", title: "Triggered samples", accept: ".npz,.zip", hint: "Optional: images with the trigger and their target, for the report's figures only.", required: false },
};

function modelFacts(info) {
  const input = info.inputs && info.inputs[0];
  return facts([["Input", input ? input.shape.join(" × ") : null], ["Classes", number(info.classes)], ["Parameters", number(info.parameters)],
    ["Prunable units", number(info.units) + " in " + number(info.layers) + " layers"], ["Opset", number(info.opset)]]);
}

function samplesFacts(info) {
  return facts([["Images", number(info.count)], ["Shape", info.shape ? info.shape.join(" × ") : null], ["Classes", number(info.classes)],
    ["Targets", info.has_target ? "yes" : "no"]]);
}

// One file: to drop or choose, or one that is on the server already. slot.value is its id or null.
function fileSlot(kind, known, signal, onChange) {
  const about = KINDS[kind];
  const slot = { value: null, busy: false };
  const status = h("div", { class: "slot-status", "aria-live": "polite" });
  const rest = h("div", { class: "rests" });
  const input = h("input", { type: "file", id: "file-" + kind, class: "unseen", accept: about.accept, "aria-describedby": "hint-" + kind });
  const zone = h("label", { class: "drop", for: "file-" + kind }, h("strong", null, "Drop a file"), h("span", null, " or choose one"));
  const select = h("select", { id: "known-" + kind }, h("option", { value: "" }, "none"),
    known.map((one) => h("option", { value: one.id }, (one.name || shortId(one.id)) + " · " + bytes(one.size))));
  let running = null;

  function taken(object) {
    slot.value = object.id;
    const info = object.info || {};
    status.replaceChildren(h("p", { class: "check good" }, "✓ ", h("strong", null, object.name || shortId(object.id)), " passed the checks"),
      kind === "model" ? modelFacts(info) : samplesFacts(info));
    onChange();
  }

  async function send(file) {
    if (running) running.abort();
    running = new AbortController();
    const mine = running;
    signal.addEventListener("abort", () => mine.abort());
    slot.value = null;
    slot.busy = true;
    select.value = "";
    onChange();
    const bar = h("progress", { max: 1, value: 0, "aria-label": "upload of " + file.name });
    const words = h("span", { class: "small muted" }, "0 of " + bytes(file.size));
    rest.replaceChildren();
    status.replaceChildren(h("p", { class: "file-name" }, file.name), bar, h("div", { class: "spread" }, words, h("button", { type: "button", class: "quiet", onclick: () => mine.abort() }, "Stop")));
    try {
      const object = await uploads.upload(kind, about.becomes, file, { signal: mine.signal,
        onProgress: (loaded, total) => {
          bar.value = total ? loaded / total : 0;
          words.textContent = loaded < total ? bytes(loaded) + " of " + bytes(total) : "checking the file";
        },
        // 409: the server has not seen yet that the connection before this one broke
        onWait: (error) => { words.textContent = ([0, 409].includes(error.status) ? "The connection broke" : "The server is busy") + "; trying again"; } });
      if (mine === running) taken(object);
      announce(about.title + " passed the checks");
    } catch (error) {
      if (mine !== running || signal.aborted) return;
      status.replaceChildren(error.name === "AbortError" ? h("p", { class: "muted" }, "Stopped.") : problem(error, "This file cannot be used"));
      showRest();
    } finally {
      if (mine === running) {
        slot.busy = false;
        onChange();
      }
      input.value = "";
    }
  }

  // What an earlier visit has begun, or a stop has left.
  async function showRest() {
    const found = await uploads.unfinished(kind, signal).catch(() => []);
    rest.replaceChildren(...found.map((one) => h("div", { class: "rest" }, h("p", null, h("strong", null, one.name), ` is on the server up to ${bytes(one.offset)} of ${bytes(one.size)}. Choose the same file to go on.`),
      h("button", { type: "button", class: "quiet", onclick: async (event) => {
        event.target.disabled = true;
        await uploads.discard(one);
        showRest();
      } }, "Discard"))));
  }

  input.addEventListener("change", () => {
    if (input.files.length) send(input.files[0]);
  });
  select.addEventListener("change", () => {
    const object = known.find((one) => one.id === select.value);
    if (running) running.abort();
    slot.value = null;
    status.replaceChildren();
    if (object) taken(object);
    else onChange();
  });
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  });
  slot.choose = (id) => {
    select.value = id;
    select.dispatchEvent(new Event("change"));
  };
  slot.node = h("section", { class: "card slot" }, h("h2", null, about.title), h("p", { class: "hint", id: "hint-" + kind }, about.hint), input, zone,
    rest,
    known.length ? h("div", { class: "field" }, h("label", { for: "known-" + kind }, "Or one that is on the server"), select) : null, status);
  showRest();
  return slot;
}

const words = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");

// One input a property of the JSON Schema. read() gives what differs from the defaults.
function parameterForm(schema, given) {
  const fields = Object.entries(schema.properties || {}).map(([name, about]) => {
    const id = "parameter-" + name;
    const value = name in given ? given[name] : about.default;
    let input;
    if (Array.isArray(about.enum)) {
      input = h("select", { id }, about.enum.map((word) => h("option", { value: word, selected: word === value }, String(word))));
    } else if (about.type === "boolean") {
      input = h("input", { id, type: "checkbox", checked: Boolean(value) });
    } else if (about.type === "number" || about.type === "integer") {
      input = h("input", { id, type: "number", min: about.minimum, max: about.maximum, step: about.type === "integer" ? 1 : "any", value: String(value), required: true });
    } else {
      input = h("input", { id, type: "text", value: value === undefined || value === null ? "" : String(value) });
    }
    input.setAttribute("aria-describedby", id + "-hint");
    const limits = about.minimum !== undefined && about.maximum !== undefined ? ` ${number(about.minimum)} to ${number(about.maximum)}.` : "";
    const hint = h("p", { class: "hint", id: id + "-hint" }, (about.description || "") + limits + " Default: " + String(about.default) + ".");
    const read = () => {
      if (about.type === "boolean") return input.checked;
      return about.type === "number" || about.type === "integer" ? Number(input.value) : input.value;
    };
    return { name, about, read, node: h("div", { class: about.type === "boolean" ? "field check-field" : "field" }, h("label", { for: id }, words(name)), input, hint) };
  });
  return {
    node: h("div", { class: "grid-2" }, fields.map((field) => field.node)),
    read: () => Object.fromEntries(fields.map((field) => [field.name, field.read()]).filter(([name, value], i) => value !== fields[i].about.default && name)),
  };
}

function readLabels(text) {
  const labels = {};
  for (const word of text.split(/[\s,]+/).filter(Boolean)) {
    const at = word.indexOf("=");
    labels[at < 0 ? word : word.slice(0, at)] = at < 0 ? "" : word.slice(at + 1);
  }
  return labels;
}

export async function newPage(root, { signal, query }) {
  const [capabilities, models, samples, like] = await Promise.all([
    api.get("v1/capabilities", signal), api.all("v1/models", 200, signal), api.all("v1/samples", 200, signal),
    query.get("like") ? api.get("v1/jobs/" + encodeURIComponent(query.get("like")), signal).catch(() => null) : null]);
  const start = h("button", { type: "submit", class: "primary", disabled: true }, "Start the job");
  const why = h("span", { class: "muted small" });
  const slots = {};
  const ready = () => {
    const waiting = Object.entries(slots).filter(([kind, slot]) => slot.busy || (KINDS[kind].required && !slot.value)).map(([kind]) => KINDS[kind].title.toLowerCase());
    start.disabled = waiting.length > 0;
    why.textContent = waiting.length ? "Needed first: " + waiting.join(", ") : "";
  };
  slots.model = fileSlot("model", models, signal, ready);
  slots.samples = fileSlot("samples", samples.filter((one) => !(one.info || {}).has_target), signal, ready);
  slots.probe = fileSlot("probe", samples.filter((one) => (one.info || {}).has_target), signal, ready);

  const method = h("select", { id: "method" }, capabilities.methods.map((one) => h("option", { value: one.name, selected: Boolean(like) && like.method === one.name }, one.name)));
  const summary = h("p", { class: "hint", id: "method-hint" });
  const place = h("div");
  let form = null;
  const choose = () => {
    const about = capabilities.methods.find((one) => one.name === method.value);
    summary.textContent = about.summary || "";
    form = parameterForm(about.parameters || {}, like && like.method === about.name ? like.parameters : {});
    place.replaceChildren(form.node);
  };
  method.setAttribute("aria-describedby", "method-hint");
  method.addEventListener("change", choose);
  choose();

  const seed = h("input", { id: "seed", type: "number", min: 0, step: 1, value: String(like ? like.seed : 1), required: true });
  const labels = h("input", { id: "labels", type: "text", placeholder: "team=vision release=7", value: like ? Object.entries(like.labels).map(([key, value]) => key + "=" + value).join(" ") : "", "aria-describedby": "labels-hint" });
  const priority = h("input", { id: "priority", type: "number", min: -100, max: 100, step: 1, value: String(like ? like.priority : 0), required: true });
  const trouble = h("div");

  async function submit(event) {
    event.preventDefault();
    start.disabled = true;
    trouble.replaceChildren();
    const body = { model_id: slots.model.value, samples_id: slots.samples.value, method: method.value, parameters: form.read(), seed: Number(seed.value), priority: Number(priority.value), labels: readLabels(labels.value) };
    if (slots.probe.value) body.probe_id = slots.probe.value;
    try {
      const job = await api.post("v1/jobs", body);
      location.hash = "#/jobs/" + job.id;
    } catch (error) {
      if (signal.aborted) return;
      trouble.replaceChildren(problem(error, "The job was not accepted"));
      ready();
    }
  }

  root.append(h("div", { class: "head" }, h("h1", null, "New job")), h("form", { onsubmit: submit },
    h("div", { class: "slots" }, Object.values(slots).map((slot) => slot.node)),
    h("section", { class: "card" }, h("h2", null, "Method"),
      h("div", { class: "field narrow" }, h("label", { for: "method" }, "Method"), method), summary,
      h("details", { open: Boolean(like && Object.keys(like.parameters).length) }, h("summary", null, "Parameters"), place),
      h("details", null, h("summary", null, "Seed, labels, priority"), h("div", { class: "grid-2" },
        h("div", { class: "field" }, h("label", { for: "seed" }, "Seed"), seed, h("p", { class: "hint" }, "The same seed gives the same result.")),
        h("div", { class: "field" }, h("label", { for: "labels" }, "Labels"), labels, h("p", { class: "hint", id: "labels-hint" }, "Words key=value, to find the job again.")),
        h("div", { class: "field" }, h("label", { for: "priority" }, "Priority"), priority, h("p", { class: "hint" }, "Higher goes first."))))),
    trouble, h("div", { class: "actions" }, start, why)));
  if (like) {
    slots.model.choose(like.model_id);
    slots.samples.choose(like.samples_id);
    if (like.probe_id) slots.probe.choose(like.probe_id);
  } else if (query.get("model")) slots.model.choose(query.get("model"));
  ready();
}
