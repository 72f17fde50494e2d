"""Other estimates of a window's accuracy without labels; all but the mean confidence need the reference's rows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression

from guards.calibration.confidence_shift import fit_shift, move_log_odds

__all__ = ["Judged", "Rivals"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judged:
    """Rows ``x`` (n, d) with the model's ``confidence`` (n,), and whether the model is ``right`` (n,)."""

    x: npt.NDArray[np.float32]
    confidence: Floats
    right: npt.NDArray[np.bool_]


class Rivals:
    """The estimates, fitted to the reference's rows."""

    def __init__(self, reference: Judged) -> None:
        self.reference = reference
        self.accuracy = float(reference.right.mean())
        self.shift = fit_shift(reference.confidence, self.accuracy)
        self.threshold = float(np.quantile(reference.confidence, 1 - self.accuracy))
        self.calibrated = _isotonic(reference, np.ones(len(reference.right)))

    def estimates(self, window: Judged) -> dict[str, float]:
        """Estimate a window's accuracy in every way; ``window.right`` is not looked at.

        "held-out" expects no change. "confidence" is the `accuracy` monitor's. ATC: Garg et al. 2022. DoC: Guillory et
        al. 2021. CBPE: Bialek et al. 2023, with isotonic calibration. Weights and PAPE: Bialek et al. 2024, with
        gradient boosted trees as the classifier.
        """
        reference, confidence = self.reference, window.confidence
        weights = self._weights(window)
        return {
            "held-out": self.accuracy,
            "confidence": float(move_log_odds(confidence, self.shift).mean()),
            "ATC": float((confidence >= self.threshold).mean()),
            "DoC": self.accuracy + float(confidence.mean() - reference.confidence.mean()),
            "CBPE": float(self.calibrated.predict(confidence).mean()),
            "weights": float(np.average(reference.right, weights=weights)),
            "PAPE": float(_isotonic(reference, weights).predict(confidence).mean()),
        }

    def _weights(self, window: Judged) -> Floats:
        """Estimate the density ratio of window and reference at the reference's rows by a classifier."""
        x = np.concatenate([self.reference.x, window.x])
        recent = np.arange(len(x)) >= len(self.reference.x)
        trees = HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=15, min_samples_leaf=40, l2_regularization=5.0, random_state=0
        )
        odds = trees.fit(x, recent).predict_proba(self.reference.x)
        return np.asarray(odds[:, 1] / odds[:, 0], np.float64)


def _isotonic(reference: Judged, weights: Floats) -> IsotonicRegression:
    fitted = IsotonicRegression(out_of_bounds="clip")
    return fitted.fit(reference.confidence, reference.right.astype(float), sample_weight=weights + 1e-9)
