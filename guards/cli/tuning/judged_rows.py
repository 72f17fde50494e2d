"""What a fitted bundle makes of rows that the search has not seen, and how two bundles differ on them."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch

from guards.bundle.bundle import Bundle
from guards.cli.detection import Detection, Interval, detection
from guards.model.chunked_run import CHUNK, refusing
from guards.statistics.auroc import area_difference
from guards.statistics.paired_shares import difference_of_shares
from guards.types import Batch, Rows

__all__ = ["Differences", "JudgedRows", "differences", "judge_rows"]


class Differences(TypedDict):
    """How much more a second bundle finds than a first bundle on the same rows, each figure with its 95 % interval."""

    tpr: float
    tpr_interval: Interval
    auroc: float
    auroc_interval: Interval
    false_alarm_rate: float
    false_alarm_interval: Interval


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRows:
    """Clean and suspect rows: the joint score of all guards (n,), larger is stranger, and whether any guard flags."""

    clean: npt.NDArray[np.float64]
    suspect: npt.NDArray[np.float64]
    clean_flags: npt.NDArray[np.bool_]
    suspect_flags: npt.NDArray[np.bool_]

    def figures(self) -> Detection:
        """Measure how well all guards together tell the suspect rows from the clean rows."""
        return detection(self.clean, self.suspect, self.clean_flags, self.suspect_flags)


def judge_rows(bundle: Bundle, clean: Rows, suspect: Rows) -> JudgedRows:
    """Run rows through the pipeline of a bundle, with the thresholds of its own calibration rows."""
    (clean_scores, clean_flags), (scores, flags) = _judged(bundle, clean), _judged(bundle, suspect)
    return JudgedRows(clean_scores, scores, clean_flags, flags)


def differences(first: JudgedRows, second: JudgedRows) -> Differences:
    """Compare two bundles on the same rows."""
    found = difference_of_shares(first.suspect_flags, second.suspect_flags)
    alarms = difference_of_shares(first.clean_flags, second.clean_flags)
    area = area_difference((first.clean, first.suspect), (second.clean, second.suspect))
    return {
        "tpr": found.value,
        "tpr_interval": found.interval,
        "auroc": area.value,
        "auroc_interval": area.interval,
        "false_alarm_rate": alarms.value,
        "false_alarm_interval": alarms.interval,
    }


def _judged(bundle: Bundle, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    pipeline, shared = bundle.pipeline(), list(bundle.config.budgeted)
    shares = [bundle.config.guards[place].share for place in shared]
    weights = torch.tensor(shares, dtype=torch.float64)[:, None] / sum(shares)
    scores, flags = [], []
    for start in range(0, len(rows), CHUNK):
        x = rows.x[start : start + CHUNK].to(bundle.model.device)
        with refusing(bundle.model, x):
            verdict = pipeline(Batch(x), causes=False).verdict
        joint = -(verdict.p_value[shared].double().cpu().nan_to_num(1.0) / weights).amin(0)
        if verdict.violated is not None:
            joint[verdict.violated.any(0).cpu()] = 0.0  # the strangest: the other scores are negative
        scores.append(joint)
        flags.append(verdict.alarmed.cpu())
    return torch.cat(scores).numpy(), torch.cat(flags).numpy()
