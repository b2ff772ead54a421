// Uploads. A small file goes in one request. A larger one goes in pieces (tus 1.0 at /v1/uploads): a connection that breaks costs
// one of them at most, and after a reload the upload goes on where it was as soon as the same file is chosen again.
import * as api from "./api.js";

const WHOLE = 8e6; // bytes that go in one request
const PIECE = 4e6;
const LONGEST_WAIT_MS = 10000;
const TUS = { "Tus-Resumable": "1.0.0" };
const STORE = "onp-upload " + new URL(".", document.baseURI).pathname + " "; // others may live on the same host

const where = (id) => "v1/uploads/" + id;
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

// --- what was begun: {id, slot, name, size, modified}, by file, kept in the browser ---

const keyOf = (slot, file) => STORE + JSON.stringify([slot, file.name, file.size, file.lastModified]);

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

// How much of it the server has; null if the server knows it no more.
async function offsetOf(id, signal) {
  try {
    return Number((await api.send(where(id), { method: "HEAD", headers: TUS, signal })).headers.get("Upload-Offset"));
  } catch (error) {
    if (error.status === 404 || error.status === 410) return null;
    throw error;
  }
}

// Uploads of a slot that were begun and not finished: [{key, id, name, size, offset}].
export async function unfinished(slot, signal) {
  const found = [];
  for (const key of Object.keys(localStorage).filter((one) => one.startsWith(STORE))) {
    const entry = read(key);
    if (entry && entry.slot !== slot) continue;
    const offset = entry && entry.expires > Date.now() ? await offsetOf(entry.id, signal) : null;
    if (offset === null) localStorage.removeItem(key);
    else found.push({ ...entry, key, offset });
  }
  return found;
}

export async function discard({ key, id }) {
  localStorage.removeItem(key);
  await api.send(where(id), { method: "DELETE", headers: TUS }).catch(() => {});
}

async function begin(slot, kind, file, signal) {
  const answer = await api.send("v1/uploads", { method: "POST", signal, headers: { ...TUS, "Upload-Length": String(file.size), "Upload-Metadata": `kind ${base64(kind)},name ${base64(file.name)}` } });
  const upload = await answer.json();
  localStorage.setItem(keyOf(slot, file), JSON.stringify({ id: upload.id, slot, name: file.name, size: file.size, expires: Date.parse(upload.expires_at) }));
  return upload.id;
}

// --- sending ---

// Worth another try: no connection, a proxy without a server, a server that is busy or still closes the broken request.
const passes = (error) => [0, 408, 409, 429, 500, 502, 503, 504].includes(error.status);

async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new api.Problem(-1, { detail: "The file was changed or moved: it can no longer be read." });
  }
}

// From `offset` (null: asks the server) to the end, then the checks. Any step may fail and be done again.
async function finish(kind, file, id, offset, { signal, onProgress, onWait }) {
  let wait = 500;
  for (;;) {
    try {
      if (offset === null) offset = await offsetOf(id, signal);
      if (offset === null) throw new api.Problem(404, { detail: "The server has dropped what was sent before. Choose the file again to begin anew." });
      onProgress(offset, file.size);
      while (offset < file.size) {
        const from = offset;
        const { field } = await api.transfer("PATCH", where(id), file.slice(from, from + PIECE), { ...TUS, "Upload-Offset": String(from), "Content-Type": "application/offset+octet-stream" },
          (loaded) => onProgress(from + loaded, file.size), signal);
        offset = Number(field("Upload-Offset"));
        wait = 500;
      }
      const answer = await api.send(where(id) + "/complete", { method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ kind, name: file.name }) });
      return await answer.json();
    } catch (error) {
      if (signal.aborted || !passes(error)) throw error;
      await readable(file);
      offset = null;
      onWait(error);
      await api.pause(error.retryAfter ? 1000 * error.retryAfter : wait, signal);
      if (signal.aborted) throw new DOMException("stopped", "AbortError");
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    }
  }
}

// A model or samples of a file: `slot` tells uploads of the page apart, `kind` is the server's word for what it becomes.
// on.signal stops it; on.onProgress(bytes, of); on.onWait(error) when the connection is lost and will be tried again.
export async function upload(slot, kind, file, on) {
  if (file.size <= WHOLE) {
    const { body } = await api.transfer("POST", (kind === "model" ? "v1/models" : "v1/samples") + "?name=" + encodeURIComponent(file.name), file, { "Content-Type": "application/octet-stream" }, on.onProgress, on.signal);
    return body;
  }
  const key = keyOf(slot, file);
  const known = read(key);
  let offset = known ? await offsetOf(known.id, on.signal) : null;
  let id = known && known.id;
  if (offset === null) {
    id = await begin(slot, kind, file, on.signal);
    offset = 0;
  }
  try {
    const object = await finish(kind, file, id, offset, on);
    localStorage.removeItem(key);
    return object;
  } catch (error) {
    // A file that was refused is no use on the server; one that was stopped may go on later.
    if (error.status >= 400 && error.status !== 401 && error.status !== 403) await discard({ key, id });
    throw error;
  }
}
