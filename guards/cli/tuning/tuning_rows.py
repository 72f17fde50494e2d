"""The rows of a search: a half that is searched on, and a half that is reported on; equal rows stay together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from guards.bundle.preparation import Prepared
from guards.config.heldout_rows import rows_set_aside, too_few_rows
from guards.data.calibration_rows import row_hashes
from guards.types import Mistake, Rows

__all__ = ["TuningRows", "halves"]

FEWEST = 40
"""The fewest suspect rows that differ: half of them are searched on, and half of them are reported on."""


@dataclass(frozen=True, slots=True, eq=False)
class TuningRows:
    """Calibration rows and suspect rows: ``clean`` and ``suspect`` are searched on, the others are reported on."""

    clean: Rows
    clean_left: Rows
    suspect: Rows
    suspect_left: Rows
    calibration: Rows
    """The rows of ``clean`` that thresholds come from: as many as a fit leaves beside the rows for the temperature."""
    calibration_counts: tuple[int, int]
    """How many rows thresholds come from: in a fit on ``clean``, and in a fit of the config."""

    @classmethod
    def split(cls, prepared: Prepared, suspect: Rows, path: Path, seed: int) -> Self:
        """Split the calibration rows of a config, and the suspect rows of the file ``path``.

        Raises:
            Mistake: there are too few rows of one kind; the sentence says how many are needed.
        """
        mistakes = []
        different = len(np.unique(row_hashes(suspect.x, None)))
        if different < FEWEST:
            mistakes.append(
                f"{path}: {different} different suspect rows are too few: half of them are searched on and half are "
                f"reported on; give at least {FEWEST} different rows"
            )
        clean, clean_left = halves(prepared.heldout, seed)
        labelled = prepared.heldout.y is not None
        mistakes += [
            f"{sentence} (tune searches on {len(clean)} of the {len(prepared.heldout)} rows, and reports on the others)"
            for sentence in too_few_rows(prepared.config, len(clean), labelled=labelled)
        ]
        if mistakes:
            raise Mistake(*mistakes)
        aside = [rows_set_aside(prepared.config, len(each), labelled=labelled) for each in (clean, prepared.heldout)]
        calibration = clean.take(torch.arange(aside[0], len(clean)))
        counts = len(calibration), len(prepared.heldout) - aside[1]
        return cls(clean, clean_left, *halves(suspect, seed), calibration, counts)

    def counts(self, reference: int) -> dict[str, int]:
        """Count the rows of each part; ``reference`` rows are those that detectors are fitted on."""
        return {
            "reference": reference,
            "clean_searched": len(self.clean),
            "clean_reported": len(self.clean_left),
            "suspect_searched": len(self.suspect),
            "suspect_reported": len(self.suspect_left),
        }


def halves(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Split rows at random into two halves, each in a random order.

    Equal rows are in one half: otherwise the search would see rows that it is judged by.
    """
    generator = np.random.default_rng(seed)
    _, codes = np.unique(row_hashes(rows.x, None), return_inverse=True)
    order = generator.permutation(int(codes.max()) + 1)
    counts = np.bincount(codes)[order]
    first = np.isin(codes, order[counts.cumsum() - counts < len(rows) / 2])
    shuffled = generator.permutation(len(rows))
    return rows.take(torch.from_numpy(shuffled[first[shuffled]])), rows.take(
        torch.from_numpy(shuffled[~first[shuffled]])
    )
