// Numbers, shares, durations and times as people read them.

const NOTHING = "–";
const missing = (x) => x === null || x === undefined || Number.isNaN(x);

export function number(x) {
  if (missing(x)) return NOTHING;
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x !== 0 && Math.abs(x) < 0.001) return x.toExponential(1).replaceAll("-", "−");
  const digits = Math.abs(x) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 };
  return x.toLocaleString("en", digits).replace("-", "−");
}

export function percent(x) {
  if (missing(x)) return NOTHING;
  const shown = 100 * x;
  return `${shown.toLocaleString("en", { maximumFractionDigits: Math.abs(shown) < 1 ? 2 : 1 }).replace("-", "−")} %`;
}

export function milliseconds(x) {
  if (missing(x)) return NOTHING;
  if (x >= 1000) return `${(x / 1000).toLocaleString("en", { maximumSignificantDigits: 3 })} s`;
  return `${x.toLocaleString("en", { maximumSignificantDigits: 3 })} ms`;
}

export function interval(ends, write = number) {
  return missing(ends) ? NOTHING : `${write(ends[0])} to ${write(ends[1])}`;
}

// Seconds since 1970, or a text in ISO 8601.
export function time(t) {
  if (missing(t)) return NOTHING;
  return new Date(typeof t === "number" ? 1000 * t : t).toLocaleTimeString([], { hour12: false });
}
