"""The HorizontalPodAutoscaler's algorithm, as Kubernetes documents it and as its controller computes it.

autoscaling/v2, without scaling to zero: https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/
and pkg/controller/podautoscaler of Kubernetes' sources.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Autoscaler", "Policy", "Rules", "average_value", "per_pod", "value"]

TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: at most ``value`` pods, or percent of the pods at the period's start, in any ``period`` seconds."""

    kind: Literal["Pods", "Percent"]
    value: int
    period: float = 15.0


@dataclass(frozen=True, slots=True)
class Rules:
    """``behavior`` of one direction: the stabilisation window in seconds, and policies; the widest policy counts."""

    window: float
    policies: tuple[Policy, ...]


def _tolerated(ratio: float) -> bool:
    return abs(1.0 - ratio) <= TOLERANCE + 1e-12


def average_value(total: float, target: float, replicas: int) -> int:
    """External metric with the target AverageValue: a total over replicas; a missing replica does not shrink it."""
    return replicas if _tolerated(total / (target * replicas)) else math.ceil(total / target - 1e-9)


def value(metric: float, target: float, replicas: int, ready: int) -> int:
    """External metric with the target Value: a mean or a percentile; its ratio applies to the ready pods."""
    return replicas if _tolerated(metric / target) else math.ceil(metric / target * ready - 1e-9)


def per_pod(mean: float, target: float, replicas: int, ready: int, unready: int) -> int | None:
    """Resource or pod metric: the mean over the pods that are ready; those that are not count as idle on the way up.

    None: no pod is ready, so there is no metric.
    """
    if ready == 0:
        return None
    ratio = mean / target
    if not (unready and ratio > 1):
        return replicas if _tolerated(ratio) else math.ceil(ratio * ready - 1e-9)
    dampened = ratio * ready / (ready + unready)
    if _tolerated(dampened) or dampened < 1:
        return replicas
    return max(replicas, math.ceil(dampened * (ready + unready) - 1e-9))


@dataclass(slots=True)
class Autoscaler:
    """The recent recommendations and changes, and the size that they allow now."""

    least: int
    most: int
    up: Rules
    down: Rules
    recommended: deque[tuple[float, int]] = field(default_factory=deque)
    changes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, replicas: int, desired: int | None) -> int:
        """Give the new number of replicas for a metric's recommendation; if the metric is None (missing), no change."""
        if desired is None:
            return replicas
        while self.recommended and self.recommended[0][0] <= now - max(self.up.window, self.down.window):
            self.recommended.popleft()
        stable = self._stabilised(now, replicas, desired)
        self.recommended.append((now, desired))
        if stable > replicas:
            stable = min(stable, max(replicas, self._limit(now, replicas, self.up, sign=1)))
        elif stable < replicas:
            stable = max(stable, min(replicas, self._limit(now, replicas, self.down, sign=-1)))
        stable = min(max(stable, self.least), self.most)
        if stable != replicas:
            self.changes.append((now, stable - replicas))
        return stable

    def _stabilised(self, now: float, replicas: int, desired: int) -> int:
        """Scale up to the least, and down to the largest recommendation in the direction's window."""
        up = min([desired, *(r for t, r in self.recommended if t > now - self.up.window)])
        down = max([desired, *(r for t, r in self.recommended if t > now - self.down.window)])
        return min(max(replicas, up), down)

    def _limit(self, now: float, replicas: int, rules: Rules, *, sign: int) -> int:
        limits = []
        for policy in rules.policies:
            at_start = replicas - sum(change for t, change in self.changes if t > now - policy.period)
            if policy.kind == "Pods":
                limits.append(at_start + sign * policy.value)
            elif sign > 0:
                limits.append(math.ceil(at_start * (1 + policy.value / 100) - 1e-9))
            else:
                limits.append(int(at_start * (1 - policy.value / 100) + 1e-9))
        longest = max(policy.period for policy in (*self.up.policies, *self.down.policies))
        while self.changes and self.changes[0][0] <= now - longest:
            self.changes.popleft()
        return max(limits) if sign > 0 else min(limits)
