"""Evidence that grows: p-values from tables, e-values from p-values, and the e-detector that adds them up."""

import numpy as np
import numpy.typing as npt

__all__ = ["CAUTIOUS", "E_VALUES", "LEVELS", "detected"]

Floats = npt.NDArray[np.float64]
LARGEST_E_VALUE = 6.0
"""One query is never more evidence than this: honest clients ask rows that are alike several times in a row."""
LEVELS = np.array([0.005, 0.01, 0.018, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0])
"""The p-values that are told apart: a p-value is rounded up to one of them."""


def _e_values(p: Floats) -> Floats:
    """Turn p-values into e-values: min(largest, c / sqrt(p)), whose integral over p from 0 to 1 is 1.

    The constant c solves 2 c - c^2 / largest = 1. Source: calibrators of Vovk & Wang 2021, "E-values: calibration,
    combination and applications".
    """
    c = LARGEST_E_VALUE * (1 - (1 - 1 / LARGEST_E_VALUE) ** 0.5)
    e: Floats = np.minimum(LARGEST_E_VALUE, c / np.sqrt(p))
    return e


E_VALUES = _e_values(LEVELS)
CAUTION = 0.05
"""What a cautious e-detector bets, as a share: unrelated queries between those of an attack cost such a bet little."""
CAUTIOUS = 1 - CAUTION + CAUTION * E_VALUES


def detected(e_values: Floats) -> Floats:
    """Add up e-values (clients, n) in the Shiryaev-Roberts way, and give the evidence (clients, n) after each query.

    NaN is no query. Source: Shin, Ramdas, Rinaldo 2024, "E-detectors: a nonparametric framework for sequential change
    detection".
    """
    evidence = np.zeros_like(e_values)
    now = np.zeros(len(e_values))
    for query in range(e_values.shape[1]):
        value = e_values[:, query]
        now = np.where(np.isnan(value), now, (now + 1) * value)
        evidence[:, query] = now
    return evidence
