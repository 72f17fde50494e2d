"""The verdict: non-inferiority within a margin, under every explanation that fits."""

import pytest

from guards.monitors.suitability.label_shift import ShiftedLabels
from guards.monitors.suitability.verdict import Estimate, Judgement, judge

UNRELATED = ShiftedLabels(0.0, 0.0, plausible=False, evident=False)


def judged(accuracy: float, *, labels: ShiftedLabels = UNRELATED, **changes: float) -> Judgement:
    given = {"unfamiliar": 0.0, "divergence": 0.0, "pair_divergence": 0.0, **changes}
    return judge(
        Estimate(0.9, 0.01**2, accuracy, 0.01**2, 0.01**2, labels=labels, **given), 2000, margin=0.05, false_alarms=0.02
    )


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(0.9, "no_harm"), (0.868, "no_harm"), (0.865, "cannot_tell"), (0.82, "harm")]
)
def test_the_ends_of_the_interval_decide(accuracy: float, verdict: str) -> None:
    """With a standard error of .01, no harm needs a loss below .05 - 1.645 x .01, harm one above .05 + 2.054 x .01."""
    found = judged(accuracy)
    assert found.verdict == verdict
    assert found.loss_interval == pytest.approx((0.9 - accuracy - 0.02054, 0.9 - accuracy + 0.01645), abs=1e-4)


def test_unfamiliar_rows_may_all_be_wrong_or_right() -> None:
    """A share of rows of which nothing is known moves both ends by the share."""
    assert judged(0.9, unfamiliar=0.03).verdict == "no_harm"
    assert judged(0.9, unfamiliar=0.04).verdict == "cannot_tell"
    assert judged(0.8, unfamiliar=0.04).verdict == "cannot_tell"


def test_a_verdict_holds_under_both_explanations() -> None:
    """If other class shares explain the window, too, both explanations must give the verdict."""
    worse = ShiftedLabels(-0.1, 0.01**2, plausible=True, evident=True)
    assert judged(0.9, labels=worse).verdict == "cannot_tell"
    assert judged(0.9, labels=worse).accuracy == pytest.approx(0.8)
    assert judged(0.8, labels=worse).verdict == "harm"
    same = ShiftedLabels(0.0, 0.01**2, plausible=True, evident=False)
    assert judged(0.89, labels=same).verdict == "no_harm"
    assert judged(0.89, labels=same).accuracy == pytest.approx(0.89)


def test_no_overlap_and_broken_pairs_are_never_judged() -> None:
    """A window that looks like few held-out rows, or whose columns fell apart, is not judged at all."""
    assert judged(0.9, divergence=6.0, pair_divergence=6.0).reason == "no_overlap"
    assert judged(0.9, divergence=0.1, pair_divergence=0.17).reason == "broken_pairs"
    assert judged(0.9, divergence=1.0, pair_divergence=1.1).verdict == "no_harm"


def test_an_accuracy_stays_between_nought_and_one() -> None:
    """Intervals are cut at 0 and 1, and hold the estimate."""
    found = judged(0.999)
    assert found.accuracy_interval is not None
    assert found.accuracy_interval[1] == 1
    assert judged(1.02).accuracy == 1
