// Between image files, arrays of pixels, and canvases.

import { make } from "../dom.js";
import { base64, encodePng, fitsPng } from "./png.js";
import { nest } from "./rows.js";

const LUMA = [0.299, 0.587, 0.114]; // grey of red, green, blue, as Pillow computes it
const CHANNELS = [1, 3, 4];

/** Whether the rows are images that a file can hold. */
export const takesFiles = (rows) => rows.kind === "image" && CHANNELS.includes(rows.shape[0]);

/** The sizes of an image in words. */
export function sizesOf([channels, height, width]) {
  return `${width} × ${height} pixels with ${channels} ${channels === 1 ? "channel" : "channels"}`;
}

/** A canvas that shows an image, planes of (channels, height, width). Values beyond [0, 1] are scaled for the eye. */
export function pictureOf(values, shape, attributes = {}) {
  const [, height, width] = shape;
  const canvas = make("canvas", { width, height, role: "img", ...attributes });
  paint(canvas, values, shape);
  return canvas;
}

/** Paint an image on a canvas of its size. */
export function paint(canvas, values, [channels, height, width]) {
  const plane = height * width;
  let [low, high] = [0, 1];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const byte = (value) => (255 * (value - low)) / (high - low);
  const pixels = new ImageData(width, height);
  for (let at = 0; at < plane; at += 1) {
    for (let colour = 0; colour < 3; colour += 1) {
      pixels.data[4 * at + colour] = byte(values[(channels < 3 ? 0 : colour * plane) + at]);
    }
    pixels.data[4 * at + 3] = channels === 4 ? byte(values[3 * plane + at]) : 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** Paint contributions (height x width) over an image: one colour speaks for the target, the other against it. */
export function paintHeat(canvas, contributions, [height, width], [supports, opposes]) {
  const strongest = contributions.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(128 128 128 / 0.55)"; // a paler image lets the colours show
  context.fillRect(0, 0, width, height);
  for (let at = 0; at < height * width; at += 1) {
    context.globalAlpha = 0.9 * Math.sqrt(Math.abs(contributions[at]) / strongest);
    context.fillStyle = contributions[at] >= 0 ? supports : opposes;
    context.fillRect(at % width, Math.floor(at / width), 1, 1);
  }
  context.globalAlpha = 1;
}

/**
 * Read an image file for a model of this shape.
 *
 * Returns {row, values, note, fitted}. If the file has the model's size, the file itself is the row. Otherwise, or if
 * `fit` is true, the page scales the picture and makes a PNG with the model's channels, and `note` says so.
 * Throws an Error with a sentence if the browser cannot decode the file.
 */
export async function readPicture(file, shape, { fit = false } = {}) {
  const [, height, width] = shape;
  const bitmap = await decoded(file);
  const fitted = fit || bitmap.width !== width || bitmap.height !== height;
  const values = pixelsOf(bitmap, shape);
  if (!fitted) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    return { row: { b64: base64(bytes) }, values, note: `${file.name}, as it is.`, fitted };
  }
  const has = `${bitmap.width} × ${bitmap.height} pixels`;
  const note = `${file.name} has ${has}. The page made ${sizesOf(shape)} of it, and sends those.`;
  return { row: await rowOf(values, shape), values, note, fitted };
}

/** The pixels of a base64 file or of nested lists, for the eye and for nudges. */
export async function valuesOf(row, shape) {
  if (row?.b64 === undefined) return Float64Array.from(row.flat(Infinity));
  const bytes = Uint8Array.from(atob(row.b64), (letter) => letter.charCodeAt(0));
  return pixelsOf(await decoded(new Blob([bytes])), shape);
}

/** An image as a request holds it: a PNG if a PNG can hold it, otherwise nested lists. */
export async function rowOf(values, shape) {
  if (fitsPng(values, shape)) return { b64: base64(await encodePng(values, shape)) };
  return nest(Array.from(values, (value) => Number(value.toFixed(5))), shape);
}

async function decoded(file) {
  try {
    return await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${file.name ?? "The file"} is no image that this browser can read. Choose a PNG or JPEG file.`);
  }
}

function pixelsOf(bitmap, [channels, height, width]) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  if (channels !== 4) {
    context.fillStyle = "#fff"; // behind transparent pixels
    context.fillRect(0, 0, width, height);
  }
  const { x, y, across, down } = centred(bitmap, width, height);
  context.drawImage(bitmap, x, y, across, down, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const plane = height * width;
  const values = new Float64Array(channels * plane);
  for (let at = 0; at < plane; at += 1) {
    const colours = data.subarray(4 * at, 4 * at + 4);
    if (channels === 1) values[at] = Math.round(LUMA.reduce((sum, part, colour) => sum + part * colours[colour], 0)) / 255;
    else for (let channel = 0; channel < channels; channel += 1) values[channel * plane + at] = colours[channel] / 255;
  }
  return values;
}

/** The largest part of a picture, in its middle, that has the wanted proportions. */
function centred({ width: has, height: tall }, width, height) {
  const across = Math.min(has, (tall * width) / height);
  const down = Math.min(tall, (has * height) / width);
  return { x: (has - across) / 2, y: (tall - down) / 2, across, down };
}
