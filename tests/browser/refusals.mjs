// What goes wrong: files that are none, names that are markup, tokens that are missing, wrong or expired, a server that is gone.
import fs from "node:fs";
import path from "node:path";
import { CLEAN, MODEL, QUICK, WORK, check, close, inspect, open, scene, startOnpd } from "./harness.mjs";

async function wrongFiles(browser, server) {
  const page = await open(browser, server.url + "#/new", { refusals: [422] });
  const bad = path.join(WORK, "bad.onnx");
  fs.writeFileSync(bad, "this is no model");
  await page.setInputFiles("#file-model", bad);
  await page.waitForSelector(".slot .notice.bad");
  check("a file that is no model is refused with a reason", (await page.textContent(".slot .notice.bad")).length > 40);
  await page.setInputFiles("#file-samples", MODEL);
  await page.waitForSelector(".slot:nth-of-type(2) .notice.bad");
  check("and a model that is no samples", await page.isDisabled("text=Start the job"));
  await inspect(page, "refused files");
  await page.setInputFiles("#file-model", MODEL);
  await page.setInputFiles("#file-samples", CLEAN);
  await page.waitForSelector(".slot:nth-of-type(1) .check.good");
  await page.waitForSelector(".slot:nth-of-type(2) .check.good");
  await page.click("summary:has-text('Seed')");
  await page.fill("#labels", "no/such=label");
  await page.click("text=Start the job");
  await page.waitForSelector("text=The job was not accepted");
  check("a job that is refused says why", (await page.textContent("main")).includes("label"));
  check("and can be put right", !(await page.isDisabled("text=Start the job")));
  await close(page, "wrong files");
}

// The names in this file are someone's markup; all have the length of what they replace, so that the file stays whole.
function hostileModel() {
  const name = "layer1.0.conv1/Conv", markup = "<img src=x onerror>";
  const bytes = fs.readFileSync(MODEL);
  let found = 0;
  for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at)) {
    bytes.write(markup, at);
    found++;
  }
  if (!found || name.length !== markup.length) throw new Error("the model has no node " + name);
  return { bytes, markup };
}

async function hostileNames(browser, server) {
  const { bytes, markup } = hostileModel();
  const model = await server.upload("models", bytes, "<b>bold</b><script>alert(1)</script>.onnx");
  const samples = await server.upload("samples", CLEAN, "\"><svg onload=alert(1)>.npz");
  const { json: job } = await server.submit({ model_id: model, samples_id: samples, seed: 1, ...QUICK, labels: { k: "<i>label</i>" } });
  await server.until(job.id, ["succeeded"]);
  const page = await open(browser, server.url + "#/jobs/" + job.id);
  await page.waitForSelector(".layer");
  check("names of layers are shown as text", (await page.textContent(".layers")).includes(markup));
  await page.hover(".layer:has-text('<img') .strip");
  check("on hover, too", (await page.textContent(".unit-details")).includes(markup));
  check("names of files are shown as text", (await page.textContent("h1")).includes("<script>"));
  await page.goto(server.url + "#/jobs");
  await page.waitForSelector("tbody .tag");
  check("labels are shown as text", (await page.textContent(".tag")).includes("<i>label</i>"));
  await page.goto(server.url + "#/models/" + model);
  await page.waitForSelector("svg.graph");
  check("and in the graph", (await page.textContent("main")).includes(markup));
  await page.goto(server.url + "#/new");
  await page.waitForSelector("#known-samples");
  check("nothing of it became an element", (await page.locator("img[src=x], main b, main script, main i, svg[onload]").count()) === 0);
  const refused = await page.evaluate(() => {
    try {
      document.getElementById("main").innerHTML = "<p>no</p>";
      return false;
    } catch {
      return true;
    }
  });
  check("the policy forbids text as markup", refused);
  page.errors = page.errors.filter((text) => !text.includes("TrustedHTML"));
  await close(page, "hostile names");
}

async function tokens(browser) {
  const root = "root-token-of-the-test";
  const file = path.join(WORK, "token");
  fs.writeFileSync(file, root + "\n", { mode: 0o600 });
  const server = await startOnpd(["--token-file", file]);
  const headers = { Authorization: "Bearer " + root };
  const model = await server.upload("models", MODEL, "mine.onnx", headers);
  const samples = await server.upload("samples", CLEAN, "clean.npz", headers);
  const { json: job } = await server.submit({ model_id: model, samples_id: samples, seed: 1, ...QUICK }, headers);
  const page = await open(browser, server.url, { refusals: [401] });
  await page.waitForSelector("dialog[open]");
  check("a server that wants a token is asked with one", true);
  await inspect(page, "token dialog");
  await page.fill("#token-field", "wrong");
  await page.click("text=Use token");
  await page.waitForSelector("dialog[open] >> text=not accepted");
  check("a wrong token is said to be wrong", true);
  await page.fill("#token-field", root);
  await page.click("text=Use token");
  await page.waitForSelector("tbody tr");
  check("with the right one the list comes", !(await page.isVisible("dialog")));
  await page.reload();
  await page.waitForSelector("tbody tr");
  check("it lasts over a reload", !(await page.isVisible("dialog")));
  await page.click("tbody a");
  await page.waitForSelector(".state-succeeded");
  await page.waitForSelector(".files li");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("a:has-text('report.json')")]);
  check("files are downloaded with the token", JSON.parse(fs.readFileSync(await download.path(), "utf8")).schema === 1);
  const make = async (scopes, more) => (await server.call("POST", "v1/tokens", JSON.stringify({ name: "of the test", scopes, ...more }), { "Content-Type": "application/json", ...headers })).json;
  await make(["admin"]); // the first of the database has to be one
  const revoked = await make(["read"]);
  await page.click("#forget");
  await page.waitForSelector("dialog[open]");
  check("a token can be forgotten", (await page.evaluate(() => sessionStorage.length)) === 0);
  await page.fill("#token-field", revoked.token);
  await page.click("text=Use token");
  await page.waitForSelector(".state-succeeded");
  await server.call("DELETE", "v1/tokens/" + revoked.id, undefined, headers);
  await page.evaluate(() => { location.hash = "#/jobs"; }); // not by a click: the page may have asked already
  await page.waitForSelector("dialog[open] >> text=revoked");
  check("a token that is revoked while the page is open is asked for again", true);
  await page.fill("#token-field", (await make(["read"], { expires_in_s: 5 })).token);
  await page.click("text=Use token");
  await page.waitForSelector("dialog:not([open])", { state: "attached" });
  await page.waitForSelector("dialog[open] >> text=expired");
  check("one that expires, too, with nobody at the keyboard", true);
  await page.fill("#token-field", root);
  await page.click("text=Use token");
  await page.waitForSelector("tbody tr");
  check("and the page goes on", (await page.getAttribute("tbody tr", "data-id")) === job.id);
  await close(page, "tokens");
  await server.stop();
}

async function gone(browser) {
  const server = await startOnpd();
  const page = await open(browser, server.url);
  await page.waitForSelector("text=No jobs yet.");
  await server.stop();
  await page.waitForSelector("text=The list is not up to date");
  check("a server that is gone is said to be", (await page.textContent("#connection")).includes("not connected"));
  page.errors = page.errors.filter((text) => !text.includes("ERR_CONNECTION"));
  await close(page, "server gone");
}

export async function refusals(browser) {
  const server = await startOnpd();
  await scene("wrong files", () => wrongFiles(browser, server));
  await scene("hostile names", () => hostileNames(browser, server));
  await server.stop();
  await scene("tokens", () => tokens(browser));
  await scene("server gone", () => gone(browser));
}
