"""The pods of a deployment: requested, placed on a node, starting, ready, gone."""

import math
from collections import deque

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

__all__ = ["Pods"]

GROUPS = 5
START_SPREAD = 0.25
"""Standard deviation of the logarithm of start-up times."""
QUANTILES = np.exp(START_SPREAD * norm.ppf((np.arange(GROUPS) + 0.5) / GROUPS))
SPARE = 0.1
"""Nodes that stand by, as a share of those in use."""
KEEP_NODES = 600.0
"""The cluster autoscaler gives a node back after ten minutes without pods."""
SAMPLE, REMEMBERED = 15.0, 300.0


class Pods:
    """Counts of pods; times in seconds. Pods that start together form groups by quantiles of the start-up time."""

    def __init__(self, start: float, provision: float, ready: int) -> None:
        """Begin with ``ready`` pods, which have been ready for a long time."""
        self.start, self.provision = start, provision
        self.unplaced = 0
        self.starting: list[tuple[float, int, float]] = []
        self.alive: list[tuple[float, int]] = [(-math.inf, ready)]
        self.gone: list[tuple[float, float, int]] = []
        self.nodes = math.ceil(ready * (1 + SPARE))
        self._coming: list[tuple[float, int]] = []
        self._used: deque[tuple[float, int]] = deque([(0.0, ready)])

    @property
    def ready(self) -> int:
        """The number of pods that take requests."""
        return sum(count for _, count in self.alive)

    @property
    def placed(self) -> int:
        """The number of pods that have a node, and cost money."""
        return self.ready + sum(count for _, count, _ in self.starting)

    @property
    def wanted(self) -> int:
        """The number of all pods, also without a node: the autoscaler's present size."""
        return self.placed + self.unplaced

    def advance(self, now: float, places: float) -> int:
        """Place as many pods as have room, ``places`` at most; return how many are ready now."""
        self._turn_over(now)
        room = min(self.unplaced, max(0, int(min(places, 1e9)) - self.placed)) if self.unplaced else 0
        if room:
            self._place(now, room)
        if self.starting and self.starting[0][0] <= now:
            due = sum(count for at, count, _ in self.starting if at <= now)
            self.starting = [group for group in self.starting if group[0] > now]
            self.alive.append((now, due))
        return self.ready

    def _turn_over(self, now: float) -> None:
        """Add the nodes that have arrived, and release nodes that no pod has used for a long time."""
        if self._coming:
            self.nodes += sum(count for at, count in self._coming if at <= now)
            self._coming = [(at, count) for at, count in self._coming if at > now]
        while len(self._used) > 1 and self._used[1][0] < now - KEEP_NODES:
            self._used.popleft()
        if now - self._used[-1][0] >= SAMPLE:
            self._used.append((now, self._on_nodes(now)))
            self.nodes = min(self.nodes, math.ceil(max(used for _, used in self._used) * (1 + SPARE)))

    def _on_nodes(self, now: float) -> int:
        return self.ready + sum(count for _, count, node in self.starting if node <= now)

    def _place(self, now: float, count: int) -> None:
        """Start pods: at once if a node stands by; otherwise ask for nodes, and for as many more that stand by."""
        warm = min(count, max(0, self.nodes - self._on_nodes(now)))
        for many, seconds in ((warm, 0.0), (count - warm, self.provision)):
            edges = np.round(np.linspace(0, many, GROUPS + 1)).astype(int)
            for quantile, size in zip(QUANTILES.tolist(), np.diff(edges).tolist(), strict=True):
                if size:
                    node = now + seconds * quantile
                    self.starting.append((node + self.start * quantile, size, node))
                    if seconds:
                        self._coming.append((node, math.ceil(size * (1 + SPARE))))
        self.starting.sort()
        self.unplaced -= count

    def resize(self, now: float, wanted: int) -> None:
        """Request a number of pods; if there are more, pods that are not ready leave first, then the youngest."""
        surplus = self.wanted - wanted
        if surplus <= 0:
            self.unplaced -= surplus
            return
        cut = min(surplus, self.unplaced)
        self.unplaced -= cut
        surplus -= cut
        while surplus and self.starting:
            at, count, node = self.starting.pop()
            cut = min(surplus, count)
            surplus -= cut
            if count > cut:
                self.starting.append((at, count - cut, node))
        while surplus:
            since, count = self.alive.pop()
            cut = min(surplus, count)
            surplus -= cut
            self.gone.append((since, now, cut))
            if count > cut:
                self.alive.append((since, count - cut))
        self.gone = [life for life in self.gone if life[1] > now - REMEMBERED]

    def lives(self, begin: float, now: float, *, gone: bool) -> npt.NDArray[np.float64]:
        """Give (first, last, pods) of the time that pods were ready within a window, with those ``gone`` since or not.

        A range selector of Prometheus keeps the samples of a pod that is gone until they leave the window.
        """
        lives = [(max(since, begin), now, count) for since, count in self.alive if since < now]
        if gone:
            lives += [(max(since, begin), end, count) for since, end, count in self.gone if end > begin]
        return np.array(lives, dtype=float).reshape(-1, 3)
