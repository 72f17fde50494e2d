"""Tells whether counts contradict a promise that was calibrated on few rows."""

import math

from scipy.stats import betabinom

__all__ = ["contradicts_coverage", "contradicts_rank"]

LEVEL = 0.025


def contradicts_coverage(held: int, rows: int, *, coverage: float, calibration_rows: int, level: float = LEVEL) -> bool:
    """Tell whether fewer labels are ``held`` by sets of ``rows`` new rows than chance explains.

    The radius is the ceil((m + 1) coverage)-th of m = ``calibration_rows`` scores, so that the number of held labels is
    beta-binomial: Vovk 2012, "Conditional validity of inductive conformal predictors". Chance includes the draw of the
    calibration rows.
    """
    rank = min(calibration_rows, math.ceil((calibration_rows + 1) * coverage - 1e-9))
    return bool(betabinom.cdf(held, rows, rank, calibration_rows + 1 - rank) < level)


def contradicts_rank(flagged: int, rows: int, *, rank: int, calibration_rows: int) -> bool:
    """Tell whether more of ``rows`` clean rows are ``flagged`` than chance explains.

    Guards flag a row if it is as strange as the ``rank`` strangest calibration rows; the law is the same.
    """
    return bool(betabinom.sf(flagged - 1, rows, rank, calibration_rows + 1 - rank) < LEVEL)
