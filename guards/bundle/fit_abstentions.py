"""Chooses the thresholds of the guards with a `target_error`, on labelled rows that were held out."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from guards.calibration.abstention import Abstention, NoThresholdError
from guards.config.config import Config
from guards.config.heldout_rows import heldout_needed
from guards.detectors.base import Detector
from guards.model.chunked_run import chunks_of
from guards.types import Batch, Mistake

__all__ = ["fit_abstentions"]


@torch.no_grad()
def fit_abstentions(
    config: Config,
    detectors: Sequence[Detector],
    aside: tuple[Batch, Tensor | None] | None,
    calibration: tuple[Tensor, Tensor | None, Tensor],
) -> Mapping[str, Abstention]:
    """Choose a threshold for each guard with a `target_error`, by the guard's name.

    ``aside`` are the rows that the temperature was fitted on, with the model's output and their labels (n,).
    ``calibration`` are the guards' scores (g, m) of the calibration rows, the rows' labels (m,), and the model's logits
    (m, k).

    Raises:
        Mistake: the rows have no labels, or no threshold keeps the target; the sentence says how many rows could help.
    """
    chosen = {}
    scores, y, logits = calibration
    for place, spec in enumerate(config.guards):
        if spec.target_error is None:
            continue
        where = f"guards.{place}.target_error"
        batch, labels = (None, None) if aside is None else aside
        if y is None or labels is None or batch is None or batch.output is None:
            raise Mistake(
                f"{where}: too few labelled rows are held out: give more rows with labels in reference.calibration, "
                "or leave target_error out"
            )
        score = torch.cat([detectors[place].score(chunk) for chunk in chunks_of(batch)])
        try:
            chosen[spec.name] = Abstention.choose(
                spec.target_error,
                (score.float().cpu(), _wrong(batch.output.logits, labels)),
                (scores[place].cpu(), _wrong(logits, y)),
            )
        except NoThresholdError as refused:
            if refused.rows is None:
                advice = "take a larger target_error, another detector or a better model"
            else:
                rows = heldout_needed(refused.rows, for_temperature=True)
                advice = f"give about {rows} rows in reference.calibration, or take a larger target_error"
            raise Mistake(f"{where}: {refused}: {advice}") from refused
    return chosen


def _wrong(logits: Tensor, y: Tensor) -> Tensor:
    return logits.argmax(1).cpu() != y.cpu()
