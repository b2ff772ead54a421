// The REST interface. All addresses are relative to the page's own, so that the server may stand behind a path prefix.

const base = new URL(".", document.baseURI);
const TOKEN = "onp-token";

export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super((body && (body.detail || body.title)) || "status " + status);
    this.status = status;
    this.errors = (body && body.errors) || [];
    this.retryAfter = retryAfter;
  }
}

export const address = (path) => new URL(path, base).href;

// --- the token: asked for when the server answers 401, kept until the tab is closed ---

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

let wanted = () => {};
export function onTokenWanted(callback) {
  wanted = callback;
}

export function setToken(text) {
  if (text) sessionStorage.setItem(TOKEN, text);
  else sessionStorage.removeItem(TOKEN);
}

function headers(more) {
  const token = sessionStorage.getItem(TOKEN);
  return token === null ? { ...more } : { ...more, Authorization: "Bearer " + token };
}

function refused(status, sent) {
  if (status !== 401) return;
  // An answer to an older request must not take a newer token away.
  if (sent !== null && sent === sessionStorage.getItem(TOKEN)) setToken(null);
  wanted(sent !== null);
}

// --- requests ---

let onReach = () => {};
export function onConnection(callback) {
  onReach = callback;
}

export async function send(path, options) {
  const sent = sessionStorage.getItem(TOKEN);
  let answer;
  try {
    answer = await fetch(address(path), { credentials: "same-origin", ...options, headers: headers(options.headers) });
  } catch (error) {
    if (error.name !== "AbortError") onReach(false);
    throw error.name === "AbortError" ? error : new Problem(0, { detail: "The server cannot be reached." });
  }
  onReach(true);
  if (!answer.ok) {
    refused(answer.status, sent);
    const body = await answer.json().catch(() => null);
    throw new Problem(answer.status, body, Number(answer.headers.get("Retry-After")) || null);
  }
  return answer;
}

export async function get(path, signal) {
  return (await send(path, { signal, headers: { Accept: "application/json" } })).json();
}

export async function text(path, signal) {
  return (await send(path, { signal })).text();
}

export async function post(path, body) {
  const options = { method: "POST" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  return (await send(path, options)).json();
}

export async function remove(path) {
  await send(path, { method: "DELETE" });
}

// All pages of a list, up to `most` entries.
export async function all(path, most, signal) {
  const found = [];
  let after = null;
  do {
    const page = await get(path + "?limit=200" + (after ? "&after=" + encodeURIComponent(after) : ""), signal);
    found.push(...page.data);
    after = page.has_more ? page.next_after : null;
  } while (after && found.length < most);
  return found;
}

// fetch() tells nothing about what has been sent, XMLHttpRequest does: onProgress(bytes, of). Gives {body, field(name)}.
export function transfer(method, path, data, more, onProgress, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new DOMException("stopped", "AbortError"));
    const sent = sessionStorage.getItem(TOKEN);
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open(method, address(path));
    for (const [name, value] of Object.entries(headers(more))) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () => {
      let body = null;
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // nothing, or a proxy's page; the status says enough
      }
      onReach(true);
      if (request.status === 204 || (request.status >= 200 && request.status < 300 && body)) return resolve({ body, field: (name) => request.getResponseHeader(name) });
      refused(request.status, sent);
      return reject(new Problem(request.status, body, Number(request.getResponseHeader("Retry-After")) || null));
    };
    request.onerror = () => reject(new Problem(0, { detail: "The connection broke during the upload." }));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onloadend = () => signal.removeEventListener("abort", stop);
    signal.addEventListener("abort", stop);
    return request.send(data);
  });
}

// With a token the browser cannot follow a plain link: the bytes are fetched and handed over.
export async function download(path, name) {
  const blob = await (await send(path, {})).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// --- events ---

async function readStream(answer, onEvent, note) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pending += value;
    const blocks = pending.split("\n\n");
    pending = blocks.pop();
    for (const block of blocks) {
      const event = { type: "message", data: "" };
      for (const line of block.split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
      }
      if (event.id) note(event.id);
      if (event.data) onEvent(event.event || "message", JSON.parse(event.data));
      if (event.event === "done") return;
    }
  }
}

const pause = (milliseconds, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, milliseconds);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    resolve();
  }, { once: true });
});

// A job's events from the first on, as they come, until it is over or `signal` aborts; a broken connection is made again
// from where it broke. onEvent(type, data): type "done" comes with the job itself.
export async function events(jobId, onEvent, signal, after = 0) {
  let last = after;
  let over = false;
  let wait = 500;
  while (!over && !signal.aborted) {
    try {
      const answer = await send("v1/jobs/" + jobId + "/events", { signal, headers: { Accept: "text/event-stream", "Last-Event-ID": String(last) } });
      await readStream(answer, (type, data) => {
        over = over || type === "done";
        wait = 500;
        onEvent(type, data);
      }, (id) => { last = id; });
    } catch (error) {
      if (error instanceof Problem && [401, 403, 404].includes(error.status)) throw error;
    }
    if (!over && !signal.aborted) await pause(wait, signal);
    wait = Math.min(2 * wait, 10000);
  }
}

export { pause };
