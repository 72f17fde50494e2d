"""Streams: the values that drift monitors watch of every row, each with bins that are set on the reference."""

import hashlib
import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from guards.monitors.base import Context, MonitorParams, Series
from guards.monitors.excluded_streams import EXCLUDE, excluded
from guards.monitors.image_statistics import image_statistics
from guards.types import Batch, Reference, Result

__all__ = ["ABOVE", "BELOW", "MISSING", "SPECIAL", "UNSEEN", "StreamParams", "Streams"]

BELOW, ABOVE, MISSING, UNSEEN = "below", "above", "missing", "unseen"
SPECIAL = (BELOW, ABOVE, MISSING, UNSEEN)
"""Bins that are never pooled, however few rows they have, because rows in these bins are the clearest sign of drift."""
OTHER, MOST_BINS = "other", 1000
"""The name of the series that the rarer categories of a stream share, and the number of categories with own series."""


class StreamParams(MonitorParams):
    """Which streams there are and how finely they are binned.

    What a stream is, is the same for every monitor of a config; each may leave out others.
    """

    bins: int = Field(
        default=10, ge=2, le=100, description="bins of a continuous stream; the reference fills them equally"
    )
    projections: int = Field(
        default=4, ge=0, le=64, description="how many principal directions of the features are watched"
    )
    exclude: tuple[str, ...] = EXCLUDE


class Streams(nn.Module):
    """Sorts rows into the reference's bins.

    A continuous stream (a numeric column, an image statistic, a feature projection, a guard's p-value, the confidence,
    a predicted value) has bins with equal shares of the reference, and three more bins: below all reference values,
    above all reference values, and missing. A discrete stream (a categorical column, the predicted class) has a bin for
    each category, and the bins unseen and missing. Every second row of the reference chooses the projections, and the
    other rows set their bins: along the directions of a sample's largest variance, the sample itself is spread wider
    than later rows. ``bins`` lists every stream's bins; all bins lie in one flat array, stream after stream.
    """

    edges: Tensor
    mean: Tensor
    directions: Tensor
    reference_counts: Tensor

    def __init__(self, params: StreamParams, context: Context) -> None:
        super().__init__()
        self.params, self.context = params, context
        schema = context.schema
        numeric = [c.name for c in schema.columns if c.kind == "numeric"]
        self._numeric = [i for i, c in enumerate(schema.columns) if c.kind == "numeric"]
        statistics = {"image": ("brightness", "contrast", "sharpness"), "tensor": ("mean", "deviation")}
        continuous = (
            *(f"column:{name}" for name in numeric),
            *(f"statistic:{name}" for name in statistics.get(schema.kind, ())),
            *(f"feature:{i}" for i in range(params.projections)),
            *(f"guard:{name}" for name in context.guards),
            "confidence" if context.classes else "label",
        )
        discrete: dict[str, tuple[str, ...]] = {
            f"column:{c.name}": (*map(_bin_name, c.categories or ()), UNSEEN, MISSING)
            for c in schema.columns
            if c.kind == "categorical"
        }
        if context.classes:
            discrete["label"] = (*map(_bin_name, context.classes), UNSEEN, MISSING)
        left_out = excluded(params.exclude, (*continuous, *discrete))
        self._kept = [i for i, name in enumerate(continuous) if name not in left_out]
        self.continuous: tuple[str, ...] = tuple(continuous[i] for i in self._kept)
        self._projected = torch.tensor([name.startswith("feature:") for name in self.continuous], dtype=torch.bool)
        self.discrete = {name: bins for name, bins in discrete.items() if name not in left_out}
        self._discrete = {
            f"column:{c.name}": i for i, c in enumerate(schema.columns) if f"column:{c.name}" in self.discrete
        }
        self.bins: dict[str, tuple[str, ...]] = {
            **dict.fromkeys(self.continuous, (BELOW, *map(str, range(params.bins)), ABOVE, MISSING)),
            **self.discrete,
        }
        self.offsets = torch.tensor(np.cumsum([0, *map(len, self.bins.values())])[:-1])
        size = sum(map(len, self.bins.values()))
        self.register_buffer("edges", torch.zeros((len(self.continuous), params.bins + 1)))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("directions", torch.zeros((1, params.projections)))
        self.register_buffer("reference_counts", torch.zeros(size, dtype=torch.int64))
        self.size = size
        self._hashed: tuple[tuple[Tensor, ...], bytes] | None = None
        """The fitted tensors and their :meth:`_fingerprint`."""
        self.special = np.array([name in SPECIAL for bins in self.bins.values() for name in bins])

    def fit(self, reference: Reference, outcome: Result) -> Self:
        """Set the bins' edges at the reference's quantiles, and count the reference into them."""
        features = outcome.output.features[::2].double()
        self.mean = features.mean(0).float()
        wanted = min(self.params.projections, features.shape[1])
        directions = features.new_zeros((features.shape[1], self.params.projections))
        values, vectors = torch.linalg.eigh(torch.cov(features.T).reshape(features.shape[1], -1))
        top = vectors[:, values.argsort(descending=True)[:wanted]]
        directions[:, :wanted] = top * torch.where(top.sum(0) < 0, -1.0, 1.0)  # so that LAPACK does not decide the sign
        self.directions = directions.float()
        values = self._continuous(reference.batch, outcome)
        edges = [self._edges(row[1::2] if self._projected[i] else row) for i, row in enumerate(values)]
        self.edges = torch.stack(edges) if edges else self.edges
        self.reference_counts = self.reference(reference.batch, outcome)
        return self

    def reference(self, batch: Batch, outcome: Result, included: Tensor | None = None) -> Tensor:
        """Count the rows of the reference, or its ``included`` (n,) rows: (bins of all streams,) int64."""
        places = self.places(batch, outcome)
        counted = torch.ones_like(places, dtype=torch.bool) if included is None else included.expand_as(places).clone()
        counted[: len(self._projected), ::2] &= ~self._projected[:, None].to(counted.device)
        return torch.bincount(places[counted], minlength=self.size)

    def _edges(self, values: Tensor) -> Tensor:
        present = values[~values.isnan()].double().cpu().numpy()
        if not len(present):
            return torch.zeros(self.params.bins + 1, device=values.device)
        edges = np.quantile(present, np.linspace(0, 1, self.params.bins + 1)).astype(np.float32)
        edges[0] = min(edges[0], np.float32(present.min()))
        edges[-1] = np.nextafter(max(edges[-1], np.float32(present.max())), np.float32(math.inf))
        return torch.tensor(edges, device=values.device)

    def count(self, batch: Batch, outcome: Result) -> Tensor:
        """Count every row once in every stream: (bins of all streams,) int64."""
        return torch.bincount(self.places(batch, outcome).flatten(), minlength=self.size)

    def places(self, batch: Batch, outcome: Result) -> Tensor:
        """Find the place of every row's bin in the flat array, for every stream: (streams, n) int64.

        Monitors whose streams have the same bins share one tensor for the same batch, which nobody may change.
        """
        key = ("places", self._fingerprint())
        kept = batch.memo.get(key)
        if kept is None or kept[0] is not outcome:
            kept = batch.memo[key] = (outcome, self._places(batch, outcome))
        places: Tensor = kept[1]
        return places

    def _fingerprint(self) -> bytes:
        """Give a hash that two objects share only if they sort every row into the same bins; made once fitted."""
        fitted = (self.edges, self.mean, self.directions)
        if self._hashed is None or any(now is not then for now, then in zip(fitted, self._hashed[0], strict=True)):
            made = hashlib.sha256(repr((tuple(self.bins.items()), self._kept)).encode())
            for tensor in fitted:
                made.update(repr(tuple(tensor.shape)).encode() + tensor.cpu().numpy().tobytes())
            self._hashed = (fitted, made.digest())
        return self._hashed[1]

    def _places(self, batch: Batch, outcome: Result) -> Tensor:
        continuous = self._continuous(batch, outcome)
        bins = torch.searchsorted(self.edges, continuous.nan_to_num().contiguous(), right=True)
        bins = torch.where(continuous.isnan(), self.params.bins + 2, bins)
        discrete = [self._category(batch.x[:, i], name) for name, i in self._discrete.items()]
        if outcome.prediction.label is not None and "label" in self.discrete:
            discrete.append(outcome.prediction.label)
        if discrete:
            bins = torch.cat([bins, torch.stack(discrete)])
        return bins + self.offsets.to(bins.device)[:, None]

    def _category(self, values: Tensor, stream: str) -> Tensor:
        categories = len(self.discrete[stream]) - 2
        code = torch.where(values < 0, categories, values)
        return torch.where(values.isnan(), categories + 1, code).long()

    def _continuous(self, batch: Batch, outcome: Result) -> Tensor:
        """Compute the continuous streams' values, (streams, n)."""
        x, prediction = batch.x, outcome.prediction
        rows: list[Tensor] = []
        if self.context.schema.kind == "tabular":
            rows.append(x[:, self._numeric].T)
        elif self.context.schema.kind == "image":
            if "image statistics" not in batch.memo:
                batch.memo["image statistics"] = image_statistics(x)
            rows.append(batch.memo["image statistics"])
        else:
            flat = x.flatten(1)
            rows.append(torch.stack([flat.mean(1), flat.std(1, correction=0)]))
        rows.append(((outcome.output.features - self.mean) @ self.directions).T)
        rows.append(outcome.verdict.p_value)
        last = prediction.probabilities.amax(1) if prediction.probabilities is not None else prediction.value
        assert last is not None  # noqa: S101 - a prediction has one or the other
        return torch.cat([*rows, last[None]])[self._kept]

    def series(self, counts: npt.NDArray[np.int64]) -> list[Series]:
        """Give ``stream_bin_total`` and ``reference_bin_ratio`` by stream and bin, ``reference_rows`` by stream.

        If a stream has more categories than :data:`MOST_BINS`, only the categories with the most reference rows have
        their own series, and the other categories share one series: each series costs Prometheus memory, per replica.
        """
        every = self.reference_counts.cpu().numpy()
        series, start = [], 0
        for stream, bins in self.bins.items():
            own = slice(start, start + len(bins))
            names, values, reference = _exported(bins, counts[own], every[own])
            rows = sum(reference)
            total = max(1, rows)
            series.append(Series("reference_rows", "gauge", {"stream": stream}, float(rows)))
            for name, value, was in zip(names, values, reference, strict=True):
                labels = {"stream": stream, "bin": name}
                series.append(Series("stream_bin_total", "counter", labels, float(value)))
                series.append(Series("reference_bin_ratio", "gauge", labels, was / total))
            start += len(bins)
        return series


def _exported(
    bins: tuple[str, ...], counts: npt.NDArray[np.int64], reference: npt.NDArray[np.int64]
) -> tuple[Sequence[str], list[int], list[int]]:
    """Give the names of one stream's series, and the rows that ``counts`` and ``reference`` have in each."""
    categories = [place for place, name in enumerate(bins) if name not in SPECIAL]
    if len(categories) <= MOST_BINS:
        return bins, counts.tolist(), reference.tolist()
    common = np.sort(np.array(categories)[np.argsort(-reference[categories], kind="stable")[:MOST_BINS]])
    kept = np.concatenate([common, [place for place, name in enumerate(bins) if name in SPECIAL]])
    names = [f"category:{OTHER}" if bins[place] == OTHER else bins[place] for place in kept.tolist()]
    now, was = ([*each[kept].tolist(), int(each.sum() - each[kept].sum())] for each in (counts, reference))
    return [*names, OTHER], now, was


def _bin_name(category: str) -> str:
    """Name a category's bin after the category, unless another bin has that name already."""
    return f"category:{category}" if category in (UNSEEN, MISSING) else category
