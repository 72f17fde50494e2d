"""The time of each stage."""

import pytest
import tiny_models
import torch

from guards.bundle.batches import batches_of
from guards.cli.report.measures.stage_cost import machine, stage_costs
from guards.types import Rows


@pytest.mark.parametrize("rows", [5, 100])
def test_stages_are_timed(rows: int) -> None:
    """Every stage has a time a row, also if there are fewer rows than a batch has."""
    bundle = tiny_models.fitted("tabular").bundle
    batches = list(batches_of(bundle, Rows(tiny_models.inputs("tabular", rows, 0)), size=32))
    costs = stage_costs(bundle.pipeline(), batches)
    assert [each.stage for each in costs] == ["input guards", "model", "output guards", "decision"]
    assert all(0 < each.low <= each.median <= each.high for each in costs)


def test_machine_is_named() -> None:
    """The processor and the number of threads are named."""
    assert f"{torch.get_num_threads()} thread" in machine(torch.device("cpu"))
