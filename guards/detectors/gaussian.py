"""Detects foreign rows by several views of Gaussian features, whose surprises make one score: the default guard."""

from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.detectors.class_gaussians import fit_gaussians, reference_classes, shrunk, unit_length
from guards.statistics.surprise import Surprise
from guards.types import Batch, Finding, ModelOutput, Reference

__all__ = ["Gaussian", "GaussianParams"]

LEAST_ROWS = 10
FOLDS = 2
LOUD = 3.0
"""Nats of surprise from which a view is named as a cause: one reference row in twenty surprises a view so much."""
BETWEEN = ("between classes", "direction between classes", "low energy")
FAR = ("far from every class", "direction far from every class")
FAR_FROM_ROWS = ("far from the training rows", "direction far from the training rows")
"""The names of the same views if the model has one output, and rows are of no class."""
EARLY = ("early layer",)
USUAL_EARLY = 2.0
"""Nats of surprise in the early layer that count as none: one reference row in seven surprises more."""


class GaussianParams(Params):
    """The gaussian detector has nothing to set: the reference decides everything."""

    kind: Literal["gaussian"] = "gaussian"


class Rows(NamedTuple):
    """Reference rows: features (n, d), logits (n, k) and early features (n, e) in float64, and classes (n,)."""

    features: Tensor
    logits: Tensor
    early: Tensor | None
    classes: Tensor

    def take(self, index: Tensor) -> "Rows":
        """Take the rows of an index (m,); classes without a row are left out."""
        early = None if self.early is None else self.early[index]
        classes = torch.unique(self.classes[index], return_inverse=True)[1]
        return Rows(self.features[index], self.logits[index], early, classes)


class Gaussian(Detector):
    """Answers to three questions, each a surprise in nats; a row's surprise is minus the log of its p-value.

    The score is the mean surprise of the first two questions, plus what surprises in the third beyond 2 nats.

    1. Is the row between the classes? The mean surprise of three views: the relative Mahalanobis distance of the
       features as they are and of features of length 1 (Ren et al. 2021, "A simple fix to Mahalanobis distance for
       improving near-OOD detection"), and the energy of centred logits (Liu et al. 2020, "Energy-based
       out-of-distribution detection"). A regression has none of them.
    2. Is the row far from every class? The mean surprise of two views: the Mahalanobis distance of the features as they
       are (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and adversarial
       attacks"), which a wrong unit makes longer, and of features of length 1 (Mueller & Hein 2025, "Mahalanobis++").
    3. Do the early features fit the last features? The Mahalanobis distance of the early features to what a linear
       regression on the last features expects. Noise and inversion change early layers, and hide from the last layer.
       An early layer tells nothing about a new class that looks much like the known classes. So a surprise of up to
       2 nats does not count. Without an early layer this view is left out.

    The surprises are fitted on reference rows that the Gaussians were not fitted on, by cross-fitting in two halves.
    """

    Params: ClassVar[type[Params]] = GaussianParams
    blind_spots: ClassVar[str] = (
        "It sees only what the model's features and logits keep: a foreign row that every one of its views maps "
        "among the training rows passes. Without an early layer, noise and inversion may hide. Means and shared "
        "covariances describe a class badly if the class is more than one cloud of points."
    )
    needs_output: ClassVar[bool] = True
    reads_early: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    centre: Tensor
    projection: Tensor
    offset: Tensor
    unit_centre: Tensor
    unit_projection: Tensor
    unit_offset: Tensor
    early_centre: Tensor
    early_projection: Tensor

    def __init__(self, params: GaussianParams) -> None:
        super().__init__()
        self.params = params
        for name in (
            *("centre", "projection", "offset", "unit_centre", "unit_projection", "unit_offset"),
            *("early_centre", "early_projection"),
        ):
            self.register_buffer(name, torch.empty(0))
        self.surprise = Surprise()

    def fit(self, reference: Reference) -> Self:
        """Fit the views, and then their surprises on rows that the views were not fitted on.

        Raises:
            ValueError: there are fewer than ten rows, or a feature is not finite.
        """
        output = reference.batch.output
        assert output is not None  # noqa: S101 - needs_output says so
        if len(output.features) < LEAST_ROWS:
            raise ValueError(f"gaussian needs at least {LEAST_ROWS} reference rows")
        parts = [output.features, output.logits, *([] if output.early is None else [output.early])]
        if not all(part.isfinite().all() for part in parts):
            raise ValueError("gaussian needs finite features; the model gives NaN or infinity on reference rows")
        features = output.features.double()
        early = None if output.early is None else output.early.double()
        rows = Rows(features, output.logits, early, reference_classes(reference, features))
        fold = torch.arange(len(features), device=features.device) % FOLDS
        fold = fold[torch.randperm(len(fold), generator=torch.Generator().manual_seed(0)).to(fold.device)]
        scores = torch.empty(0)
        for index in range(FOLDS):
            self._fit_views(rows.take((fold != index).nonzero()[:, 0]))
            inside = (fold == index).nonzero()[:, 0]
            found = self._views(output[inside])
            scores = found.new_zeros((len(fold), found.shape[1])) if not len(scores) else scores
            scores[inside] = found
        self._fit_views(rows)
        self.surprise.fit(scores)
        return self

    def score(self, batch: Batch) -> Tensor:
        """Combine the surprises of each row."""
        assert batch.output is not None  # noqa: S101 - needs_output says so
        return self._combined(self.surprises(batch.output))

    def surprises(self, output: ModelOutput) -> Tensor:
        """Compute the surprise of each row in each view: (n, v) nats, in the order of :meth:`cause_names`."""
        surprises: Tensor = self.surprise(self._views(output))
        return surprises

    def causes(self, batch: Batch) -> Tensor:
        """Mark the view that surprises most, if the view surprises by at least 3 nats.

        A view between the classes is marked only if no other view surprises so much.
        """
        assert batch.output is not None  # noqa: S101 - needs_output says so
        return self._loudest(self.surprises(batch.output))

    def examine(self, batch: Batch, *, causes: bool) -> Finding:
        """Compute the surprises once, for scores and causes."""
        assert batch.output is not None  # noqa: S101 - needs_output says so
        surprises = self.surprises(batch.output)
        return Finding(self._combined(surprises), causes=self._loudest(surprises) if causes else None)

    def cause_names(self) -> tuple[str, ...]:
        """Name the views."""
        return tuple(name for part in self._parts() for name in part)

    def _fit_views(self, rows: Rows) -> None:
        units, classifier = unit_length(rows.features), rows.logits.shape[1] > 1
        raw = fit_gaussians(rows.features, rows.classes, relative=classifier)
        unit = fit_gaussians(units, rows.classes, relative=classifier)
        projection, offset = unit.projection, unit.offset
        if rows.early is not None:
            centred, late = rows.early - rows.early.mean(0), units - unit.centre
            n, power = len(late), (centred * centred).mean()
            expected = torch.linalg.solve(shrunk(late.T @ late / n, n), late.T @ centred / n)
            residual = centred - late @ expected
            # What the last features explain but for rounding errors tells nothing.
            floor = 1e-6 * power * torch.eye(centred.shape[1], dtype=power.dtype, device=power.device)
            whitener = torch.linalg.inv(torch.linalg.cholesky(shrunk(residual.T @ residual / n, n) + floor)).T
            projection = torch.cat([projection, -expected @ whitener], dim=1)
            offset = torch.cat([offset, offset.new_zeros((1, whitener.shape[1]))], dim=1)
            self.early_centre, self.early_projection = rows.early.mean(0).float(), whitener.float()
        self.centre, self.projection, self.offset = (part.float() for part in raw)
        self.unit_centre, self.unit_projection, self.unit_offset = (
            unit.centre.float(),
            projection.float(),
            offset.float(),
        )

    def _views(self, output: ModelOutput) -> Tensor:
        """Compute the scores of the views (n, v), in the order of their names."""
        features, (d, classes) = output.features, self._sizes()
        rest = self.projection.shape[1]
        raw = torch.addmm(self.offset, features - self.centre, self.projection)
        unit = torch.addmm(self.unit_offset, unit_length(features) - self.unit_centre, self.unit_projection)
        between, far = [], []
        for projected in (raw, unit):
            white, nearest = projected[:, :d], projected[:, d : d + classes].amin(1)
            far.append((torch.linalg.vecdot(white, white) + nearest).clamp_min(0).log1p())
            if rest > d + classes:
                explained = projected[:, d + classes : rest]
                between.append(nearest + torch.linalg.vecdot(explained, explained))
        if between:
            # Centred logits, because a constant added to all logits changes no probability.
            between.append(-torch.logsumexp(output.logits - output.logits.mean(1, keepdim=True), 1))
        early = []
        if self.early_projection.numel():
            assert output.early is not None  # noqa: S101 - the model taps early layers if a guard reads them
            unexpected = torch.addmm(unit[:, rest:], output.early - self.early_centre, self.early_projection)
            early.append(torch.linalg.vecdot(unexpected, unexpected).log1p())
        return torch.stack([*between, *far, *early], dim=1)

    def _combined(self, surprises: Tensor) -> Tensor:
        """Combine the surprises (n, v) of the views to a score (n,)."""
        sizes = [len(names) for names in self._parts()]
        means = [part.mean(1) for part in torch.split(surprises, sizes, dim=1)]
        early = means.pop() if self.early_projection.numel() else None
        score = torch.stack(means).mean(0)
        return score if early is None else score + (early - USUAL_EARLY).clamp_min(0)

    def _loudest(self, surprises: Tensor) -> Tensor:
        named = surprises >= LOUD
        if self._parts()[0] == BETWEEN:
            # A row that is far from every class, or whose early layer is strange, is not between the classes.
            between, other = named[:, : len(BETWEEN)], named[:, len(BETWEEN) :]
            named = torch.cat([between & ~other.any(1, keepdim=True), other], dim=1)
        heard = surprises.where(named, -1.0)
        return named & (heard == heard.amax(1, keepdim=True))

    def _parts(self) -> list[tuple[str, ...]]:
        """List the parts that this detector has, each with the names of its views."""
        d, classes = self._sizes()
        distances = [BETWEEN, FAR] if self.projection.shape[-1] > d + classes else [FAR_FROM_ROWS]
        return [*distances, *([EARLY] if self.early_projection.numel() else [])]

    def _sizes(self) -> tuple[int, int]:
        """Read the number of features d and of classes k from the number of columns, which is on the host.

        A classifier has d + k + min(d, k) columns, a regression d + 1.
        """
        d, columns = self.projection.shape[0], self.projection.shape[-1]
        beyond = columns - d
        return d, 1 if beyond == 1 else max(beyond // 2, beyond - d)
