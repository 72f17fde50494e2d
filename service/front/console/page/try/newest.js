// Work for the newest question: while one is being answered, only the last of those that come is kept.

/** A function that takes a question. At most one `work(question)` runs at a time, and the newest is always answered. */
export function newestOf(work) {
  let running = false;
  let waiting = null;
  return async (question) => {
    waiting = [question];
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const [next] = waiting;
        waiting = null;
        await work(next); // one after the other: that is the point
      }
    } finally {
      running = false;
    }
  };
}
