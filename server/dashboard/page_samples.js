// Sample sets: what is there, and a way to be rid of it.
import { bytes, confirm, h, number, shortId, table, time } from "./dom.js";
import * as api from "./api.js";

const COLUMNS = ["Name", "Images", "Shape", "Classes", "Use", "Size", "Uploaded", ""];

export async function samplesPage(root, { signal }) {
  const place = h("div");
  async function paint() {
    const sets = await api.all("v1/samples", 1000, signal);
    const row = (set) => {
      const info = set.info || {};
      const name = set.name || shortId(set.id);
      return [h("span", null, h("span", { class: "strong" }, name), h("span", { class: "id" }, shortId(set.id))), number(info.count), info.shape ? info.shape.join(" × ") : "", number(info.classes),
        info.has_target ? "triggered, for figures" : "clean", bytes(set.size), time(set.created_at),
        h("button", { type: "button", class: "quiet danger", "aria-label": "Delete " + name, onclick: async () => {
          if (await confirm("Delete these samples?", name + " will be gone from the server. Jobs that are over keep their reports.", "Delete", () => api.remove("v1/samples/" + set.id))) await paint();
        } }, "Delete")];
    };
    place.replaceChildren(sets.length ? table("Samples", COLUMNS, sets.map(row))
      : h("div", { class: "card empty" }, h("h2", null, "No samples yet"), h("p", { class: "muted" }, "A few hundred labelled images are uploaded together with a model, for a job."), h("a", { class: "button primary", href: "#/new" }, "New job")));
  }
  root.append(h("div", { class: "head" }, h("h1", null, "Samples"), h("a", { class: "button", href: "#/new" }, "New job")), place);
  await paint();
}
