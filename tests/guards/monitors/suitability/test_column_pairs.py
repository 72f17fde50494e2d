"""Pairs of columns: the tree of the strongest dependences, and the cells of rows."""

import torch
from easy_and_hard import CONTEXT, outcome, rows

from guards import Batch, Reference
from guards.monitors.streams import Streams
from guards.monitors.suitability.column_pairs import CELLS, ColumnPairs
from guards.monitors.suitability.params import SuitabilityParams

SIZE, WEIGHT, KIND = 0, 1, 3  # the order of the streams: numbers, the confidence, then categories


def fitted() -> tuple[ColumnPairs, Streams, torch.Tensor]:
    x, y = rows(3000, 1)
    streams = Streams(SuitabilityParams(name="s"), CONTEXT)
    streams.fit(Reference(Batch(x), y, CONTEXT.schema), outcome(x, y))
    places = streams.places(Batch(x), outcome(x, y))
    return ColumnPairs(streams).fit(places), streams, places


def test_the_tree_holds_the_strongest_pair() -> None:
    """Size and weight depend on each other, so they are a pair; every column is in some pair."""
    pairs, streams, _ = fitted()
    assert list(streams.bins)[:4] == ["column:size", "column:weight", "confidence", "column:kind"]
    edges = {frozenset(edge) for edge in pairs.edges.tolist()}
    assert frozenset({SIZE, WEIGHT}) in edges
    assert {column for edge in edges for column in edge} == {SIZE, WEIGHT, KIND}


def test_numbers_have_levels_of_equal_shares() -> None:
    """A third of the rows is in each level of a number; missing values are in the last level."""
    pairs, _, places = fitted()
    levels = pairs.level[places[SIZE]].bincount(minlength=4)
    assert levels[3] == 0
    assert levels[:3].min() > 0.25 * len(places[SIZE])
    x, y = rows(1, 2)
    x[:] = torch.nan
    streams = fitted()[1]
    missing = streams.places(Batch(x), outcome(x, y))
    assert pairs.level[missing[[SIZE, WEIGHT, KIND], 0]].tolist() == [3, 3, 3]


def test_each_pair_has_cells_of_its_own() -> None:
    """The cell of a row in pair number i lies between 16 i and 16 i + 15."""
    pairs, _, places = fitted()
    cells = pairs.cells(places)
    assert cells.shape == (2, 3000)
    assert (cells // CELLS == torch.arange(2)[:, None]).all()
