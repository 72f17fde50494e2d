"""The loss of each row, and the share that is right or explained: one scale for classifications and regressions."""

import numpy as np
import numpy.typing as npt

__all__ = ["losses"]

Floats = npt.NDArray[np.float64]


def losses(outputs: Floats, y: Floats, *, classification: bool) -> Floats:
    """Give each row's loss (n,), so that one minus the mean loss is the accuracy, or R2 for a regression.

    ``outputs`` (n, k) are logits or one score for each class, or values (n, 1). ``y`` (n,) are class indices or values.
    The loss is 1 for a wrong class; for a regression it is the squared error divided by the variance of ``y``.
    """
    if classification:
        return np.asarray(outputs.argmax(1) != y, np.float64)
    variance = float(y.var())
    return np.asarray((outputs[:, 0] - y) ** 2 / (variance if variance > 0 else 1.0))
