"""Counts rows that repeat, and equal rows with different labels."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from guards.data.calibration_rows import row_hashes

__all__ = ["RepeatedRows", "repeated_rows"]

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class RepeatedRows:
    """What repeats among ``rows`` rows.

    ``repeats`` counts the rows that repeat an earlier row with its label. ``conflicting`` counts the rows that have
    the inputs of another row and a different label. ``unavoidable`` of them must be wrong for any model: a model
    gives equal rows one answer. ``examples`` are some pairs of conflicting rows, by their numbers.
    """

    rows: int
    repeats: int
    conflicting: int
    unavoidable: int
    examples: tuple[tuple[int, int], ...]


def repeated_rows(x: Tensor, y: Tensor | None) -> RepeatedRows:
    """Compare rows ``x`` (n, ...) and their labels ``y`` (n,) by hashes; without labels no row is conflicting."""
    whole = row_hashes(x, y)
    repeats = len(whole) - len(np.unique(whole))
    if y is None:
        return RepeatedRows(len(x), repeats, 0, 0, ())
    _, inputs = np.unique(row_hashes(x, None), return_inverse=True)
    pairs, first, counts = np.unique(
        np.stack([inputs, np.unique(whole, return_inverse=True)[1]]), axis=1, return_index=True, return_counts=True
    )
    variants = np.bincount(pairs[0])
    differing = variants[pairs[0]] > 1
    rows_of = np.bincount(pairs[0], weights=counts)
    most = np.zeros(len(variants))
    np.maximum.at(most, pairs[0], counts)
    conflicting = int(counts[differing].sum())
    by_group: dict[int, list[int]] = {}
    for row, group in sorted(zip(first[differing].tolist(), pairs[0][differing].tolist(), strict=True)):
        by_group.setdefault(group, []).append(row)
    examples = [(rows[0], rows[1]) for rows in by_group.values()][:EXAMPLES]
    unavoidable = int((rows_of - most)[variants > 1].sum())
    return RepeatedRows(len(x), repeats, conflicting, unavoidable, tuple(examples))
