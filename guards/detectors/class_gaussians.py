"""One Gaussian for each class, all with the same covariance, and the Gaussian of all rows together."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from guards.types import Reference

__all__ = ["Gaussians", "fit_gaussians", "reference_classes", "shrunk", "unit_length"]

NO_LENGTH = 1e-12
"""Shorter feature vectors are not scaled to length 1, so that a vector of zeros stays zero."""


class Gaussians(NamedTuple):
    """What turns a row f (d,) of features into distances, by one product: (f - centre) projection + offset.

    The first d columns are the whitened row w; |w|^2 is the squared Mahalanobis distance to the centre. The next k
    columns are |m|^2 - 2 w m for the mean m of each class, also whitened: |w|^2 plus the smallest is the squared
    distance to the nearest class. The last columns, if asked for, are the part of w that the spread of the class means
    explains: |w|^2 less their squares is the squared distance to the centre in the covariance of all rows.
    """

    centre: Tensor
    projection: Tensor
    offset: Tensor


def reference_classes(reference: Reference, features: Tensor) -> Tensor:
    """Give the class (n,) of each reference row: its label, or the predicted class without labels; 0 for a regression.

    Classes without a row are left out.
    """
    output = reference.batch.output
    assert output is not None  # noqa: S101 - needs_output says so
    if output.logits.shape[1] == 1:
        return torch.zeros(len(features), dtype=torch.int64, device=features.device)
    labels = output.logits.argmax(1) if reference.y is None else reference.y.long().to(features.device)
    codes: Tensor = torch.unique(labels, return_inverse=True)[1]
    return codes


def unit_length(features: Tensor) -> Tensor:
    """Scale each feature vector (n, d) to length 1."""
    scaled: Tensor = features / torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min(NO_LENGTH)
    return scaled


def fit_gaussians(
    features: Tensor, classes: Tensor, shrinkage: float | Literal["auto"] = "auto", *, relative: bool = False
) -> Gaussians:
    """Fit the Gaussians to features (n, d) float64 of rows with classes (n,) from 0 to k - 1, each with a row.

    ``relative`` asks for the last columns. The covariance of all rows is the shared covariance plus the covariance of
    the class means, so that its inverse differs from the shared inverse in k directions only (Woodbury's identity).
    """
    n, counts = len(features), classes.bincount()
    means = features.new_zeros((len(counts), features.shape[1])).index_add_(0, classes, features) / counts[:, None]
    residual = features - means[classes]
    covariance = shrunk(residual.T @ residual / n, n, shrinkage)
    whitener = torch.linalg.inv(torch.linalg.cholesky(covariance)).T
    centre = features.mean(0)
    white = (means - centre) @ whitener
    columns = [whitener, -2 * whitener @ white.T]
    offset = [centre.new_zeros(len(centre)), (white * white).sum(1)]
    if relative:
        spread = white * (counts[:, None] / n).sqrt()  # spread' spread is the whitened covariance of the class means
        _, scale, directions = torch.linalg.svd(spread, full_matrices=False)
        columns.append(whitener @ directions.T * (scale / (1 + scale**2).sqrt()))
        offset.append(centre.new_zeros(len(scale)))
    return Gaussians(centre[None], torch.cat(columns, dim=1), torch.cat(offset)[None])


def shrunk(covariance: Tensor, n: int, shrinkage: float | Literal["auto"] = "auto") -> Tensor:
    """Shrink a covariance (d, d), estimated from n rows, towards a multiple of the identity.

    ``auto`` is the oracle-approximating shrinkage of Chen et al. 2010, "Shrinkage algorithms for MMSE covariance
    estimation".
    """
    d = len(covariance)
    trace, square = covariance.trace(), (covariance * covariance).sum()
    if shrinkage == "auto":
        spread = (n + 1 - 2 / d) * (square - trace**2 / d)
        amount = float(((1 - 2 / d) * square + trace**2) / spread) if spread > 0 else 1.0
        amount = min(1.0, max(0.0, amount))
    else:
        amount = shrinkage
    level = trace / d
    eye = torch.eye(d, dtype=covariance.dtype, device=covariance.device)
    # A floor far below the scale of the features lets the factorisation succeed even if a feature never varies.
    floor = 1e-6 * level + 1e-12
    return (1 - amount) * covariance + (amount * level + floor) * eye
