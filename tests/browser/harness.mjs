// What the cases share: results, onpd, the browser, watches over each page.
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { chromium } from "playwright-core";

export const { ONPD, CHROMIUM, WORK, MODEL, CLEAN, PROBE, SHOTS } = process.env;
export const WAIT = 1000 * Number(process.env.BROWSER_WAIT_S || 400); // for a busy machine; nothing here waits for time to pass

let failures = 0;
export function check(name, good, why) {
  console.log((good ? "ok - " : "not ok - ") + name);
  if (good) return;
  failures++;
  if (why !== undefined) console.log("    " + String(why).split("\n").slice(0, 12).join("\n    "));
}
export const failed = () => failures > 0;

// One case: what it throws is its failure.
export async function scene(name, work) {
  const start = Date.now();
  try {
    await work();
    console.log(`# ${name}: ${((Date.now() - start) / 1000).toFixed(1)} s`);
  } catch (error) {
    check(name, false, error.stack || error);
  }
}

// --- onpd ---

// Enough steps that the backdoor is found, searched and repaired: seconds of work, and so little of it that the budget of accuracy has to be a
// wide one (the forged network comes out differently by processor). And a search that is surely still on when somebody looks.
export const FAST = { max_accuracy_drop: 0.05, restarts: 0, iterations: 2, masks_per_iteration: 4, adversary_rounds: 0, random_baseline: false, retune_steps: 40 };
// Done in a blink, where any job will do.
export const QUICK = { method: "clp", parameters: {} };
export const SLOW = { ...FAST, iterations: 10000, masks_per_iteration: 64, patience: 0 };

let servers = 0;
const running = new Set();
export async function startOnpd(options = []) {
  const number = ++servers;
  const ready = path.join(WORK, "ready-" + number);
  const log = fs.openSync(path.join(WORK, "onpd.log"), "a");
  const child = spawn(ONPD, ["--listen", "127.0.0.1:0", "--data", path.join(WORK, "data-" + number), "--ready-file", ready, "--threads", "1", "--drain", "0", "--cancel-grace", "1", ...options], { stdio: ["ignore", log, log] });
  running.add(child);
  const ended = new Promise((resolve) => child.on("exit", () => resolve(running.delete(child))));
  const until = Date.now() + WAIT;
  while (!fs.existsSync(ready) || fs.readFileSync(ready, "utf8") === "") {
    if (child.exitCode !== null || Date.now() > until) throw new Error("onpd did not start");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const url = fs.readFileSync(ready, "utf8").trim() + "/";
  const call = async (method, where, body, headers = {}) => {
    const answer = await fetch(url + where, { method, headers, body });
    return { status: answer.status, json: await answer.json().catch(() => null) };
  };
  const upload = async (kind, file, name, headers = {}) => (await call("POST", "v1/" + kind + "?name=" + encodeURIComponent(name), typeof file === "string" ? fs.readFileSync(file) : file, headers)).json.id;
  const submit = async (job, headers = {}) => call("POST", "v1/jobs", JSON.stringify(job), { "Content-Type": "application/json", ...headers });
  const until_ = async (id, states, headers = {}) => {
    const end = Date.now() + WAIT;
    for (;;) {
      const { json } = await call("GET", "v1/jobs/" + id, undefined, headers);
      if (states.includes(json.state)) return json;
      if (Date.now() > end) throw new Error("job " + id + " is " + json.state);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  };
  const stop = async () => {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 20000);
    await ended;
    clearTimeout(timer);
  };
  return { url, call, upload, submit, until: until_, stop };
}

// What a case that failed has left behind; it would keep the test from ending.
export function stopAll() {
  for (const child of running) child.kill("SIGKILL");
}

// A proxy that puts the server under a path prefix. While `cut(method, path)` is true of a request, its connection is broken after a
// megabyte of the body.
export async function startProxy(target, prefix, cut = () => false) {
  const to = new URL(target);
  const server = http.createServer((request, reply) => {
    if (!request.url.startsWith(prefix)) {
      reply.writeHead(404).end();
      return;
    }
    const onward = http.request({ agent: false, host: to.hostname, port: to.port, method: request.method, path: request.url.slice(prefix.length - 1), headers: request.headers }, (answer) => {
      reply.writeHead(answer.statusCode, answer.headers);
      answer.pipe(reply);
    });
    onward.on("error", () => reply.destroy());
    reply.on("close", () => onward.destroy());
    if (cut(request.method, request.url)) {
      let seen = 0;
      request.on("data", (data) => {
        seen += data.length;
        if (seen <= 1e6) return;
        onward.destroy(); // the server, too, sees it break
        request.socket.destroy();
      });
    }
    request.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: "http://127.0.0.1:" + server.address().port + prefix, stop: () => { server.closeAllConnections(); server.close(); } };
}

// --- browser ---

export const launch = () => chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"] });

// A page in a context of its own. What it logs as an error or throws is collected; refusals that a case provokes are not errors:
// the browser logs each answer of these statuses.
export async function open(browser, url, { theme = "light", width = 1200, height = 850, refusals = [] } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT);
  page.errors = [];
  page.on("console", (message) => {
    const text = message.text();
    const expected = refusals.some((status) => text.includes("status of " + status));
    if (["error", "warning"].includes(message.type()) && !expected) page.errors.push(text);
  });
  page.on("pageerror", (error) => page.errors.push(error.message));
  await page.goto(url);
  return page;
}

export async function close(page, name) {
  check(name + ": nothing on the console", page.errors.length === 0, page.errors.join("\n"));
  await page.context().close();
}

const axe = fs.readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

// No serious violation, and nothing wider than the window.
export async function inspect(page, name) {
  // The policy forbids scripts that are not ours to the page, not to the debugger.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
  check(name + ": no serious finding of axe", serious.length === 0, serious.map((one) => one.id + ": " + one.help + "\n  " + one.nodes.slice(0, 4).map((node) => node.html.slice(0, 160)).join("\n  ")).join("\n"));
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - window.innerWidth);
  check(name + ": not wider than the window", wide <= 0, wide + " pixels too wide");
}

export async function shot(page, name) {
  fs.mkdirSync(SHOTS, { recursive: true });
  await page.evaluate(() => window.scrollTo(0, 0)); // the bar at the top would be in the middle
  await page.screenshot({ path: path.join(SHOTS, name + ".png"), fullPage: true });
}
