// The list of jobs, asked for again every two seconds while the page is visible. Texts from the server go into text
// nodes only, never into markup.
"use strict";

const REFRESH_MS = 2000;

function cell(row, text, className) {
  const td = row.insertCell();
  td.textContent = text;
  if (className) td.className = className;
  return td;
}

function link(td, href, text) {
  const a = document.createElement("a");
  a.href = href;
  a.textContent = text;
  td.append(a, " ");
}

function showJob(body, job) {
  const row = body.insertRow();
  cell(row, job.id, "id");
  cell(row, job.state);
  cell(row, (job.state === "running" && job.progress && job.progress.stage) || "");
  const bar = document.createElement("progress");
  bar.value = job.state === "succeeded" ? 1 : (job.progress && job.progress.fraction) || 0;
  cell(row, "").append(bar);
  cell(row, new Date(job.created_at).toLocaleString());
  const result = cell(row, job.problem ? job.problem.message : "");
  if (job.links && job.links.result) {
    link(result, job.links.result, "report");
    link(result, job.links.artifacts + "/model.onnx", "model");
  }
}

async function refresh() {
  const status = document.getElementById("status");
  if (document.hidden) return;
  try {
    const answer = await fetch("/v1/jobs?limit=50", { headers: { Accept: "application/json" } });
    const page = await answer.json();
    if (!answer.ok) throw new Error(page.detail || answer.statusText);
    const body = document.createElement("tbody");
    body.id = "jobs";
    page.data.forEach((job) => showJob(body, job));
    document.getElementById("jobs").replaceWith(body);
    document.getElementById("empty").hidden = page.data.length > 0;
    status.textContent = "connected";
  } catch (error) {
    status.textContent = "not connected: " + error.message;
  }
}

refresh();
setInterval(refresh, REFRESH_MS);
