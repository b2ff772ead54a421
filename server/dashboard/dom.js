// Building the page. Text goes into text nodes and attributes only: names in a model or a file are somebody else's words, so
// nothing here or elsewhere parses markup (the server's content policy forbids it, too).

const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden" || name === "selected") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

// h("p", {class: "hint", onclick: f}, "text", child...)
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export function card(title, ...children) {
  return h("section", { class: "card" }, title ? h("h2", null, title) : null, ...children);
}

export function announce(text) {
  document.getElementById("announce").textContent = text;
}

// --- words and numbers ---

export const DASH = "–";

export function percent(fraction, digits = 1) {
  return typeof fraction === "number" ? (100 * fraction).toFixed(digits) + " %" : DASH;
}

export function number(value, digits = 3) {
  if (typeof value !== "number" || !Number.isFinite(value)) return DASH;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(digits + 1)));
}

export function bytes(count) {
  if (typeof count !== "number") return DASH;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit++;
  }
  return (unit === 0 || count >= 100 ? count.toFixed(0) : count.toFixed(1)) + " " + units[unit];
}

export function duration(seconds) {
  if (typeof seconds !== "number" || !Number.isFinite(seconds) || seconds < 0) return DASH;
  if (seconds < 10) return seconds.toFixed(1) + " s";
  if (seconds < 60) return seconds.toFixed(0) + " s";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes + " min " + Math.floor(seconds % 60) + " s";
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? hours + " h " + (minutes % 60) + " min" : Math.floor(hours / 24) + " d " + (hours % 24) + " h";
}

export function time(text) {
  if (!text) return h("span", null, DASH);
  const when = new Date(text);
  const ago = (Date.now() - when.getTime()) / 1000;
  let words = when.toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
  if (ago < 60) words = "just now";
  else if (ago < 3600) words = Math.floor(ago / 60) + " min ago";
  else if (ago < 86400) words = Math.floor(ago / 3600) + " h ago";
  return h("time", { datetime: text, title: when.toLocaleString() }, words);
}

export const plural = (count, word) => number(count) + " " + word + (count === 1 ? "" : "s");

export const shortId = (id) => id.slice(0, 4) + "…" + id.slice(-6);

// --- pieces that several pages show ---

export const TERMINAL = ["succeeded", "failed", "cancelled"];

export function badge(state) {
  return h("span", { class: "badge state-" + state }, state);
}

const VERDICTS = {
  removed: ["good", "removed"],
  reduced: ["warn", "reduced"],
  no_backdoor_found: ["calm", "none found"],
  failed_budget: ["bad", "budget broken"],
};

export function verdict(word) {
  if (!word) return h("span", { class: "muted" }, DASH);
  const [tone, text] = VERDICTS[word] || ["calm", String(word)];
  return h("span", { class: "verdict " + tone }, text);
}

export function change(before, after) {
  if (typeof before !== "number" && typeof after !== "number") return h("span", { class: "muted" }, DASH);
  return h("span", { class: "change" }, percent(before), h("span", { class: "arrow", "aria-label": "to" }, " → "), h("strong", null, percent(after)));
}

export function meter(fraction, label) {
  const bar = h("progress", { max: 1, "aria-label": label });
  if (typeof fraction === "number") bar.value = fraction;
  return bar;
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter((pair) => pair[1] !== null && pair[1] !== undefined)
    .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

// A problem of the interface, with its places.
export function problem(error, title) {
  const places = (error.errors || []).filter((one) => one.detail && one.detail !== error.message);
  return h("div", { class: "notice bad", role: "alert" }, h("strong", null, title || "That did not work"), h("p", null, error.message),
    places.length ? h("ul", null, places.map((one) => h("li", null, (one.pointer ? one.pointer + ": " : "") + one.detail))) : null);
}
