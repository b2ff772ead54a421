// From an upload to a repaired model, as somebody does it who has never seen the page; then the same under a prefix, in the dark,
// on a phone.
import fs from "node:fs";
import { CLEAN, FAST, MODEL, PROBE, SLOW, check, close, inspect, open, scene, shot, startOnpd, startProxy } from "./harness.mjs";

async function fillNumber(page, name, value) {
  await page.fill("#parameter-" + name, String(value));
}

async function uploadAndRun(browser, server) {
  const page = await open(browser, server.url);
  await page.waitForSelector("text=No jobs yet.");
  check("an empty server says so", true);
  await inspect(page, "empty list");
  await page.click("text=Start the first one");
  check("nothing can be started without files", await page.isDisabled("text=Start the job"));
  await page.setInputFiles("#file-model", MODEL);
  await page.waitForSelector(".slot:nth-of-type(1) .check.good");
  check("the checks of the model are shown", (await page.textContent(".slot:nth-of-type(1) .facts")).includes("Prunable units"));
  await page.setInputFiles("#file-samples", CLEAN);
  await page.setInputFiles("#file-probe", PROBE);
  await page.waitForSelector(".slot:nth-of-type(2) .check.good");
  await page.waitForSelector(".slot:nth-of-type(3) .check.good");
  await page.click("summary:has-text('Parameters')");
  for (const [name, value] of Object.entries(FAST)) {
    if (typeof value === "number") await fillNumber(page, name, value);
    else await page.setChecked("#parameter-" + name, value);
  }
  await page.click("summary:has-text('Seed')");
  await page.fill("#seed", "5");
  await page.fill("#labels", "team=vision");
  await inspect(page, "new job");
  await shot(page, "new");
  await page.click("text=Start the job");
  await page.waitForURL(/#\/jobs\/job_/);
  const id = page.url().split("/").pop();
  await page.waitForSelector(".timeline .now, .state-succeeded");
  await page.waitForSelector(".state-succeeded");
  await page.waitForSelector(".files li:nth-child(6)");
  check("a job is watched to its end", true);
  const words = await page.textContent("main");
  const report = (await server.call("GET", "v1/jobs/" + id + "/result")).json;
  check("accuracy and attack success are the report's", words.includes((100 * report.accuracy.after).toFixed(1) + " %") && words.includes((100 * report.probe.asr_after).toFixed(1) + " %"));
  check("its trigger's size is shown before and after", new RegExp("Suspected: class " + report.exposure.suspects[0] + ", [\\d.]+ before and [\\d.]+ after").test(words));
  const reward = report.search.reward;
  check("the reward's lines are named", ["best", "mean of the policy", "greedy start", "policy (PPO)"].every((name) => words.includes(name)) && words.includes(String(Number(reward.best.toPrecision(4)))));
  check("the suspect is marked", (await page.locator("text.suspect").count()) === report.exposure.suspects.length);
  check("all stages are done", (await page.locator(".timeline .done").count()) === 8);
  check("the inverted trigger is a picture", (await page.locator("canvas.pixels").count()) >= 3);
  check("every pruned unit is in the strips", (await page.locator(".strip rect.cut").count()) === report.pruned_units);
  await page.hover(".strip >> nth=0");
  check("a unit's figures are shown on hover", (await page.textContent(".unit-details")).includes("L1 norm"));
  await page.focus(".strip-box >> nth=1");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  check("and by keys", (await page.textContent(".unit-details")).includes("unit 1"));
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("a:has-text('model.onnx')")]);
  check("the repaired model is downloaded", download.suggestedFilename() === "model.onnx" && fs.statSync(await download.path()).size > 1000);
  await inspect(page, "finished job");
  await shot(page, "job");
  await page.click("text=← Jobs");
  await page.waitForSelector("tbody .verdict");
  const row = await page.textContent("tbody tr");
  check("the list tells verdict and figures", /removed|reduced|none found|budget broken/.test(row) && row.includes((100 * report.probe.asr_after).toFixed(1) + " %"));
  check("and the label", row.includes("team=vision"));
  await inspect(page, "list");
  await page.click("text=Models");
  await page.click("td a");
  await page.waitForSelector("svg.graph");
  await page.waitForFunction(() => document.querySelectorAll("svg.graph .edge").length > 20);
  check("the graph of a model is drawn", (await page.locator("svg.graph .neuron").count()) > 20);
  await page.click("tbody button >> nth=1");
  check("a layer can be chosen", (await page.locator(".neuron.chosen").count()) > 0);
  await inspect(page, "model");
  await shot(page, "model");
  await page.click("#nav >> text=System");
  await page.waitForSelector("text=Jobs by state");
  check("the system's page tells version and readiness", /Ready/.test(await page.textContent("main")) && /0\.\d+\.\d+/.test(await page.textContent("main")));
  check("and workers, queue and disk", /Workers busy\d of 1/.test(await page.textContent(".tiles")) && /Queue.*Disk free[\d.]+ [GT]B/.test(await page.textContent(".tiles")));
  await inspect(page, "system");
  await shot(page, "system");
  await close(page, "a whole job");
  return id;
}

async function reloadAndCancel(browser, server, ids) {
  const job = (await server.submit({ ...ids, seed: 3, parameters: SLOW })).json;
  const page = await open(browser, server.url + "#/jobs/" + job.id, { refusals: [409] });
  await page.waitForSelector(".chart path.curve");
  check("the reward is drawn while it grows", true);
  await shot(page, "running");
  await inspect(page, "running job");
  await page.reload();
  await page.waitForSelector(".chart path.curve");
  check("a reload in the middle shows the same job running", (await page.locator(".state-running").count()) === 1 && (await page.locator(".timeline .done").count()) >= 4);
  await page.goto(server.url + "#/models/" + ids.model_id);
  await page.click("button:has-text('Delete')");
  await page.click("dialog >> text=Delete >> nth=-1");
  await page.waitForSelector("dialog[open] .notice.bad");
  check("a model that a job works on is not deleted, and why is said", (await server.call("GET", "v1/models/" + ids.model_id)).status === 200);
  await inspect(page, "refused deletion");
  await shot(page, "refused");
  await page.click("text=Keep");
  await page.goto(server.url + "#/jobs/" + job.id);
  await page.click("button:has-text('Cancel')");
  await page.waitForSelector(".state-cancelled");
  check("a job is cancelled", (await server.until(job.id, ["cancelled"])).state === "cancelled");
  await page.click("button:has-text('Retry')");
  await page.waitForFunction((old) => !location.hash.includes(old), job.id);
  const again = page.url().split("/").pop();
  await page.waitForSelector(".state-running, .state-queued, .state-starting");
  check("and tried again as a new one", again !== job.id);
  await page.click("button:has-text('Cancel')");
  await page.waitForSelector(".state-cancelled");
  await page.click("text=New job like this");
  await page.waitForSelector(".slot:nth-of-type(2) .check.good");
  check("a job's settings are taken over", (await page.inputValue("#parameter-iterations")) === String(SLOW.iterations) && (await page.inputValue("#seed")) === "3");
  await close(page, "reload, cancel, retry");
}

// What a job does meanwhile neither swallows the click that cancels it nor is forgotten for an answer that came late.
async function cancelMeanwhile(browser, server, ids) {
  const ahead = (await server.submit({ ...ids, parameters: SLOW })).json;
  const job = (await server.submit({ ...ids, parameters: SLOW })).json;
  const page = await open(browser, server.url + "#/jobs/" + job.id);
  await page.waitForSelector(".state-queued");
  await page.hover("button:has-text('Cancel')");
  await page.mouse.down();
  await server.call("POST", "v1/jobs/" + ahead.id + "/cancel");
  await page.waitForSelector(".state-running");
  await page.route("**/cancel", async (route) => {
    const answer = await route.fetch();
    await page.waitForSelector(".state-cancelled");
    await route.fulfill({ response: answer, json: { ...(await answer.json()), state: "cancelling" } });
  });
  const answered = page.waitForResponse("**/cancel");
  await page.mouse.up();
  await (await answered).finished();
  check("a click counts although the job begins under it", (await server.until(job.id, ["cancelled"])).state === "cancelled");
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  check("an answer that comes after the end changes nothing", (await page.locator(".state-cancelled").count()) === 1);
  await close(page, "cancel meanwhile");
}

async function elsewhere(browser, server, id) {
  const proxy = await startProxy(server.url, "/tools/onp/");
  const page = await open(browser, proxy.url, { theme: "dark" });
  await page.waitForSelector("tbody .verdict");
  await page.click("tbody a >> nth=-1");
  await page.waitForSelector(".state-succeeded");
  await page.waitForSelector(".files li:nth-child(6)");
  check("all of it works behind a path prefix", (await page.getAttribute("a:has-text('report.json')", "href")).startsWith(proxy.url));
  await inspect(page, "dark");
  await shot(page, "job-dark");
  await page.click("#theme");
  check("the colours can be chosen", (await page.getAttribute("html", "data-theme")) === "light");
  await close(page, "prefix, dark");
  proxy.stop();
  for (const [name, hash] of [["jobs", "#/jobs"], ["new", "#/new"], ["job", "#/jobs/" + id], ["models", "#/models"], ["samples", "#/samples"], ["system", "#/system"]]) {
    const phone = await open(browser, server.url + hash, { width: 375, height: 740 });
    await phone.waitForSelector({ jobs: "tbody tr", new: "#method", job: ".files li", models: "tbody tr", samples: "tbody tr", system: ".tiles" }[name]);
    await inspect(phone, "phone, " + name);
    await shot(phone, "phone-" + name);
    await close(phone, "phone, " + name);
  }
}

async function keyboard(browser, server) {
  const page = await open(browser, server.url);
  await page.waitForSelector("tbody tr");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  check("the keyboard can skip to the content", await page.evaluate(() => document.activeElement.id === "main"));
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForSelector("text=Drop a file");
  check("and follow links", page.url().endsWith("#/new"));
  await page.goto(server.url + "#/nowhere");
  await page.waitForSelector("text=There is no such page");
  check("an unknown page is said to be one", true);
  await close(page, "keyboard");
}

export async function journey(browser) {
  const server = await startOnpd();
  let id = null;
  await scene("upload and run", async () => { id = await uploadAndRun(browser, server); });
  if (id) {
    const job = (await server.call("GET", "v1/jobs/" + id)).json;
    await scene("reload, cancel, retry", () => reloadAndCancel(browser, server, { model_id: job.model_id, samples_id: job.samples_id }));
    await scene("cancel meanwhile", () => cancelMeanwhile(browser, server, { model_id: job.model_id, samples_id: job.samples_id }));
    await scene("prefix, dark, phone", () => elsewhere(browser, server, id));
    await scene("keyboard", () => keyboard(browser, server));
  }
  await server.stop();
}
