// Small changes of an image: noise, blur, brightness. The same numbers always make the same image.

export const STILL = { noise: 0, blur: 0, brightness: 0 };

/** Whether nothing is to be changed. */
export const isStill = (nudge) => Object.keys(STILL).every((name) => !nudge[name]);

/**
 * A changed copy of an image, in planes of (channels, height, width), clipped to [0, 1].
 *
 * `noise` is the standard deviation of Gaussian noise, `blur` that of a Gaussian blur in pixels, and `brightness` is
 * added to every pixel. A fourth channel is transparency, which nothing changes.
 */
export function nudged(values, shape, { noise, blur, brightness }, seed = 1) {
  const [channels, height, width] = shape;
  const plane = height * width;
  const coloured = channels === 4 ? 3 : channels;
  const changed = Float64Array.from(values);
  const random = normals(seed);
  for (let channel = 0; channel < coloured; channel += 1) {
    const part = changed.subarray(channel * plane, (channel + 1) * plane);
    if (blur > 0) part.set(blurred(part, height, width, blur));
    for (let at = 0; at < plane; at += 1) {
      part[at] = Math.min(1, Math.max(0, part[at] + brightness + (noise > 0 ? noise * random() : 0)));
    }
  }
  return changed;
}

/** A Gaussian blur, first along the lines and then along the columns; the edges are repeated outwards. */
function blurred(values, height, width, deviation) {
  const reach = Math.ceil(3 * deviation);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, at) => Math.exp(-((at - reach) ** 2) / (2 * deviation ** 2)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const across = smoothed(values, height, width, weights, total, (y, x) => y * width + x);
  // Along the columns: the same walk over the transposed image.
  return smoothed(across, width, height, weights, total, (x, y) => y * width + x);
}

function smoothed(values, outer, inner, weights, total, place) {
  const reach = (weights.length - 1) / 2;
  const made = new Float64Array(values.length);
  for (let line = 0; line < outer; line += 1) {
    for (let at = 0; at < inner; at += 1) {
      let sum = 0;
      for (let step = -reach; step <= reach; step += 1) {
        sum += weights[step + reach] * values[place(line, Math.min(inner - 1, Math.max(0, at + step)))];
      }
      made[place(line, at)] = sum / total;
    }
  }
  return made;
}

/** A source of standard normal numbers (Box and Muller, over the generator mulberry32). */
function normals(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** The lowest and the highest value of a slider for a numeric field: beyond its bounds, so that guards may object. */
export function rangeOf(field, seen) {
  const numbers = seen.filter((value) => typeof value === "number" && Number.isFinite(value));
  const ends = [field.minimum, field.maximum, field.low, field.high, ...numbers].filter((end) => Number.isFinite(end));
  if (Number.isFinite(field.fill)) ends.push(field.fill);
  if (!ends.length) ends.push(0);
  const low = Math.min(...ends);
  const high = Math.max(...ends);
  const margin = high > low ? (high - low) / 2 : Math.max(1, Math.abs(low));
  return [low - margin, high + margin];
}
