"""Traffics to scale to: requests a second over time, places for pods, and whether monitoring works."""

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

__all__ = ["Traffic", "burst", "daily", "dearer", "flash", "made", "outage", "recorded", "shortage"]

Floats = npt.NDArray[np.float64]
PEAK = 1_000_000.0
DAY = 86_400
FLASH_RAMP, FLASH_TIMES = 30.0, 10.0
OUTAGE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """``rate`` of requests, their ``rows``, ``places`` for pods and ``monitored``, every ``step`` seconds.

    The first ``scored`` seconds let the loop settle; ``event`` is the time of an event, if there is one.
    """

    name: str
    title: str
    step: float
    rate: Floats
    rows: Floats
    places: Floats
    monitored: npt.NDArray[np.bool_]
    scored: float
    event: float | None = None

    @property
    def rows_per_second(self) -> Floats:
        """The rows that must be served, at every step."""
        return self.rate * self.rows


def _free(name: str, title: str, step: float, rate: Floats, scored: float, event: float | None = None) -> Traffic:
    everywhere = np.full(len(rate), np.inf)
    return Traffic(
        name, title, step, rate, np.ones(len(rate)), everywhere, np.ones(len(rate), dtype=bool), scored, event
    )


def daily(seed: int) -> Traffic:
    """Make a day from 100,000 requests a second to a million, with 4 % of noise that lasts some minutes."""
    step, lead = 5.0, 1800.0
    time = np.arange(0, DAY + lead, step) - lead
    cycle = 0.55 - 0.45 * np.cos(2 * np.pi * time / DAY)
    kept = math.exp(-step / 300)
    shocks = np.random.default_rng(seed).normal(scale=0.04 * math.sqrt(1 - kept**2), size=len(time))
    noise = lfilter([1.0], [1.0, -kept], shocks)
    rate = PEAK * np.minimum(cycle * (1 + noise), 1.0)
    return _free("daily", "a day to 1,000,000 requests/s", step, rate, lead)


def flash(*, low: float = 20_000.0) -> Traffic:
    """Rise from a steady rate to ten times as much in half a minute, stay for half an hour, and fall back."""
    step, lead, calm, high = 0.5, 1200.0, 300.0, 1800.0
    begin, end = lead + calm, lead + calm + high
    at = [0, begin, begin + FLASH_RAMP, end, end + 60, end + 1500]
    time = np.arange(0, at[-1], step)
    rate = np.interp(time, at, [low, low, FLASH_TIMES * low, FLASH_TIMES * low, low, low])
    return _free("flash", f"ten times {low:,.0f} requests/s in {FLASH_RAMP:.0f} s", step, rate, lead, lead + calm)


def shortage(whole: Traffic, places: float) -> Traffic:
    """Limit the number of nodes over the middle half of a day."""
    time = np.arange(len(whole.rate)) * whole.step - whole.scored
    short = (time > DAY / 4) & (time < 3 * DAY / 4)
    title = f"the same day, and nodes for no more than {places:,.0f} replicas around noon"
    return replace(whole, name="shortage", title=title, places=np.where(short, places, np.inf))


def outage(*, low: float = 200_000.0, high: float = 300_000.0) -> Traffic:
    """Lose monitoring for ten minutes while the traffic rises by half."""
    step, lead = 1.0, 1200.0
    time = np.arange(0, lead + 3600, step)
    rate = np.interp(time, [0, lead + 300, lead + 1500], [low, low, high])
    title = "no monitoring for ten minutes, while traffic rises by half in twenty"
    dark = (time >= lead + 600) & (time < lead + 600 + OUTAGE_SECONDS)
    return replace(_free("outage", title, step, rate, lead, lead + 600), monitored=~dark)


def dearer(*, steady: float = 100_000.0, rows: float = 3.0) -> Traffic:
    """Keep the requests, and let each have three rows in place of one; three rows count as three requests."""
    step, lead = 1.0, 1200.0
    time = np.arange(0, lead + 5400, step)
    title = f"{steady:,.0f} requests/s throughout, which come to bring {rows:g} rows each"
    free = _free("dearer", title, step, np.full(len(time), steady), lead, lead + 600)
    return replace(free, rows=np.interp(time, [0, lead + 600, lead + 2400], [1.0, 1.0, rows]))


def burst(seed: int, *, mean: float = 200_000.0, sources: int = 64) -> Traffic:
    """Superpose sources that are on and off for Pareto times: self-similar, as web traffic is.

    Willinger, Taqqu, Sherman and Wilson, "Self-similarity through high-variability", 1997; shape 1.4, least 20 s, most
    an hour. Synthetic: it is no recording of anybody's service.
    """
    step, lead, length = 1.0, 1200.0, 7200.0
    rng = np.random.default_rng(seed)
    count = int((lead + length) / step)
    total = np.zeros(count)
    for _ in range(sources):
        now, on = -float(rng.uniform(0, 600)), bool(rng.random() < 0.5)  # noqa: PLR2004 - a fair coin
        while now < count * step:
            ends = now + min(20 * (1 + float(rng.pareto(1.4))), 3600.0)
            if on:
                total[max(0, int(now / step)) : max(0, int(ends / step))] += 1
            now, on = ends, not on
    rate = mean * (0.25 + 0.75 * total / total.mean())
    return _free("burst", "bursts on every scale (64 on/off sources with Pareto times)", step, rate, lead)


def recorded(path: Path) -> Traffic:
    """Read a recorded rate: CSV with a header and two columns, seconds and requests a second.

    Raises:
        ValueError: Fewer than two rows, or times that do not rise.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(float(row[0]), float(row[1])) for row in list(csv.reader(file))[1:]]
    time, rate = np.array(rows, dtype=float).reshape(-1, 2).T
    if len(time) < 2 or not (np.diff(time) > 0).all():  # noqa: PLR2004
        raise ValueError(f"{path}: two columns are wanted, rising seconds and requests a second, in two rows or more")
    step, lead = 1.0, 1200.0
    at = np.arange(time[0], time[-1], step)
    series = np.concatenate([np.full(int(lead / step), rate[0]), np.interp(at, time, rate)])
    return _free("recorded", f"recorded: {path.name}", step, series, lead)


def made(seed: int) -> list[Traffic]:
    """Make the traffics that need no parameter; the shortage depends on the replica."""
    return [flash(), daily(seed), burst(seed), dearer(), outage()]
