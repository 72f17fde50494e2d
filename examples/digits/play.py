"""Play a few minutes of traffic against the demo server, so that its console has something to show.

Most rows are images that nobody has trained on. Some are noisy, some are foreign. After a minute all images become
darker, which the drift monitor should find. Labels follow ten seconds after the answers, and not all of them come.
"""

import argparse
import itertools
import sys
import time
from collections import deque
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

Images, Flags = NDArray[np.float32], NDArray[np.bool_]
MODEL = "/v1/models/digits"
PAUSE = 0.1
"""Seconds from one request to the next."""
MOST_ROWS = 4
NOISY, FOREIGN = 0.05, 0.02
"""The shares of rows that are noisy, and that are no digits."""
NOISE, DARKER = 0.25, 0.6
DRIFT_AFTER = 60.0
"""The seconds after which every image is darker."""
LABEL_AFTER, LABELLED = 10.0, 0.7
"""The seconds from an answer to its label, and the share of answers that get one."""


def spoil(images: Images, foreign: Images, rng: np.random.Generator, *, drift: bool) -> tuple[Images, Flags]:
    """Make some of the images (n, 1, 8, 8) noisy, replace others, and darken all if there is ``drift``.

    Returns the rows, and which of them still show their digit.
    """
    rows = images * DARKER if drift else images.copy()
    kind = rng.random(len(rows))
    noisy, strange = kind < NOISY, kind > 1 - FOREIGN
    rows[noisy] += rng.normal(0, NOISE, rows[noisy].shape)
    rows[strange] = foreign[rng.integers(len(foreign), size=int(strange.sum()))]
    return rows.clip(0, 1).astype(np.float32).round(4), ~strange


def play(client: httpx.Client, folder: Path, seconds: float, seed: int = 0) -> int:
    """Send traffic for so many seconds, and return how many rows were answered.

    Raises:
        httpx.HTTPError: the server cannot be reached, or does not answer with a success.
    """
    rng = np.random.default_rng(seed)
    test, foreign = np.load(folder / "test.npz"), np.load(folder / "suspect.npz")["x"]
    x, y = test["x"], test["y"]
    waiting: deque[tuple[float, list[dict[str, str]]]] = deque()
    begun, answered = time.monotonic(), 0
    play_id = f"play-{time.time_ns()}"
    for number in itertools.count():
        now = time.monotonic() - begun
        if now > seconds:
            return answered
        chosen = rng.integers(len(x), size=rng.integers(1, MOST_ROWS + 1))
        rows, labelled = spoil(x[chosen], foreign, rng, drift=now > DRIFT_AFTER)
        ids = [f"{play_id}-{number}-{place}" for place in range(len(rows))]
        client.post(f"{MODEL}:predict", json={"instances": rows.tolist(), "ids": ids}).raise_for_status()
        answered += len(rows)
        known = labelled & (rng.random(len(rows)) < LABELLED)
        labels = [{"id": ids[place], "label": str(y[chosen[place]])} for place in np.flatnonzero(known)]
        waiting.append((now + LABEL_AFTER, labels))
        due = [waiting.popleft()[1] for _ in range(sum(when <= now for when, _ in waiting))]
        if outcomes := list(itertools.chain.from_iterable(due)):
            client.post(f"{MODEL}:feedback", json={"outcomes": outcomes}).raise_for_status()
        time.sleep(PAUSE)
    raise AssertionError


def main() -> None:
    """Play against the server that --url names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:3000", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long; default: %(default)g")
    arguments = parser.parse_args()
    sys.stdout.write(f"traffic for {arguments.seconds:g} seconds; see {arguments.url}/console\n")
    sys.stdout.flush()
    try:
        with httpx.Client(base_url=arguments.url, timeout=30) as client:
            rows = play(client, Path(__file__).parent / "build", arguments.seconds)
    except (httpx.HTTPError, FileNotFoundError) as fault:
        sys.exit(f"{arguments.url}: {fault}; start the demo with `make serve` first")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.stdout.write(f"{rows} rows were answered\n")


if __name__ == "__main__":
    main()
