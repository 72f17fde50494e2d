"""Measures a model on labelled rows: accuracy, or R2 and RMSE, with intervals, and beside the simplest rival."""

import time
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.stats import rankdata
from scipy.stats import t as student
from torch import Tensor

from guards.bundle.labelled import Labelled
from guards.model.chunked_run import CHUNK, run_model
from guards.model.torch_model import TorchModel
from guards.statistics.proportions import proportion
from guards.types import Rows

__all__ = ["Quality", "quality", "recognises", "sampled_outputs", "shuffled"]

SAMPLE_ROWS, SAMPLE_SECONDS = 10_000, 3.0
LEVEL, WIDER = 0.975, 1.7
FEWEST = 3
ERRORS = 2.0
ABOVE_CHANCE = 0.1
SKEWED, RANKED = 0.8, 0.6


@dataclass(frozen=True, slots=True)
class Quality:
    """Accuracy of a classification, or R2 and RMSE of a regression, each with a 95 % interval.

    ``rival`` is the same measure of the simplest rival: the share of the majority class, whose name is ``rival_name``,
    or, for a regression, 0, which is the R2 of the labels' mean. ``rival_rmse`` is the RMSE of the labels' mean; both
    RMSEs are in the label's unit.
    """

    measure: Literal["accuracy", "r2"]
    rows: int
    value: float
    interval: tuple[float, float]
    rival: float
    rival_name: str | None = None
    rmse: float | None = None
    rmse_interval: tuple[float, float] | None = None
    rival_rmse: float | None = None

    @property
    def beats_rival(self) -> bool:
        """Whether the whole interval lies above the rival's measure."""
        return self.interval[0] > self.rival

    def far_above(self, other: "Quality", *, by: float) -> bool:
        """Tell whether this quality is better than another on similar rows, by at least ``by`` and beyond chance.

        Beyond chance means: the two intervals do not overlap, and the simplest rival lies below this interval. The
        intervals are widened to about 99.9 %, since this quality may be the best of many.
        """
        low = self.value - WIDER * (self.value - self.interval[0])
        high = other.value + WIDER * (other.interval[1] - other.value)
        return low > max(high, self.rival) and self.value - other.value >= by


def quality(rows: Labelled, classes: tuple[str, ...]) -> Quality | None:
    """Measure the outputs of labelled rows; None without labels, or if all labels of a regression are equal."""
    if rows.y is None or not len(rows.y):
        return None
    y = rows.y.to(rows.logits.device)
    if not classes:
        return _of_values(rows.logits[:, 0].double(), y.double())
    hits = int((rows.logits.argmax(1) == y).sum())
    counts = torch.bincount(y.long(), minlength=len(classes))
    share = proportion(hits, len(y))
    return Quality(
        measure="accuracy",
        rows=len(y),
        value=share.value,
        interval=share.interval,
        rival=int(counts.max()) / len(y),
        rival_name=classes[int(counts.argmax())],
    )


def _of_values(value: Tensor, y: Tensor) -> Quality | None:
    """Measure R2 = 1 - E[e^2] / Var[y] and RMSE, with intervals by the delta method (van der Vaart 1998, chapter 3)."""
    n = len(y)
    squares, around = (y - value) ** 2, (y - y.mean()) ** 2
    error, variance = squares.mean(), around.mean()
    if n < FEWEST or not variance > 0:
        return None
    influence = -(squares - error) / variance + error / variance**2 * (around - variance)
    reach = float(student.ppf(LEVEL, n - 1)) / n**0.5
    r2, rmse = float(1 - error / variance), float(error.sqrt())
    margin = reach * float(influence.std())
    rmse_margin = reach * float(squares.std()) / (2 * rmse) if rmse else 0.0
    return Quality(
        measure="r2",
        rows=n,
        value=r2,
        interval=(r2 - margin, min(1.0, r2 + margin)),
        rival=0.0,
        rmse=rmse,
        rmse_interval=(max(0.0, rmse - rmse_margin), rmse + rmse_margin),
        rival_rmse=float(variance.sqrt()),
    )


def shuffled(rows: Labelled) -> Labelled:
    """Shuffle labelled rows and keep at most 10,000: every other row is then a random half."""
    assert rows.y is not None  # noqa: S101 - the caller has labels
    order = torch.randperm(len(rows.logits), generator=torch.Generator().manual_seed(0))[:SAMPLE_ROWS]
    return Labelled(rows.logits[order.to(rows.logits.device)], rows.y[order.to(rows.y.device)])


def recognises(rows: Labelled, classes: tuple[str, ...]) -> str | None:
    """Name a figure which shows that a model tells classes apart in spite of a low accuracy; None if there is none.

    A model that gives rare classes more weight may be right less often than the majority class is frequent. A model of
    rare events may never predict an event and still rank the rows well. Both models work.
    """
    assert rows.y is not None  # noqa: S101 - the caller has labels
    y, logits = rows.y.long().cpu(), rows.logits.double().cpu()
    counts = torch.bincount(y, minlength=len(classes))
    present = counts > 0
    k = int(present.sum())
    if k < 2:  # noqa: PLR2004
        return None
    hits = torch.bincount(y[logits.argmax(1) == y], minlength=len(classes))
    recall = hits[present] / counts[present]
    balanced = float(recall.mean())
    # Laplace's rule keeps the error of a class with few rows above 0.
    smoothed = (hits[present] + 1) / (counts[present] + 2)
    error = float((smoothed * (1 - smoothed) / counts[present]).sum().sqrt()) / k
    if balanced - ERRORS * error > 1 / k + ABOVE_CHANCE * (1 - 1 / k):
        return f"balanced accuracy {balanced:.1%}"
    if float(counts.max()) / len(y) < SKEWED or len(classes) > 2:  # noqa: PLR2004
        return None
    # Mann and Whitney's statistic: the mean rank of the second class's rows, from 0 (the least possible rank) to 1.
    ranks = rankdata((logits[:, 1] - logits[:, 0]).nan_to_num().numpy())
    auroc = float((ranks[y.numpy() == 1].mean() - (int(counts[1]) + 1) / 2) / int(counts[0]))
    rare = int(counts.min())
    return f"AUROC {auroc:.3f}" if auroc - ERRORS * (auroc * (1 - auroc) / rare) ** 0.5 > RANKED else None


def sampled_outputs(model: TorchModel, rows: Rows, *, seed: int) -> Labelled:
    """Run the model on random rows, as many as a few seconds allow, and give the outputs in the order of the file."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:SAMPLE_ROWS]
    logits: list[Tensor] = []
    end = time.monotonic() + SAMPLE_SECONDS
    for chunk in torch.split(order, CHUNK):
        logits.append(run_model(model, rows.x[chunk]).logits)
        if time.monotonic() > end:
            break
    measured, place = order[: sum(map(len, logits))].sort()
    return Labelled(torch.cat(logits)[place.to(model.device)], None if rows.y is None else rows.y[measured])
