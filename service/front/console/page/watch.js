// Asks again and again while somebody can see the page.

/** Call `look` at once and `every` so many milliseconds while the page is visible; the returned function ends this. */
export function watch(look, every) {
  let timer = null;
  let stopped = false;
  let busy = false;

  async function turn() {
    clearTimeout(timer);
    if (stopped || busy || document.hidden) return;
    busy = true;
    try {
      await look();
    } finally {
      busy = false;
      if (!stopped) timer = setTimeout(turn, every);
    }
  }

  document.addEventListener("visibilitychange", turn);
  turn();
  return () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", turn);
  };
}
