// The row that is being tried: the row that was chosen, how it was changed since, and what is sent.

import { isStill, nudged, STILL } from "./nudges.js";
import { rowOf } from "./pictures.js";
import { withCell } from "./rows.js";

export class TriedRow {
  /** Begin without a row; `rows` is the schema. */
  constructor(rows) {
    this.rows = rows;
    this.chosen = null; // {row, values, words, prediction}: `values` are an image's pixels, null if there are none
    this.row = null; // the chosen row, or what the form made of it
    this.nudge = { ...STILL };
    this.sent = null; // what a request holds
  }

  /** Choose a row, which `words` name. */
  choose(row, words, values) {
    this.chosen = { row, words, values, prediction: null };
    this.restore();
  }

  /** Undo every change. */
  restore() {
    this.row = this.chosen.row;
    this.sent = this.row;
    this.nudge = { ...STILL };
  }

  /** Give one field of the row another value. */
  setCell(place, value) {
    this.row = withCell(this.row, this.rows, place, value);
    this.sent = this.row;
  }

  /** A row that the form made becomes the chosen row, from which later changes are counted. */
  settle() {
    if (this.row !== this.chosen.row) this.chosen = { ...this.chosen, row: this.row, words: "your row", prediction: null };
  }

  get unchanged() { return this.row === this.chosen.row && isStill(this.nudge); }

  get words() { return this.unchanged ? this.chosen.words : `${this.chosen.words}, changed`; }

  /** The pixels of the image as it is now; null if it has none. */
  get pixels() {
    const { values } = this.chosen;
    return values === null || isStill(this.nudge) ? values : nudged(values, this.rows.shape, this.nudge);
  }

  /** Write the row as a request holds it, into `sent`. */
  async write() {
    this.sent = this.chosen.values === null || isStill(this.nudge) ? this.row : await rowOf(this.pixels, this.rows.shape);
  }
}
