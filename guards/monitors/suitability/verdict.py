"""The verdict on a window: is the loss of accuracy harm, no harm, or can nobody tell without labels?

Non-inferiority within a margin, as in Pouget et al. 2025, "Suitability Filter: a statistical framework for classifier
evaluation in real-world deployment settings". Two explanations of a shift are looked at: equal rows are right equally
often (covariate shift), and the classes have other shares (label shift). If other class shares explain the window, too,
a verdict must hold under both, because inputs alone cannot decide between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal, get_args

from guards.monitors.suitability.label_shift import ShiftedLabels

__all__ = ["REASONS", "VERDICTS", "Estimate", "Judgement", "Reason", "Verdict", "judge"]

Verdict = Literal["no_harm", "harm", "cannot_tell"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Reason = Literal["none", "no_labels", "no_overlap", "broken_pairs", "too_wide"]
"""Why nobody can tell: no labelled held-out rows; hardly any held-out rows look like the window; columns no longer
depend on each other as they did; or the interval holds the margin."""
REASONS: tuple[Reason, ...] = get_args(Reason)
LEVEL = 0.05
"""The probability of the verdict `no_harm` for a window whose loss is the margin."""
LARGEST_DIVERGENCE = 5.0
"""Beyond it the window looks like less than a sixth of the held-out rows."""
BROKEN, BROKEN_SHARE = 0.05, 0.1
"""How much divergence pairs of columns may add to that of single columns: a constant, and a share of the latter."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected ``accuracy`` of a window under covariate shift, and what may make it wrong.

    ``reference`` is the accuracy on the held-out rows. ``accuracy_variance`` is the variance of what labels would show
    less the expected accuracy, ``loss_variance`` that of the expected loss on all rows like the window's,
    ``reference_variance`` that of the difference of two accuracies without shift. ``unfamiliar`` is the share of rows
    of which the held-out rows say nothing. The divergences are chi-squared, without and with pairs of columns.
    """

    reference: float
    reference_variance: float
    accuracy: float
    accuracy_variance: float
    loss_variance: float
    labels: ShiftedLabels
    unfamiliar: float
    divergence: float
    pair_divergence: float


Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason, the expected accuracy and the expected loss, each with an interval.

    ``accuracy_interval`` holds what the window's labels would show, with probability 0.95. ``loss_interval`` has the
    ends that decide: an upper end below the margin is no harm, a lower end above the margin is harm.
    """

    verdict: Verdict
    reason: Reason
    rows: int
    accuracy: float | None = None
    accuracy_interval: Interval | None = None
    loss: float | None = None
    loss_interval: Interval | None = None
    further: dict[str, float] = field(default_factory=dict)


def judge(estimate: Estimate, rows: int, *, margin: float, false_alarms: float) -> Judgement:
    """Judge a window of ``rows`` rows; ``false_alarms`` is the probability of `harm` if the loss is the margin."""
    labels, reference = estimate.labels, estimate.reference
    losses = [(reference - estimate.accuracy, estimate.loss_variance)]
    accuracies = [(estimate.accuracy, estimate.accuracy_variance)]
    if labels.plausible:
        losses.append((-labels.change, labels.variance))
        accuracies.append((reference + labels.change, labels.variance + estimate.reference_variance))
    interval = _bounds(losses, false_alarms, LEVEL, estimate.unfamiliar)
    low, high = _bounds(accuracies, LEVEL / 2, LEVEL / 2, estimate.unfamiliar)
    verdict, reason = _decide(estimate, interval, margin)
    best = 1 if labels.evident else 0
    low, high = max(0.0, low), min(1.0, high)
    return Judgement(
        verdict,
        reason,
        rows,
        accuracy=min(max(accuracies[best][0], low), high),
        accuracy_interval=(low, high),
        loss=losses[best][0],
        loss_interval=interval,
        further={
            "reference_accuracy": reference,
            "unfamiliar_share": estimate.unfamiliar,
            "overlap": 1 / (1 + estimate.divergence),
            "pair_divergence": max(0.0, estimate.pair_divergence - estimate.divergence),
            "label_shift": float(labels.plausible),
        },
    )


def _bounds(means: Sequence[tuple[float, float]], below: float, above: float, unfamiliar: float) -> Interval:
    """Bound a mean by all explanations' means and variances, with these probabilities of an error on each side.

    A share of rows that may all be right or wrong moves both ends.
    """
    low, high = (NormalDist().inv_cdf(1 - each) for each in (below, above))
    return (
        min(mean - low * variance**0.5 for mean, variance in means) - unfamiliar,
        max(mean + high * variance**0.5 for mean, variance in means) + unfamiliar,
    )


def _decide(estimate: Estimate, loss: Interval, margin: float) -> tuple[Verdict, Reason]:
    if estimate.divergence > LARGEST_DIVERGENCE:
        return "cannot_tell", "no_overlap"
    if estimate.pair_divergence - estimate.divergence > BROKEN + BROKEN_SHARE * estimate.divergence:
        return "cannot_tell", "broken_pairs"
    if loss[1] < margin:
        return "no_harm", "none"
    return ("harm", "none") if loss[0] > margin else ("cannot_tell", "too_wide")
