// Images that come as base64 of bytes (C, H, W), drawn on a canvas with hard edges.
import { h } from "./dom.js";

export function unpack(text) {
  const binary = atob(text);
  const data = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) data[i] = binary.charCodeAt(i);
  return data;
}

// Red, green and blue of pixel i: three channels as they are, others as the grey of the first.
const colours = (data, shape, i) => {
  const pixels = shape.height * shape.width;
  return shape.channels === 3 ? [data[i], data[pixels + i], data[2 * pixels + i]] : [data[i], data[i], data[i]];
};

// colour(i): [r, g, b] of pixel i.
function draw(shape, label, colour) {
  const canvas = h("canvas", { class: "pixels", width: shape.width, height: shape.height, role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  const image = context.createImageData(shape.width, shape.height);
  for (let i = 0; i < shape.width * shape.height; i++) {
    const [r, g, b] = colour(i);
    image.data.set([r, g, b, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

export function picture(shape, data, label) {
  return draw(shape, label, (i) => colours(data, shape, i));
}

// What a patch puts on an image: its pattern where its mask is, grey where it is not.
export function patch(shape, mask, pattern, label) {
  return draw(shape, label, (i) => colours(pattern, shape, i).map((value) => 128 + ((value - 128) * mask[i]) / 255));
}

// The difference of two images on grey, made as strong as fits.
export function difference(shape, from, to, label) {
  let most = 1;
  for (let i = 0; i < from.length; i++) most = Math.max(most, Math.abs(to[i] - from[i]));
  const scaled = from.map((value, i) => 128 + Math.round((127 * (to[i] - value)) / most));
  return { canvas: draw(shape, label, (i) => colours(scaled, shape, i)), times: 127 / most };
}
