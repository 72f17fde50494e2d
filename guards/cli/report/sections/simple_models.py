"""What the report says of simple models beside the user's model: boosted trees, and a new last layer."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from guards.cli.report.charts import Estimate, curves
from guards.cli.report.measures.learning_curve import LearningCurve
from guards.cli.report.sections.section import Block, Finding, chart
from guards.cli.report.words import points
from guards.statistics.proportions import proportion

__all__ = ["NO_RIVAL", "curve_blocks", "head_finding", "more_rows", "rival_finding"]

Floats = npt.NDArray[np.float64]
Z = 1.959963984540054
NO_RIVAL = (
    "No other model was trained on the rows themselves, so that underfitting shows only if the model "
    "is no better than the "
    "majority class or the mean: boosted trees are trained on tables of at most 500 columns and 20 "
    "classes, and images and "
    "tensors need a network of their own."
)
CLEARLY = 0.05
"""A rival that is so much better needs action."""
LITTLE, SMALL_PART = 0.02, 0.1
"""A simple model that is better by less than 2 points, and by less than a tenth of the model's loss, means little."""


def rival_finding(curve: LearningCurve) -> Finding:
    """Say whether trees with the same rows beat the model: then it underfits."""
    rows = f"boosted trees with default settings, trained on {curve.sizes[-1]:,} of the same rows"
    if curve.ahead.low > 0:
        beat = f"{rows[0].upper()}{rows[1:]}, beat the model by {points(curve.ahead)} on the held-out rows"
        if _is_little(curve):
            return Finding("good", f"{beat}: that is little, and the columns hold hardly more than the model found.")
        return Finding(
            "act" if curve.ahead.value >= CLEARLY else "look",
            f"{beat}: the model underfits, since the columns hold more than it found.",
        )
    if curve.ahead.high < 0:
        return Finding(
            "good",
            f"The model beats {rows}, by {points(curve.ahead, lost=True)} on the held-out rows: it "
            "does not underfit by that measure.",
        )
    return Finding(
        "good",
        f"The model and {rows}, do equally well on the held-out rows (a difference of "
        f"{points(curve.ahead)}): there is no sign that it underfits.",
    )


def head_finding(curve: LearningCurve) -> Finding:
    """Say whether a new last layer beats the model."""
    head = f"A new linear head on the model's features, trained on {curve.sizes[-1]:,} held-out rows,"
    if curve.ahead.low > 0:
        beats = f"{head} beats the model by {points(curve.ahead)} on other held-out rows"
        if _is_little(curve):
            return Finding("good", f"{beats}: that is little, and the model's last layer is no weak point.")
        return Finding("look", f"{beats}: the model's last layer is not as good as its features allow.")
    if curve.ahead.high < 0:
        return Finding(
            "good",
            f"{head} does not reach the model (behind by {points(curve.ahead, lost=True)}): the "
            "model's last layer is no weak point.",
        )
    return Finding(
        "good",
        f"{head} does as well as the model (a difference of {points(curve.ahead)}): its last layer "
        "gets out what the features hold.",
    )


def _is_little(curve: LearningCurve) -> bool:
    return curve.ahead.value < min(LITTLE, SMALL_PART * float(curve.model.mean()))


def more_rows(curve: LearningCurve) -> Finding:
    """Say whether the new last layer gained by the last rows that it got."""
    from_, to = curve.sizes[-2:]
    step = f"from {from_:,} to {to:,} rows the head gains {points(curve.gain)}"
    if curve.gain.low > 0:
        return Finding("good", f"More labelled rows would probably help the head: {step}.")
    return Finding("good", f"There is no sign that more labelled rows would help the head: {step}.")


def curve_blocks(curve: LearningCurve, name: str, *, classification: bool) -> Iterator[Block]:
    """Draw a learning curve, and say what it can tell."""
    held = [_held(losses, classification=classification) for losses in curve.held]
    who = "boosted trees" if name == "rival" else "new linear head"
    label = "share that is right" if classification else "R2"
    figure = curves(
        curve.sizes,
        {who: held},
        labels=("rows that it was trained on", label),
        marks={"your model": 1 - float(curve.model.mean())},
        percent=classification,
    )
    if name == "rival":
        title, caption = (
            "Learning curve of boosted trees",
            (
                "Your model cannot be trained again here, so this is the curve of another model: "
                "trees that get the columns "
                "as they are, judged on all held-out rows. It tells how much the columns hold, and "
                "whether more rows of this "
                "kind help to get it out. The band is a 95 % interval."
            ),
        )
    else:
        title, caption = (
            "Learning curve of a new last layer",
            (
                "Your model cannot be trained again here, so this is the curve of a linear head on "
                "its features, trained and "
                "judged on held-out rows. It tells whether more labelled rows would help the last "
                "layer. It cannot tell what "
                "more rows would do for the layers below. The band is a 95 % interval."
            ),
        )
    yield chart(f"curve-{name}", title, caption, figure)


def _held(each: Floats, *, classification: bool) -> Estimate:
    if classification:
        share = proportion(int((each == 0).sum()), len(each))
        return Estimate("", share.value, share.interval)
    reach = Z * float(each.std()) / len(each) ** 0.5
    value = 1 - float(each.mean())
    return Estimate("", value, (value - reach, min(1.0, value + reach)))
