"""The parts of the reference that explanations need: its mean and, only if the config asks for them, some rows."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from guards.types import Reference

__all__ = ["Exemplars"]

SAMPLE_ROWS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Exemplars:
    """``mean`` (1, ...) of the reference, prepared for the model; for a category, the most frequent one.

    ``sample`` (b, ...) holds raw rows, and is kept only with ``store_reference_rows``. Three tensors describe the rows
    that may be named as neighbours: ``features`` (m, d); ``labels`` (m,), NaN without labels; and ``index`` (m,), the
    rows' places among the reference rows. They are kept only if the config allows neighbours: features are not rows,
    but somebody who has the model may infer from features what a row was like. ``rows`` (m, ...) holds these rows, if
    the config asks for neighbours, for their rows and for ``store_reference_rows``.
    """

    mean: Tensor
    sample: Tensor | None = None
    features: Tensor | None = None
    labels: Tensor | None = None
    index: Tensor | None = None
    rows: Tensor | None = None

    @classmethod
    def of(
        cls, reference: Reference, prepared: Tensor, *, seed: int, store_rows: bool, kept: int, show_rows: bool
    ) -> Self:
        """Take the parts that the config asks for; ``kept`` is the number of rows whose features are kept, or 0."""
        x, output = reference.batch.x, reference.batch.output
        assert output is not None  # noqa: S101 - fitting runs the model first
        mean = prepared.double().mean(0, keepdim=True).float()
        if reference.schema.kind == "tabular":
            typical = torch.tensor([[column.fill * (column.scale or 1) for column in reference.schema.columns]]).to(
                mean
            )
            mean = torch.where(reference.schema.categorical.to(mean.device) | ~mean.isfinite(), typical, mean)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(x), generator=generator).to(x.device)
        sample = x[order[:SAMPLE_ROWS]] if store_rows else None
        if not kept:
            return cls(mean, sample)
        index = order[:kept].sort().values
        y = reference.y if reference.y is not None else torch.full((len(x),), torch.nan, device=x.device)
        rows = x[index] if store_rows and show_rows else None
        return cls(mean, sample, output.features[index], y[index].float(), index, rows)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self | None:
        """Make exemplars from the dictionary of :meth:`tensors`; None if the dictionary has no mean."""
        known = {field.name: tensors[field.name] for field in fields(cls) if field.name in tensors}
        return cls(**known) if "mean" in known else None

    def tensors(self) -> dict[str, Tensor]:
        """Give the tensors that a bundle keeps, by field."""
        return {field.name: tensor for field in fields(self) if (tensor := getattr(self, field.name)) is not None}

    def nearest(self, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Find the ``count`` kept rows nearest to features (n, d): places among the kept rows, Euclidean distances."""
        assert self.features is not None  # noqa: S101 - called only if features are kept
        distance = torch.cdist(
            features.double(), self.features.to(features.device).double(), compute_mode="donot_use_mm_for_euclid_dist"
        )
        found = distance.topk(min(count, distance.shape[1]), largest=False, sorted=True)
        return found.indices, found.values
