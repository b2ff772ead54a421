// A thousand jobs in the list.
import { CLEAN, FAST, MODEL, SLOW, check, close, inspect, open, scene, shot, startOnpd } from "./harness.mjs";

const JOBS = 1000;

async function list(browser, server) {
  const model_id = await server.upload("models", MODEL, "signs.onnx");
  const samples_id = await server.upload("samples", CLEAN, "clean.npz");
  await server.submit({ model_id, samples_id, seed: 0, parameters: SLOW }); // the others wait behind it
  const numbers = [...Array(JOBS - 1).keys()];
  while (numbers.length) {
    const answers = await Promise.all(numbers.splice(0, 20).map((seed) => server.submit({ model_id, samples_id, seed, parameters: FAST, labels: { group: seed % 100 === 0 ? "rare" : "common" } })));
    if (answers.some((answer) => answer.status !== 202)) throw new Error("a job was refused: " + JSON.stringify(answers.find((answer) => answer.status !== 202)));
  }
  const page = await open(browser, server.url);
  await page.waitForSelector("tbody tr");
  check("the first page of many is shown", (await page.locator("tbody tr").count()) === 50);
  await page.click("text=Show more");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 100);
  check("more come when asked for", true);
  while (await page.isVisible("text=Show more")) {
    const before = await page.locator("tbody tr").count();
    await page.click("text=Show more");
    await page.waitForFunction((count) => document.querySelectorAll("tbody tr").length > count, before);
  }
  check("all thousand are there, once each", await page.evaluate((count) => new Set([...document.querySelectorAll("tbody tr")].map((row) => row.dataset.id)).size === count, JOBS));
  check("newest first", await page.evaluate(() => [...document.querySelectorAll("tbody tr")].every((row, i, rows) => i === 0 || rows[i - 1].dataset.id > row.dataset.id)));
  const ids = { model_id, samples_id };
  const { json: last } = await server.submit({ ...ids, seed: 77, parameters: FAST });
  await page.waitForSelector(`tbody tr:first-child[data-id="${last.id}"]`);
  check("a new one appears at the top", true);
  await server.call("POST", "v1/jobs/" + last.id + "/cancel");
  await page.waitForSelector(`tbody tr:first-child[data-id="${last.id}"] .state-cancelled`);
  check("and changes as it changes", true);
  await page.click(".chip:has-text('Cancelled')");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  check("the list is filtered by state", true);
  await page.click(".chip:has-text('All')");
  await page.waitForSelector("tbody tr >> nth=49");
  await page.fill("#label-filter", "group=rare");
  await page.press("#label-filter", "Enter");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 10);
  check("and by label", page.url().includes("label=group%3Drare"));
  await page.selectOption("#method-filter", "clp");
  await page.waitForSelector("text=No job matches.");
  check("and by method, together", page.url().includes("method=clp") && page.url().includes("label="));
  await page.selectOption("#method-filter", "");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 10);
  await page.click(".chip:has-text('Failed')");
  await page.waitForSelector("text=No job matches.");
  check("no match is said to be none", true);
  await page.click("text=Show all jobs");
  await page.waitForSelector("tbody tr >> nth=49");
  await inspect(page, "many jobs");
  await shot(page, "many");
  await close(page, "many jobs");
}

export async function many(browser) {
  const server = await startOnpd(["--queue-max", "0"]);
  await scene("many jobs", () => list(browser, server));
  await server.stop();
}
