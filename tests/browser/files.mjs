// Large uploads that break and go on, and deletions.
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { CLEAN, MODEL, QUICK, WORK, check, close, inspect, open, scene, shot, startOnpd, startProxy } from "./harness.mjs";

// --- an npz file of noise: large and quickly made ---

function crc32(data) {
  const table = new Uint32Array(256).map((_, i) => {
    let value = i;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
    return value;
  });
  let sum = 0xffffffff;
  for (const byte of data) sum = table[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

function npy(type, shape, data) {
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(", ")},), }`;
  const head = Buffer.from(text.padEnd(128 - 10 - 1) + "\n");
  return Buffer.concat([Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, head.length & 255, head.length >> 8]), head, data]);
}

// A zip file without compression.
function zip(entries) {
  const parts = [], directory = [];
  let at = 0;
  for (const [name, data] of entries) {
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(name.length, 22);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(at, 10);
    parts.push(Buffer.from("PK\x03\x04"), common, Buffer.from(name), data);
    directory.push(Buffer.from("PK\x01\x02\x14\x00"), common, rest, Buffer.from(name));
    at += 30 + name.length + data.length;
  }
  const listed = Buffer.concat(directory), end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(listed.length, 8);
  end.writeUInt32LE(at, 12);
  return Buffer.concat([...parts, listed, Buffer.from("PK\x05\x06"), end]);
}

function makeLarge() {
  const file = path.join(WORK, "large.npz"), count = 4000;
  const data = zip([["x.npy", npy("|u1", [count, 3, 32, 32], crypto.randomBytes(count * 3072))], ["y.npy", npy("|u1", [count], Buffer.from([...Array(count).keys()].map((i) => i % 6)))]]);
  fs.writeFileSync(file, data);
  return { file, sha256: crypto.createHash("sha256").update(data).digest("hex") };
}

async function largeFiles(browser, server) {
  const { file, sha256 } = makeLarge();
  let pieces = 0, broken = true;
  const proxy = await startProxy(server.url, "/onp/", (method) => method === "PATCH" && (pieces++ >= 1 && broken));
  const page = await open(browser, proxy.url + "#/new", { refusals: [409] });
  await page.waitForSelector("#file-samples", { state: "attached" });
  await page.setInputFiles("#file-samples", file);
  await page.waitForSelector("text=The connection broke; trying again");
  check("an upload whose connection breaks is said to be tried again", true);
  await page.reload();
  await page.waitForSelector(".rest >> text=large.npz");
  check("after a reload the page knows how far it came", /up to \d+(\.\d)? MB of 12\.3 MB/.test(await page.textContent(".rest")));
  await inspect(page, "unfinished upload");
  await shot(page, "resume");
  const before = pieces;
  broken = false;
  await page.setInputFiles("#file-samples", file);
  await page.waitForSelector(".slot:nth-of-type(2) .check.good");
  const { json } = await server.call("GET", "v1/samples");
  check("chosen again it goes on, to the very file", json.data.length === 1 && json.data[0].sha256 === sha256 && pieces - before <= 3);
  check("and nothing is left to go on with", (await page.locator(".rest").count()) === 0 && (await page.evaluate(() => localStorage.length)) === 0);
  broken = true;
  await page.setInputFiles("#file-probe", file);
  await page.waitForSelector("text=The connection broke; trying again");
  await page.click("text=Stop");
  await page.waitForSelector(".rest");
  await page.click("text=Discard");
  await page.waitForSelector(".rest", { state: "detached" });
  check("one that is stopped can be discarded", (await page.evaluate(() => localStorage.length)) === 0);
  broken = false;
  const wrong = path.join(WORK, "wrong.npz");
  fs.writeFileSync(wrong, crypto.randomBytes(9e6));
  await page.setInputFiles("#file-probe", wrong);
  await page.waitForSelector("text=This file cannot be used");
  check("a large file that is none is refused with its reason", (await page.evaluate(() => localStorage.length)) === 0);
  page.errors = page.errors.filter((text) => !/ERR_|status of (422|404)/.test(text));
  await close(page, "large files");
  proxy.stop();
}

async function deletions(browser, server) {
  const model_id = await server.upload("models", MODEL, "signs.onnx");
  const samples_id = await server.upload("samples", CLEAN, "clean.npz");
  const { json: job } = await server.submit({ model_id, samples_id, seed: 1, ...QUICK });
  await server.until(job.id, ["succeeded"]);
  const page = await open(browser, server.url + "#/jobs/" + job.id, { refusals: [404] }); // its graph may still come as a model goes
  await page.click("button:has-text('Delete')");
  await page.waitForSelector("dialog[open] >> text=Delete this job?");
  await inspect(page, "question before a deletion");
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog.confirm", { state: "detached" });
  check("nothing is deleted without a yes", (await server.call("GET", "v1/jobs/" + job.id)).status === 200);
  await page.click("button:has-text('Delete')");
  await page.click("dialog >> text=Delete >> nth=-1");
  await page.waitForSelector("text=No jobs yet.");
  check("a job is deleted", (await server.call("GET", "v1/jobs/" + job.id)).status === 404);
  await page.goto(server.url + "#/models/" + model_id);
  await page.click("button:has-text('Delete')");
  await page.click("dialog >> text=Delete >> nth=-1");
  await page.waitForSelector("text=No models yet");
  check("a model is deleted", (await server.call("GET", "v1/models/" + model_id)).status === 404);
  await page.goto(server.url + "#/samples");
  await page.waitForSelector("tbody tr");
  await inspect(page, "samples");
  await shot(page, "samples");
  await page.click("button:has-text('Delete') >> nth=0");
  await page.click("dialog >> text=Delete >> nth=-1");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length < 2);
  check("samples are deleted", (await server.call("GET", "v1/samples/" + samples_id)).status === 404);
  await close(page, "deletions");
}

export async function files(browser) {
  const server = await startOnpd();
  await scene("large files", () => largeFiles(browser, server));
  await scene("deletions", () => deletions(browser, server));
  await server.stop();
}
