// Rows: what a request may hold, and how a row is read, flattened and written. This module touches no page.

export const MOST_CELLS = 500; // a tensor with more values gets no form: its row is written as JSON

/** The number of values in a row of this shape. */
export const sizeOf = (shape) => shape.reduce((product, size) => product * size, 1);

/**
 * The fields of a form: a table's columns, or the values of a small tensor.
 *
 * Each field has `name`, `kind` ("numeric" or "categorical"), `categories`, `minimum`, `maximum`, `fill`.
 */
export function fieldsOf(rows) {
  if (rows.kind === "tabular") return rows.columns;
  if (rows.kind !== "tensor" || sizeOf(rows.shape) > MOST_CELLS) return [];
  const [low, high] = rows.spread ?? [0, 1];
  return Array.from({ length: sizeOf(rows.shape) }, (_, place) => ({
    name: nameOf(place, rows.shape), kind: "numeric", categories: null,
    minimum: null, maximum: null, low, high, fill: (low + high) / 2,
  }));
}

/** The typical row of a table: each column's median, or its most frequent category. A tensor has mid-range values. */
export function typicalRow(rows) {
  const fields = fieldsOf(rows);
  if (rows.kind === "tabular") return Object.fromEntries(fields.map((column) => [column.name, typicalCell(column)]));
  return fields.length ? nest(fields.map((field) => field.fill), rows.shape) : null;
}

function typicalCell(column) {
  if (column.kind === "categorical") return column.categories?.[column.fill ?? 0] ?? null;
  return Number.isFinite(column.fill) ? column.fill : null;
}

/** What a field's text means: null if it is empty. A text that is no number is left to the server to refuse. */
export function cellOf(field, text) {
  if (text.trim() === "") return null;
  if (field.kind === "categorical") return text;
  const number = Number(text);
  return Number.isFinite(number) ? number : text;
}

/** The value of one field of a row. */
export function cellAt(row, rows, place) {
  if (rows.kind === "tabular") return row[rows.columns[place].name];
  return flatten(row)[place];
}

/** A copy of a row in which one field has another value. */
export function withCell(row, rows, place, value) {
  if (rows.kind === "tabular") return { ...row, [rows.columns[place].name]: value };
  const values = flatten(row);
  values[place] = value;
  return nest(values, rows.shape);
}

/**
 * Read pasted JSON: a row, or a request with one row.
 *
 * Returns {row, groups}. A table's row that is a list becomes an object by column.
 * Throws an Error with a sentence if the text is no JSON or holds several rows.
 */
export function readPasted(text, rows) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (fault) {
    throw new Error(`This is no JSON: ${fault.message}`);
  }
  let groups = {};
  if (isRequest(value, rows)) {
    if (!Array.isArray(value.instances) || value.instances.length !== 1) {
      throw new Error("A request with one row in `instances` can be tried here. Paste one row.");
    }
    groups = Object.fromEntries(Object.entries(value.groups ?? {}).map(([name, values]) => [name, values?.[0] ?? null]));
    [value] = value.instances;
  }
  return { row: named(value, rows), groups };
}

function isRequest(value, rows) {
  const isColumn = rows.kind === "tabular" && rows.columns.some((column) => column.name === "instances");
  return value !== null && typeof value === "object" && !Array.isArray(value) && "instances" in value && !isColumn;
}

/** A row in the form that this tab keeps: a table's list of values becomes an object by column. */
export function named(row, rows) {
  if (rows.kind !== "tabular" || !Array.isArray(row) || row.length !== rows.columns.length) return row;
  return Object.fromEntries(rows.columns.map((column, place) => [column.name, row[place]]));
}

/** A row of the reference with its numbers, which are float32, in as few digits as give the same float32. */
export function shortened(value) {
  if (Array.isArray(value)) return value.map(shortened);
  if (typeof value === "number") return shortest(value);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, shortened(each)]));
}

function shortest(value) {
  for (let digits = 1; digits <= 9; digits += 1) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === Math.fround(value)) return short;
  }
  return value;
}

/** The numbers of nested lists, in order. */
export const flatten = (row) => (Array.isArray(row) ? row.flat(Infinity) : []);

/** Nested lists of this shape from numbers in order. */
export function nest(values, shape) {
  if (shape.length === 0) return values[0];
  const [length, ...rest] = shape;
  if (rest.length === 0) return Array.from(values);
  const step = sizeOf(rest);
  return Array.from({ length }, (_, at) => nest(values.slice(at * step, (at + 1) * step), rest));
}

/** The name of the value at this place of a row of this shape, such as x[0, 1]. */
export function nameOf(place, shape) {
  const index = [];
  for (let axis = shape.length - 1, rest = place; axis >= 0; axis -= 1) {
    index.unshift(rest % shape[axis]);
    rest = Math.floor(rest / shape[axis]);
  }
  return `x[${index.join(", ")}]`;
}

/** The body of a request about one row. `top` names so many labels; null names the server's default number. */
export function bodyOf(row, { groups = {}, top = null, parameters = { detail: true } } = {}) {
  const given = Object.entries(groups).filter(([, value]) => value !== null && value !== "");
  return {
    instances: [row],
    ...(given.length ? { groups: Object.fromEntries(given.map(([name, value]) => [name, [value]])) } : {}),
    parameters: { ...parameters, ...(top === null ? {} : { top_k: top }) },
  };
}
