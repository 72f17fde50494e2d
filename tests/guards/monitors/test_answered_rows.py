"""The records of a batch are computed once for all monitors, and never mixed up between batches."""

import tiny_models
import torch

from guards import Batch
from guards.monitors.answered_rows import Records, group_codes
from guards.monitors.groupings import Attribute, Source


def test_two_outcomes_of_one_batch_have_records_of_their_own() -> None:
    """Records are computed once for an outcome; another outcome of the same rows has its own."""
    bundle = tiny_models.fitted("tensor").bundle
    batch = Batch(tiny_models.inputs("tensor", 20, 3))
    strict, shadow = bundle.pipeline()(batch), bundle.pipeline()(batch[:10])
    first, again = Records.of(batch, strict), Records.of(batch, strict)
    assert again.confidence is first.confidence
    assert len(Records.of(batch, shadow)) == 10
    assert len(Records.of(batch, strict)) == 20


def test_groupings_of_one_name_are_told_apart() -> None:
    """The codes that a batch remembers belong to a grouping, and not to its name."""
    schema = tiny_models.schema("tabular")
    bands = [Attribute("size", "size", Source(column="length", edges=edges), (), schema) for edges in ((0.0,), (9.0,))]
    batch = Batch(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert [group_codes(batch, each).tolist() for each in bands] == [[1], [0]]
    assert group_codes(batch, bands[0]) is group_codes(batch, bands[0])
    assert not batch[:1].memo
