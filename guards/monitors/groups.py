"""What the model says to whom: predictions counted by group and label."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from guards.monitor import Context, Monitor, MonitorParams, Series, Statistic
from guards.schema import Label
from guards.types import Action, Batch, Outcome

__all__ = ["Groups", "GroupsParams", "Source", "level_codes", "of_requests"]

OTHER, UNKNOWN = "other", "unknown"
UNANSWERED = "none"
VALUE = "value"
Z95 = 1.959963984540054


class Source(BaseModel):
    """Where an attribute comes from: an input column, in bands where it is a number, or the request's ``groups``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str | None = None
    edges: tuple[float, ...] | None = Field(default=None, description="inner edges of the bands of a numeric column")
    request: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.column is None) == (self.request is None):
            raise ValueError("give either `column` or `request`")
        if self.edges is not None:
            if self.column is None:
                raise ValueError("`edges` are for a column")
            if not self.edges or any(b <= a for a, b in pairwise(self.edges)):
                raise ValueError("`edges` must be increasing numbers")
        return self


class GroupsParams(MonitorParams):
    """Parameters of the groups monitor."""

    kind: Literal["groups"] = "groups"
    attribute: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", description="what the groups are groups of")
    source: Source
    levels: tuple[Label, ...] = Field(
        default=(), description="the groups; every other value is `other`, an absent one `unknown`"
    )
    positive: Label | None = Field(
        default=None, description="the label whose rate is the selection rate; default: each"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source.edges is not None and self.levels:
            raise ValueError("bands name their own levels: leave `levels` out")
        if self.source.request is not None and not self.levels:
            raise ValueError("groups that come with the request need their `levels` declared")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("a level is listed twice")
        return self


class Groups(Monitor):
    """Integer counts of answered rows by (group, label); rows without an answer count under ``none``."""

    Params: ClassVar[type[MonitorParams]] = GroupsParams

    def __init__(self, params: GroupsParams, context: Context) -> None:
        """Match levels to what there is.

        Raises:
            ValueError: a column, a level or the positive label is not there.
        """
        super().__init__(params, context)
        self.params = params
        if params.positive is not None and params.positive not in context.classes:
            raise ValueError(f"positive: {params.positive!r} is no label; there are {list(context.classes)}")
        if UNANSWERED in context.classes:
            raise ValueError(f"a label is named {UNANSWERED!r}, which stands for rows without an answer: rename it")
        self.labels: tuple[str, ...] = context.classes or (VALUE,)
        levels = _bands(params.source.edges) or params.levels
        self.column = -1
        categories: tuple[str, ...] = ()
        if params.source.column is not None:
            self.column, categories = self._find(params.source.column)
        # A level of one of these two names is that one: a series must not be there twice.
        self.levels: tuple[str, ...] = (*(x for x in levels or categories if x not in (OTHER, UNKNOWN)), OTHER, UNKNOWN)
        other = self.levels.index(OTHER)
        codes = [self.levels.index(name) if name in self.levels else other for name in categories]
        self.codes = torch.tensor([*codes, other])  # the last is for an unseen category, whose index is -1
        self.edges = torch.tensor(params.source.edges or (), dtype=torch.float32)
        self.counts = np.zeros((len(self.levels), len(self.labels) + 1), dtype=np.int64)

    def _find(self, name: str) -> tuple[int, tuple[str, ...]]:
        names = self.context.schema.names
        if name not in names:
            raise ValueError(f"source.column: no column {name!r}; there are {list(names)}")
        column = self.context.schema.columns[names.index(name)]
        if (self.params.source.edges is None) != (column.kind == "categorical"):
            raise ValueError(f"source: {name!r} is {column.kind}; a numeric column has `edges`, a categorical one none")
        absent = sorted(set(self.params.levels) - set(column.categories or ()))
        if absent:
            raise ValueError(f"levels: {absent} are no categories of {name!r}: {list(column.categories or ())}")
        return names.index(name), column.categories or ()

    def encode(self, values: Sequence[str | None]) -> Tensor:
        """Turn a request's values into level codes (n,)."""
        known = {name: code for code, name in enumerate(self.levels)}
        other, unknown = len(self.levels) - 2, len(self.levels) - 1
        return torch.tensor([unknown if value is None else known.get(value, other) for value in values])

    def group_of(self, batch: Batch) -> Tensor:
        """Tell each row's level code (n,) int64."""
        unknown = len(self.levels) - 1
        if self.params.source.request is not None:
            absent = torch.full((len(batch),), unknown, device=batch.x.device)
            return batch.groups.get(self.params.attribute, absent)
        values = batch.x[:, self.column]
        if len(self.edges):
            code = torch.bucketize(values.contiguous(), self.edges.to(values.device), right=True)
        else:
            code = self.codes.to(values.device)[values.nan_to_num(-1).long()]  # -1, unseen, finds the last: other
        return torch.where(values.isnan(), unknown, code)

    def observe(self, batch: Batch, outcome: Outcome) -> None:
        """Count every row once."""
        group = self.group_of(batch)
        label = torch.zeros_like(group) if outcome.prediction.label is None else outcome.prediction.label
        width = len(self.labels) + 1
        label = torch.where(outcome.verdict.action >= Action.ABSTAIN, width - 1, label)
        counted = torch.bincount(group * width + label, minlength=self.counts.size)
        self.counts += counted.cpu().numpy().reshape(self.counts.shape)

    def report(self) -> list[Statistic]:
        """Give each group's selection rate among its answered rows, with a Wilson 95 % interval."""
        positives = (self.params.positive,) if self.params.positive is not None else self.labels
        if self.labels == (VALUE,):
            return []
        statistics = []
        for row, group in zip(self.counts.tolist(), self.levels, strict=True):
            answered = sum(row[:-1])
            for positive in positives:
                hits = row[self.labels.index(positive)]
                labels = {"attribute": self.params.attribute, "group": group, "label": positive}
                rate = hits / answered if answered else None
                statistics.append(Statistic("selection_rate", rate, _wilson(hits, answered), answered, labels))
        return statistics

    def series(self) -> list[Series]:
        """Give ``group_predictions_total`` for every group and label."""
        return [
            Series(
                "group_predictions_total",
                "counter",
                {"attribute": self.params.attribute, "group": group, "label": label},
                float(self.counts[i, j]),
            )
            for i, group in enumerate(self.levels)
            for j, label in enumerate((*self.labels, UNANSWERED))
        ]


def of_requests(monitors: Iterable[Monitor]) -> dict[str, Groups]:
    """Find the monitors whose groups come with the request, by attribute."""
    return {
        monitor.params.attribute: monitor
        for monitor in monitors
        if isinstance(monitor, Groups) and monitor.params.source.request is not None
    }


def level_codes(
    monitors: Mapping[str, Groups], rows: int, groups: Mapping[str, Sequence[str | None]]
) -> dict[str, Tensor]:
    """Turn what came with the rows, by the request's names, into what a batch carries: codes (rows,) by attribute."""
    absent = [None] * rows
    return {
        attribute: monitor.encode(groups.get(monitor.params.source.request or "", absent))
        for attribute, monitor in monitors.items()
    }


def _bands(edges: tuple[float, ...] | None) -> tuple[str, ...]:
    """Name the bands between edges.

    >>> _bands((25, 45))
    ('<25', '25-45', '>=45')
    """
    if not edges:
        return ()
    inner = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    return (f"<{edges[0]:g}", *inner, f">={edges[-1]:g}")


def _wilson(hits: int, n: int) -> tuple[float, float] | None:
    """Wilson 1927, "Probable inference, the law of succession, and statistical inference"."""
    if not n:
        return None
    rate, z2 = hits / n, Z95 * Z95
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # Rounding must not leave the rate itself outside.
    return max(0.0, min(rate, middle - half)), min(1.0, max(rate, middle + half))
