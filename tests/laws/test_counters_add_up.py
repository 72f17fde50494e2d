"""Counters of monitors add up: the sums do not depend on how rows are cut, ordered and spread over replicas."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guards import Batch, Result, Verdict
from guards.monitors.bins import Bins, BinsParams
from guards.monitors.groups.monitor import Groups
from guards.monitors.groups.params import GroupsParams
from guards.testing import Example, example
from guards.testing.example import KINDS, take

ROWS = 60
REGION = {"name": "g", "attribute": "region", "source": {"request": "region"}, "levels": ["north"]}
AGE = {"name": "g", "attribute": "age", "source": {"column": "age", "edges": [-0.5, 0.5]}}
COLOUR = {"name": "g", "attribute": "colour", "source": {"column": "colour"}, "levels": ["red"]}
MONITORS: dict[str, tuple[type[Bins] | type[Groups], Any]] = {
    "bins": (Bins, BinsParams(name="streams", bins=5)),
    "region": (Groups, GroupsParams.model_validate(REGION)),
    "age": (Groups, GroupsParams.model_validate(AGE)),
    "colour": (Groups, GroupsParams.model_validate(COLOUR)),
}
CASES = [(name, kind) for name in MONITORS for kind in KINDS if name in ("bins", "region") or kind == "tabular"]


def replica(name: str, made: Example) -> Bins | Groups:
    """Start one more process of the same bundle: fitted alike, nothing counted."""
    kind, params = MONITORS[name]
    monitor = kind(params, made.context)
    monitor.fit(made.reference, made.outcome(made.reference.batch))
    return monitor


@pytest.mark.parametrize(("name", "kind"), CASES)
@settings(deadline=None, max_examples=15)
@given(
    order=st.permutations(range(ROWS)),
    cuts=st.lists(st.integers(1, ROWS - 1), max_size=8, unique=True),
    where=st.lists(st.integers(0, 2), min_size=9, max_size=9),
)
def test_counts_add_up(name: str, kind: Any, order: list[int], cuts: list[int], where: list[int]) -> None:
    """Rows in any order, cut anywhere and sent to any of three replicas, are counted once each, as in one batch."""
    made = example(kind)
    rows = made.rows[: len(order)]
    whole = replica(name, made)
    whole.observe(rows, made.outcome(rows))
    replicas = [replica(name, made) for _ in range(3)]
    shuffled = take(rows, torch.tensor(order))
    edges = [0, *sorted(cuts), ROWS]
    for start, end, number in zip(edges, edges[1:], where, strict=False):
        replicas[number].observe(shuffled[start:end], made.outcome(shuffled[start:end]))
    assert np.array_equal(sum(each.counts for each in replicas), whole.counts)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_row_is_counted_once(name: str, kind: Any) -> None:
    """Each stream of bins, and each table of groups, counts exactly as many rows as there were."""
    made = example(kind)
    monitor = replica(name, made)
    monitor.observe(made.rows, made.outcome(made.rows))
    if isinstance(monitor, Bins):
        assert monitor.counts.sum() == len(monitor.streams.bins) * len(made.rows)
    else:
        tables = monitor.group_counts_of(monitor.counts)
        assert tables.predictions.sum() == tables.actions.sum() == len(made.rows)


def test_bins_hold_equal_shares_of_their_reference() -> None:
    """A continuous stream without ties or missing values has as many of its reference rows in each bin, within one."""
    made = example("tensor")
    monitor = replica("bins", made)
    assert isinstance(monitor, Bins)
    counts = monitor.streams.reference_counts[: (5 + 3) * len(monitor.streams.continuous)].reshape(-1, 5 + 3)
    assert counts[:, 0].sum() == counts[:, 6:].sum() == 0
    projected = torch.tensor([name.startswith("feature:") for name in monitor.streams.continuous])
    rows = torch.where(projected, len(made.reference.batch) // 2, len(made.reference.batch))
    assert (counts[:, 1:6] - rows[:, None] / 5).abs().max() <= 1


def test_rows_without_an_answer_have_no_label() -> None:
    """Abstained and rejected rows count under ``none`` and leave the selection rates alone."""
    made = example("tensor")
    monitor = replica("region", made)
    outcome = made.outcome(made.rows)
    verdict = outcome.verdict
    action = torch.arange(len(made.rows)) % 4
    changed = Verdict(verdict.guards, verdict.score, verdict.p_value, verdict.flagged, None, action, {})
    monitor.observe(Batch(made.rows.x, made.rows.groups), Result(outcome.output, outcome.prediction, changed))
    assert isinstance(monitor, Groups)
    tables = monitor.group_counts_of(monitor.counts)
    assert tables.predictions[:, -1].sum() == int((action >= 2).sum())
    rates = [s for s in monitor.report() if s.name == "selection_rate" and s.labels["label"] == "a"]
    assert sum(s.n for s in rates) == int((action < 2).sum())
    assert tables.actions.sum(0).tolist() == torch.bincount(action).tolist()
