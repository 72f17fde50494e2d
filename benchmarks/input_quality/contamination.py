"""A file of live rows of Adult, a share of which is faulty: what each detector flags of the file at 1 %."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.detection.figures import Scorer, detectors
from benchmarks.input_quality.adult_model import AdultModel
from benchmarks.input_quality.table_errors import LIVE_ERRORS, Adult
from guards.calibration.p_values import Calibration
from guards.statistics.proportions import proportion
from guards.types import Batch

__all__ = ["SHARES", "contamination"]

SHARES = (0.01, 0.05, 0.2)
LEVEL = 0.01
CLEAN = -1
CHUNK = 1000
Figures = dict[str, dict[str, Any]]


def contamination(
    adult: Adult, ranges: Scorer, test: Tensor, *, rows: int, calibration: int
) -> tuple[dict[str, Figures], float]:
    """Flag the rows of a file for each share of faulty rows with every detector: ``ranges``, and those of a model.

    Also give the model's accuracy on its calibration rows.

    The detectors are fitted on the first ``rows`` rows of Adult's train part, and calibrated on the next rows.
    """
    model = AdultModel(adult, rows, calibration)
    scorers = {"ranges": ranges} | detectors(model.case)
    calibrations = {
        name: Calibration.from_scores(_scores(scorer, model.case.calibration)) for name, scorer in scorers.items()
    }
    found: dict[str, Figures] = {}
    for place, share in enumerate(SHARES):
        x, kind = live_rows(adult, test, share, torch.Generator().manual_seed(place))
        batch = model.run(x)
        found[f"{share:.0%} of the rows are faulty"] = {
            name: _figures(calibrations[name].p_value(_scores(scorer, batch)) <= LEVEL, kind)
            for name, scorer in scorers.items()
        }
    return found, model.case.accuracy


def live_rows(adult: Adult, clean: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give the rows of a file, and the kind (n,) of each row's error in the order of ``LIVE_ERRORS``, or -1.

    Each row is chosen with the probability ``share``, and gets an error of a random kind. A row that its error does not
    change is clean.
    """
    n, kinds = len(clean), tuple(LIVE_ERRORS.values())
    chosen = torch.rand(n, generator=generator) < share
    drawn = torch.where(chosen, torch.randint(len(kinds), (n,), generator=generator), CLEAN)
    x, kind = clean.clone(), torch.full_like(drawn, CLEAN)
    for place, errors in enumerate(kinds):
        which = torch.randint(len(errors), (n,), generator=generator)
        for index, put in enumerate(errors):
            rows = ((drawn == place) & (which == index)).nonzero()[:, 0]
            if not len(rows):
                continue
            changed, differs = put(adult, clean[rows], generator)
            x[rows] = changed
            kind[rows[differs]] = place
    return x, kind


def _scores(scorer: Scorer, batch: Batch) -> Tensor:
    return torch.cat([scorer(batch[start : start + CHUNK]) for start in range(0, len(batch), CHUNK)])


def _figures(flagged: Tensor, kind: Tensor) -> dict[str, Any]:
    """Measure the flags (n,): of clean rows, of faulty rows, of each kind of error, and how many of them are right."""
    faulty = kind != CLEAN
    figures: dict[str, Any] = {}
    parts = {"clean flagged": (flagged, ~faulty), "faulty flagged": (flagged, faulty), "precision": (faulty, flagged)}
    parts |= {name: (flagged, kind == place) for place, name in enumerate(LIVE_ERRORS)}
    for name, (hit, among) in parts.items():
        n = int(among.sum())
        if not n:
            figures |= {name: None, f"{name}, interval": None, f"{name}, rows": 0}
            continue
        share = proportion(int((hit & among).sum()), n)
        figures |= {name: share.value, f"{name}, interval": [share.low, share.high], f"{name}, rows": n}
    return figures


def shown(found: Figures) -> dict[str, dict[str, str]]:
    """Lay out the table of one file: a row for each detector."""
    table: dict[str, dict[str, str]] = {}
    for name, figures in found.items():
        row = {}
        for key in ("clean flagged", "faulty flagged", "precision", *LIVE_ERRORS):
            value, interval = figures[key], figures[f"{key}, interval"]
            row[key] = "" if interval is None else f"{value:.1%} [{interval[0]:.1%}, {interval[1]:.1%}]"
        table[name] = row
    return table
