"""One replica as a queue: Poisson arrivals, batches of whatever waits, a bounded queue (``service/engine/batcher.py``).

A batch of n rows takes ``fixed + per_row * n`` seconds and at most ``max_batch`` rows; who finds ``queue_rows`` waiting
is refused. The batcher's other refusal, of deadlines that cannot be met, is such a bound too: as many rows as take
that long. The queue at the ends of batches is a Markov chain, solved exactly (Bailey, "On queueing processes with
bulk service", 1954, with a bound, and a server that starts at once when idle); what an arrival finds follows from it,
since Poisson arrivals see time averages. One approximation: those who come after a waiting request, and share its
batch, count by their mean.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.stats import poisson

__all__ = ["DELAYS", "Replica", "Steady", "quantile", "steady"]

Floats = npt.NDArray[np.float64]
DELAYS: Floats = np.geomspace(1e-3, 10.0, 241)
"""The grid of delays in seconds on which distributions are kept: sixty points a decade."""
NODES, WEIGHTS = np.array([-(3**0.5), 0.0, 3**0.5]), np.array([1 / 6, 2 / 3, 1 / 6])
"""A normal distribution in three points (Gauss-Hermite)."""
INSTANTS = (np.arange(8) + 0.5) / 8
BINS = 8192


@dataclass(frozen=True, slots=True)
class Replica:
    """The parameters of a replica: times in seconds, processor time in core-seconds."""

    name: str
    fixed: float
    per_row: float
    max_batch: int
    queue_rows: int
    noise: float
    """Coefficient of variation of a batch's time."""
    offset: float
    tail: float
    """Beside the queue: a constant part of every delay, and the mean of an exponential one."""
    http_row: float
    """The event loop's time for a row, which a request waits for as often as its batch has rows."""
    device_fixed: float
    device_per_row: float
    cpu_batch: float
    cpu_row: float
    refusal: float
    """What the interpreter spends on a refusal, and predictions do not get."""
    cores: float = 1.0
    """Processor request of the pod."""
    kernel_fixed: float = 0.0
    kernel_per_row: float = 0.0
    """Of a batch, how long a GPU runs kernels."""
    start: float = 10.0
    provision: float = 120.0
    """Medians: pod created to ready on a node that is there; a node asked for to there."""

    @property
    def capacity(self) -> float:
        """The rows a second in full batches."""
        return self.max_batch / (self.fixed + self.per_row * self.max_batch)


@dataclass(frozen=True, slots=True, eq=False)
class Steady:
    """A replica at a constant rate: ``rows`` waiting and in service, and CDFs of delay and wait at DELAYS."""

    rate: float
    served: float
    rows: float
    queue: float
    batches: float
    busy: float
    kernels: float
    inflight: float
    delay: Floats
    wait: Floats

    @property
    def shed(self) -> float:
        """The share of refused requests."""
        return max(0.0, 1 - self.served / self.rate)


def steady(replica: Replica, rate: float) -> Steady:
    """Solve a replica at ``rate`` single-row requests a second; its curve adds the cost of refusals."""
    most, bound = replica.max_batch, replica.queue_rows
    spread = np.maximum(1 + replica.noise * NODES, 0.05)
    sizes = np.arange(1, most + 1)
    times: Floats = np.asarray((replica.fixed + replica.per_row * sizes)[:, None] * spread, float)  # (size, node)
    ends = _ends(rate, times, bound)

    taken = np.clip(np.arange(bound + 1), 1, most)
    of_size = np.bincount(taken - 1, weights=ends, minlength=most)
    mean_times = times @ WEIGHTS
    cycle = float(of_size @ mean_times + ends[0] / rate)
    served = float(of_size @ sizes) / cycle

    # What an arrival finds: weight[size, node, instant, queue], by time; the rest of the time the server idles.
    elapsed = times[:, :, None] * INSTANTS
    came = poisson.pmf(np.arange(bound + 1), (rate * elapsed)[..., None])
    came[..., -1] += np.maximum(0.0, 1 - came.sum(-1))
    weight = came * (of_size[:, None] * times * WEIGHTS)[:, :, None, None] / len(INSTANTS) / cycle
    left = ends[most:].copy()  # behind a full batch some are left over
    left[0] += ends[0] if most == 1 else 0.0
    if left.sum() > 0:
        held = came[-1]
        spilled = np.stack([_shifted(row, left) for row in held.reshape(-1, bound + 1)]).reshape(held.shape)
        weight[-1] = spilled * (times[-1] * WEIGHTS)[:, None, None] / len(INSTANTS) / cycle
    idle = float(ends[0]) / rate / cycle
    found = weight.sum((0, 1, 2))
    queue = float(found @ np.arange(bound + 1))
    rows = queue + float(of_size @ (mean_times * sizes)) / cycle

    ahead = np.arange(bound)
    residual = times[:, :, None] * (1 - INSTANTS)
    full = mean_times[-1]
    wait = residual[..., None] + (ahead // most) * full
    own = np.minimum(most, ahead % most + 1 + np.minimum(rate * wait, bound - ahead - 1))
    total = wait + replica.fixed + (replica.per_row + replica.http_row) * own
    admitted = weight[..., :bound]
    mass = float(admitted.sum()) + idle
    alone = float(mean_times[0]) + replica.http_row
    horizon = float(total.max()) + replica.offset + 12 * replica.tail
    delays = np.append(total.ravel(), alone) + replica.offset
    chances = np.append(admitted.ravel(), idle) / mass
    inflight = served * (float(delays @ chances) + replica.tail)
    return Steady(
        rate, served, rows, queue, 1 / cycle,
        float(of_size @ (replica.device_fixed + replica.device_per_row * sizes)) / cycle,
        float(of_size @ (replica.kernel_fixed + replica.kernel_per_row * sizes)) / cycle,
        inflight,
        _cdf(delays, chances, horizon, replica.tail),
        _cdf(np.append(wait.ravel(), 0.0), chances, horizon, 0.0),
    )  # fmt: skip


def _ends(rate: float, times: Floats, bound: int) -> Floats:
    """Give the stationary probabilities (bound + 1,) of the number of rows that wait when a batch ends."""
    most = len(times)
    came = np.einsum("n,snq->sq", WEIGHTS, poisson.pmf(np.arange(bound + 1), (rate * times)[..., None]))
    moves = np.zeros((bound + 1, bound + 1))
    for waiting in range(bound + 1):
        size = min(max(waiting, 1), most)
        left = max(waiting - size, 0)
        moves[waiting, left:] = came[size - 1, : bound + 1 - left]
    moves[:, -1] += np.maximum(0.0, 1 - moves.sum(1))
    # Stationary: x (moves - 1) = 0 and sum x = 1; one equation is redundant and gives way to the sum.
    equations = moves.T - np.eye(bound + 1)
    equations[-1] = 1.0
    right = np.zeros(bound + 1)
    right[-1] = 1.0
    chances: Floats = np.maximum(np.linalg.solve(equations, right), 0.0)
    return np.asarray(chances / chances.sum())


def _shifted(came: Floats, left: Floats) -> Floats:
    """Add two independent counts, and cap the sum at the bound."""
    both = np.convolve(came, left)
    both[len(came) - 1] += both[len(came) :].sum()
    return both[: len(came)]


def _cdf(values: Floats, chances: Floats, horizon: float, tail: float) -> Floats:
    """Give at DELAYS the distribution of a discrete variable plus an exponential variable of mean ``tail``."""
    width = horizon / BINS
    density = np.bincount(np.minimum((values / width).astype(int), BINS - 1), weights=chances, minlength=BINS)
    if tail > 0:
        kept = math.exp(-width / tail)
        density = lfilter([1 - kept], [1, -kept], density)
    edges = np.arange(1, BINS + 1) * width
    result: Floats = np.interp(DELAYS, edges, np.cumsum(density), left=0.0, right=1.0)
    return result


def quantile(cdf: Floats, level: float) -> float:
    """Read a quantile off a CDF at DELAYS."""
    return float(np.interp(level, cdf + 1e-12 * np.arange(len(cdf)), DELAYS))
