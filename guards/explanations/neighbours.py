"""Finds the reference rows nearest to a row, and describes them for an answer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from guards.bundle.bundle import Bundle
from guards.input.schema import InputSchema
from guards.types import Result

__all__ = ["as_sent", "neighbours"]


def neighbours(bundle: Bundle, outcome: Result) -> list[tuple[Mapping[str, Any], ...]]:
    """Give the nearest reference rows of each row, by index and label; none if the config does not allow neighbours."""
    params, kept = bundle.config.explain.neighbours, bundle.exemplars
    if params is None or kept is None or kept.index is None or kept.labels is None:
        return [()] * len(outcome.verdict.action)
    places, distances = kept.nearest(outcome.output.features, params.count)
    index, labels = kept.index.cpu().tolist(), kept.labels.cpu().tolist()
    rows = kept.rows.cpu() if params.show_rows and kept.rows is not None else None
    return [
        tuple(
            {
                "index": index[place],
                "label": _label(labels[place], bundle.classes),
                "distance": distance,
                **({} if rows is None else {"row": as_sent(rows[place], bundle.schema)}),
            }
            for place, distance in zip(near, far, strict=True)
        )
        for near, far in zip(places.tolist(), distances.tolist(), strict=True)
    ]


def _label(label: float, classes: Sequence[str]) -> str | float | None:
    if math.isnan(label):
        return None
    return classes[int(label)] if classes else label


def as_sent(row: Tensor, schema: InputSchema) -> Any:  # noqa: ANN401 - JSON
    """Give a row as a client would send it."""
    if schema.kind != "tabular":
        return row.tolist()
    return {
        column.name: None
        if math.isnan(value)
        else value
        if column.categories is None
        else column.categories[int(value)]
        if value >= 0
        else None
        for column, value in zip(schema.columns, row.tolist(), strict=True)
    }
