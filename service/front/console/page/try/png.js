// A PNG file of an array of pixels. A canvas would write four channels; a model takes the channels that it was made for.

const COLOUR_TYPES = { 1: 0, 3: 2, 4: 6 }; // by the number of channels: grey, RGB, RGBA
const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** Whether a PNG can hold these values, planes of (channels, height, width). */
export const fitsPng = (values, [channels]) => channels in COLOUR_TYPES && values.every((value) => value >= 0 && value <= 1);

/** The bytes of a PNG with 8 bits a channel. `values` are in [0, 1], in planes of (channels, height, width). */
export async function encodePng(values, [channels, height, width]) {
  const plane = height * width;
  const lines = new Uint8Array(height * (1 + width * channels)); // each line begins with 0: no filter
  for (let y = 0, at = 0; y < height; y += 1) {
    at += 1;
    for (let x = 0; x < width; x += 1) {
      for (let channel = 0; channel < channels; channel += 1, at += 1) {
        lines[at] = Math.round(values[channel * plane + y * width + x] * 255);
      }
    }
  }
  const head = new Uint8Array(13);
  new DataView(head.buffer).setUint32(0, width);
  new DataView(head.buffer).setUint32(4, height);
  head.set([8, COLOUR_TYPES[channels], 0, 0, 0], 8);
  const packed = await deflated(lines);
  const parts = [new Uint8Array(SIGNATURE), chunk("IHDR", head), chunk("IDAT", packed), chunk("IEND", new Uint8Array())];
  return joined(parts);
}

/** Bytes as base64. */
export function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, checksum(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** CRC-32, as PNG asks for. */
function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return (sum ^ 0xffffffff) >>> 0;
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
