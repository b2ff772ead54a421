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
  if (seconds > 0 && seconds < 0.05) return "< 0.1 s";
  if (seconds < 10) return (Number.isInteger(seconds) ? String(seconds) : seconds.toFixed(1)) + " s";
  if (seconds < 60) return seconds.toFixed(0) + " s";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes + " min " + Math.floor(seconds % 60) + " s";
  const hours = Math.floor(minutes / 60);
  const [large, small] = hours < 48 ? [hours + " h", (minutes % 60) + " min"] : [Math.floor(hours / 24) + " d", (hours % 24) + " h"];
  return small.startsWith("0 ") ? large : large + " " + small;
}

// What is left: no more digits than an estimate has.
export function roughly(seconds) {
  if (seconds < 5) return "a few seconds";
  if (seconds < 90) return 5 * Math.round(seconds / 5) + " s";
  return seconds < 5400 ? Math.round(seconds / 60) + " min" : (seconds / 3600).toFixed(1) + " h";
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
  unjudged: ["calm", "not judged"],
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

// A list in a card. Its roles keep it a table where narrow windows make cards of the rows.
export function table(label, columns, rows) {
  return h("div", { class: "card flush" }, h("table", { class: "jobs", role: "table", "aria-label": label },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((title) => h("th", { role: "columnheader", scope: "col" }, title || h("span", { class: "unseen" }, "Actions"))))),
    h("tbody", { role: "rowgroup" }, rows.map((cells) => h("tr", { role: "row" }, cells.map((cell, i) => h("td", { role: "cell", "data-title": columns[i] || null }, cell)))))));
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

// Asks before something that cannot be undone. `act` does it; what it throws is shown. Resolves to whether it was done.
export function confirm(title, words, verb, act) {
  return new Promise((resolve) => {
    let done = false;
    const trouble = h("div");
    const go = h("button", { type: "button", class: "danger solid", onclick: async () => {
      go.disabled = true;
      trouble.replaceChildren();
      try {
        await act();
        done = true;
        dialog.close();
      } catch (error) {
        trouble.replaceChildren(problem(error));
        go.disabled = false;
      }
    } }, verb);
    const keep = h("button", { type: "button", onclick: () => dialog.close() }, "Keep");
    const away = () => dialog.close();
    const dialog = h("dialog", { class: "confirm", "aria-labelledby": "confirm-title", onclose: () => {
      window.removeEventListener("hashchange", away);
      dialog.remove();
      resolve(done);
    } }, h("h2", { id: "confirm-title" }, title), h("p", null, words), trouble, h("div", { class: "actions end" }, keep, go));
    window.addEventListener("hashchange", away);
    document.body.append(dialog);
    dialog.showModal();
    keep.focus();
  });
}
