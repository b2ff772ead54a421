// Small charts in SVG, drawn anew at the width there is, so that their text stays readable on a phone. Colours come from the
// style sheet by class.
import { h, svg, number } from "./dom.js";

// A box that calls draw(width) now, when its width changes, and on box.redraw().
function responsive(label, draw) {
  const box = h("div", { class: "chart", role: "img", "aria-label": label });
  let width = 0;
  box.redraw = () => {
    if (width > 0) box.replaceChildren(draw(width));
  };
  const observer = new ResizeObserver((entries) => {
    const now = Math.floor(entries[0].contentRect.width);
    if (now === width || now === 0) return;
    width = now;
    requestAnimationFrame(box.redraw);
  });
  observer.observe(box);
  return box;
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough) || 10 * power;
  const list = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) list.push(at * step);
  return list;
}

function line(points, x, y) {
  return points.map(([px, py], i) => (i ? "L" : "M") + x(px).toFixed(1) + " " + y(py).toFixed(1)).join("");
}

// Without the lowest quarter: a few deep dips would press everything else into one line.
function most(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.slice(Math.floor(sorted.length / 4));
}

let clips = 0;

// data(): {series: [{name, tone, dips, points: [[x, y]]}], levels: [{name, tone, y}], x: label, y: label}. A series
// with `dips` may leave the picture downwards. Returns a box with redraw().
export function lineChart(label, data) {
  const readout = h("div", { class: "readout", "aria-hidden": "true" });
  const HEIGHT = 250;
  const box = responsive(label, (width) => {
    const { series, levels, x: xLabel, y: yLabel } = data();
    const all = series.flatMap((one) => one.points);
    const ys = [...series.flatMap((one) => (one.dips ? most(one.points.map((point) => point[1])) : one.points.map((point) => point[1]))), ...levels.map((level) => level.y)];
    const xs = all.map((point) => point[0]);
    const left = 58, right = width - 10, top = 12, bottom = HEIGHT - 38;
    let low = Math.min(...ys), high = Math.max(...ys);
    const pad = (high - low || Math.abs(high) || 1) * 0.08;
    low -= pad;
    high += pad;
    // From zero, unless the curve begins far to the right of it.
    const last = Math.max(...xs, 1), first = Math.min(...xs) > 0.35 * last && Math.min(...xs) < last ? Math.min(...xs) : 0;
    const x = (value) => left + ((value - first) / (last - first)) * (right - left);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
    const picture = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
    for (const tick of ticks(low, high, 4)) {
      picture.append(svg("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
        svg("text", { class: "tick", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, number(Number(tick.toPrecision(6)))));
    }
    for (const tick of ticks(first, last, Math.max(2, Math.floor(width / 120)))) {
      picture.append(svg("text", { class: "tick", x: x(tick), y: bottom + 17, "text-anchor": "middle" }, number(tick)));
    }
    picture.append(svg("text", { class: "tick", x: (left + right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, xLabel),
      svg("text", { class: "tick", x: 12, y: (top + bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(top + bottom) / 2})` }, yLabel),
      svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    const clip = "clip-" + ++clips;
    picture.append(svg("clipPath", { id: clip }, svg("rect", { x: left - 4, y: 0, width: right - left + 8, height: bottom })));
    for (const level of levels) {
      picture.append(svg("line", { class: "level tone-" + level.tone, x1: left, x2: right, y1: y(level.y), y2: y(level.y) }));
    }
    for (const one of series) {
      picture.append(svg("path", { class: "curve tone-" + one.tone, d: line(one.points, x, y), "clip-path": `url(#${clip})` }));
      const end = one.points[one.points.length - 1];
      if (end && end[1] >= low) picture.append(svg("circle", { class: "dot tone-" + one.tone, cx: x(end[0]), cy: y(end[1]), r: 3 }));
    }
    const cursor = svg("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
    picture.append(cursor);
    picture.addEventListener("pointermove", (event) => {
      const at = first + ((event.offsetX - left) / (right - left)) * (last - first);
      const seen = series.map((one) => ({ one, point: [...one.points].reverse().find((point) => point[0] <= at) })).filter((pair) => pair.point);
      cursor.setAttribute("visibility", seen.length ? "visible" : "hidden");
      if (!seen.length) return;
      cursor.setAttribute("x1", x(at));
      cursor.setAttribute("x2", x(at));
      readout.textContent = "after " + number(seen[0].point[0]) + ": " + seen.map(({ one, point }) => one.name + " " + number(point[1])).join(", ");
    });
    picture.addEventListener("pointerleave", () => {
      cursor.setAttribute("visibility", "hidden");
      readout.textContent = "";
    });
    return picture;
  });
  const wrapper = h("div", null, box, readout);
  wrapper.redraw = box.redraw;
  return wrapper;
}

export function legend(entries) {
  return h("ul", { class: "legend" }, entries.map(({ name, tone, dashed }) => h("li", null, svg("svg", { width: 22, height: 10, "aria-hidden": "true" },
    svg("line", { class: (dashed ? "level" : "curve") + " tone-" + tone, x1: 1, x2: 21, y1: 5, y2: 5 })), name)));
}

// rows(): [{name, suspect, before, after}]: two bars each.
export function pairBars(label, rows) {
  return responsive(label, (width) => {
    const list = rows();
    const ROW = 30, left = 78, right = width - 62;
    const most = Math.max(...list.flatMap((row) => [row.before || 0, row.after || 0]), 1e-9);
    const length = (value) => Math.max(1.5, ((right - left) * value) / most);
    const height = list.length * ROW + 4;
    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    list.forEach((row, i) => {
      const top = i * ROW + 4;
      const has = typeof row.after === "number";
      picture.append(svg("text", { class: row.suspect ? "tick suspect" : "tick", x: left - 10, y: top + 16, "text-anchor": "end" }, (row.suspect ? "⚠ " : "") + row.name),
        svg("rect", { class: row.suspect ? "bar suspect" : "bar before", x: left, y: top + (has ? 1 : 5), width: length(row.before), height: has ? 10 : 13, rx: 3 }),
        svg("text", { class: "tick value", x: left + length(row.before) + 6, y: top + (has ? 10 : 16) }, number(row.before, 2)));
      if (has) {
        picture.append(svg("rect", { class: "bar after", x: left, y: top + 13, width: length(row.after), height: 10, rx: 3 }),
          svg("text", { class: "tick value", x: left + length(row.after) + 6, y: top + 22 }, number(row.after, 2)));
      }
    });
    return picture;
  });
}

// Two horizontal bars in [0, 1].
export function beforeAfter(label, before, after) {
  const one = (name, value, tone) => {
    if (typeof value !== "number") return null;
    return h("div", { class: "ba-row" }, h("span", { class: "ba-name" }, name),
      svg("svg", { class: "ba-bar", width: "100%", height: 10, "aria-hidden": "true" }, svg("rect", { class: "track", width: "100%", height: 10, rx: 5 }),
        svg("rect", { class: "bar " + tone, width: Math.max(0, Math.min(100, 100 * value)) + "%", height: 10, rx: 5 })),
      h("span", { class: "ba-value" }, (100 * value).toFixed(1) + " %"));
  };
  return h("div", { class: "ba", role: "group", "aria-label": label }, one("before", before, "before"), one("after", after, "after"));
}
