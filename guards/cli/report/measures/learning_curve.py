"""Learning curves of simple models, since the user's model cannot be trained again here.

A *new head* is a linear model of the features of the user's model. A *rival* is an ensemble of trees on the columns of
a table. Both tell whether more rows would help a model of their kind, and whether the user's model leaves something
that a simple model finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from guards.cli.report.measures.differences import Difference, difference_of_losses
from guards.cli.report.measures.losses import losses

__all__ = ["LearningCurve", "head_curve", "rival_curve"]

Floats = npt.NDArray[np.float64]
FOLDS, SIZES = 5, 5
HEAD_ROWS, RIVAL_ROWS = 4000, 20_000
FEWEST_ROWS, FEWEST_A_CLASS, WIDEST = 60, 3, 256
RIVAL_CLASSES, RIVAL_COLUMNS, CATEGORIES = 20, 500, 250
PENALTIES = tuple(10.0**power for power in range(-2, 6))


@dataclass(frozen=True, slots=True, eq=False)
class LearningCurve:
    """Losses of rows that were not used for training, for each number of training rows in ``sizes``.

    ``held`` holds the losses (n,) at each size, all of the same rows. ``model`` (n,) are the losses of the user's model
    for these rows. ``gain`` is what the loss fell by from the last size but one to the last. ``ahead`` is how much
    smaller the loss at the last size is than the loss of the user's model; below 0, the user's model is better.
    """

    sizes: tuple[int, ...]
    held: tuple[Floats, ...]
    model: Floats
    gain: Difference
    ahead: Difference


def head_curve(
    features: Floats,
    y: Floats,
    model: Floats,
    *,
    classes: int,
    seed: int,
) -> LearningCurve | None:
    """Train linear heads on growing parts of held-out rows; None if there are too few rows.

    ``features`` (n, d) are those of rows that the user's model was not trained on, so that they are not better than
    those of future rows. ``model`` (n,) are the losses of the user's model; ``classes`` is 0 for a regression. Every
    row is judged by heads of the other four fifths of the rows. A head is a ridge regression of the labels, or of an
    indicator of each class, whose penalty leave-one-out errors choose. Of more than 256 features the head gets the 256
    first principal components, so that it is trained in seconds.
    """
    kept = np.random.default_rng(seed).permutation(len(y))[:HEAD_ROWS]
    features, y, model = features[kept], y[kept], model[kept]
    if len(y) < FEWEST_ROWS or (classes and _rarest(y) < FEWEST_A_CLASS):
        return None
    features = StandardScaler().fit_transform(features)
    if features.shape[1] > WIDEST:
        features = PCA(WIDEST, svd_solver="randomized", random_state=seed).fit_transform(features)
    fold = np.arange(len(y)) % FOLDS
    most = int((fold != 0).sum())
    held = []
    sizes = _sizes(most, least=max(12, 2 * classes))
    for size in sizes:
        outputs = np.zeros((len(y), classes or 1))
        for k in range(FOLDS):
            trained = np.flatnonzero(fold != k)[:size]
            head = RidgeCV(PENALTIES).fit(features[trained], _targets(y[trained], classes))
            outputs[fold == k] = head.predict(features[fold == k]).reshape(-1, classes or 1)
        held.append(losses(outputs, y, classification=bool(classes)))
    return _curve(sizes, held, model)


def rival_curve(
    train: tuple[Floats, Floats],
    heldout: tuple[Floats, Floats],
    model: Floats,
    *,
    categorical: Sequence[bool],
    classes: int,
    seed: int,
) -> LearningCurve | None:
    """Train boosted trees on growing parts of a table's training rows, and judge them on all held-out rows.

    ``train`` and ``heldout`` hold rows (n, d) and labels (n,); ``model`` are the losses of the user's model for the
    held-out rows; ``classes`` is 0 for a regression. None if the rows are too few, or the classes or columns too many
    for a training of seconds. The trees are scikit-learn's, with its defaults: Ke et al. 2017, "LightGBM".
    """
    x, y = train
    order = np.random.default_rng(seed).permutation(len(y))[:RIVAL_ROWS]
    if len(order) < FEWEST_ROWS or classes > RIVAL_CLASSES or x.shape[1] > RIVAL_COLUMNS:
        return None
    few = [each and float(np.nanmax(x[:, place], initial=0)) < CATEGORIES for place, each in enumerate(categorical)]
    x, held_x = (np.where(np.array(categorical) & (rows < 0), np.nan, rows) for rows in (x, heldout[0]))
    held = []
    sizes = _sizes(len(order), least=max(30, 2 * classes))
    for size in sizes:
        make = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        rival = make(categorical_features=few, early_stopping=False, random_state=seed)
        rows = order[:size]
        if classes and len(np.unique(y[rows])) < 2:  # noqa: PLR2004 - one class cannot be learnt
            return None
        # scikit-learn cannot bin a column without any value; such a column tells nothing, so that it becomes constant.
        empty = np.isnan(x[rows]).all(0)
        rival.fit(np.where(empty, 0.0, x[rows]), y[rows])
        predicted = rival.predict(np.where(empty, 0.0, held_x))
        outputs = np.eye(classes)[predicted.astype(int)] if classes else predicted[:, None]
        held.append(losses(outputs, heldout[1], classification=bool(classes)))
    return _curve(sizes, held, model)


def _curve(sizes: tuple[int, ...], held: list[Floats], model: Floats) -> LearningCurve:
    gain = difference_of_losses(held[-2], held[-1])
    return LearningCurve(sizes, tuple(held), model, gain, difference_of_losses(model, held[-1]))


def _sizes(most: int, *, least: int) -> tuple[int, ...]:
    """Halve the number of rows until few are left.

    >>> _sizes(320, least=20)
    (20, 40, 80, 160, 320)
    """
    sizes = [most // 2**power for power in range(SIZES)]
    return tuple(sorted({max(size, min(least, most // 2)) for size in sizes}))


def _targets(y: Floats, classes: int) -> Floats:
    return np.eye(classes)[y.astype(int)] if classes else y


def _rarest(y: Floats) -> int:
    return int(np.unique(y, return_counts=True)[1].min())
