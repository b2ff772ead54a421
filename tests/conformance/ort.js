// Runs a model in ONNX Runtime: node ort.js MODEL.onnx INPUT.pb OUTPUT.pb
// The files are TensorProtos of float32. If OUTPUT.pb is there, prints how far it is from what ONNX Runtime gives (the largest
// difference over the largest magnitude); then writes ONNX Runtime's output to it. ONP_ORT is the folder with the
// node_modules that have onnxruntime-node.
'use strict';
const fs = require('fs'), path = require('path');
const ort = require(path.join(path.resolve(process.env.ONP_ORT || '.'), 'node_modules', 'onnxruntime-node'));

function varint(b, p) {
  let v = 0, m = 1, c;
  do { c = b[p++]; v += (c & 127) * m; m *= 128; } while (c & 128);
  return [v, p];
}
function tensor(file) {
  const b = fs.readFileSync(file), dims = [];
  let raw = null, p = 0, v = 0;
  while (p < b.length) {
    [v, p] = varint(b, p);
    const field = Math.floor(v / 8), type = v & 7;
    if (type === 0) { [v, p] = varint(b, p); if (field === 1) dims.push(v); }
    else if (type === 2) {
      let n; [n, p] = varint(b, p);
      if (field === 9) raw = Uint8Array.from(b.subarray(p, p + n));
      if (field === 1) for (let q = p; q < p + n;) { let d; [d, q] = varint(b, q); dims.push(d); }
      p += n;
    } else throw new Error('wire type ' + type + ' in ' + file);
  }
  return { dims, data: new Float32Array(raw.buffer) };
}
function encode(v) {
  const out = [];
  while (v > 127) { out.push((v % 128) | 128); v = Math.floor(v / 128); }
  out.push(v);
  return Buffer.from(out);
}
function pack(dims, data) {
  const raw = Buffer.from(data.buffer, data.byteOffset, data.byteLength), parts = [];
  for (const d of dims) parts.push(encode(8), encode(d));
  parts.push(encode(16), encode(1), encode(9 * 8 + 2), encode(raw.length), raw);
  return Buffer.concat(parts);
}
(async () => {
  const [model, input, output] = process.argv.slice(2), x = tensor(input);
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 2, interOpNumThreads: 1, logSeverityLevel: 3 });
  const y = (await session.run({ [session.inputNames[0]]: new ort.Tensor('float32', x.data, x.dims) }))[session.outputNames[0]];
  if (fs.existsSync(output)) {
    const had = tensor(output);
    let worst = 0, scale = 1e-6;
    for (let i = 0; i < y.data.length; i++) {
      scale = Math.max(scale, Math.abs(y.data[i]));
      worst = Math.max(worst, Math.abs(y.data[i] - had.data[i]));
    }
    const ratio = had.data.length === y.data.length ? worst / scale : Infinity;
    console.log(ratio.toExponential(1));
    if (!(ratio <= 1e-4)) process.exitCode = 1;
  }
  fs.writeFileSync(output, pack(y.dims, y.data));
})().catch(e => { console.error(String(e.message || e)); process.exit(1); });
