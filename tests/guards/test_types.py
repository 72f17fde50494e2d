"""The types of the pipeline: slices, selections and the order of actions."""

import pytest
import tiny_models
import torch

from guards import Action, Batch, Mistake, ModelOutput, Rows


def test_strictest_action_wins() -> None:
    """Actions are ordered from allow to reject, and have the words of the wire."""
    assert max(Action.FLAG, Action.REJECT, Action.ABSTAIN) is Action.REJECT
    assert [action.label for action in Action] == ["allow", "flag", "abstain", "reject"]


def test_mistake_is_its_sentences() -> None:
    """A mistake prints one sentence a line."""
    mistake = Mistake("one", "two")
    assert mistake.sentences == ("one", "two")
    assert str(mistake) == "one\ntwo"


def test_slice_of_a_batch() -> None:
    """A slice takes rows of the input, the groups and the output alike."""
    output = ModelOutput(torch.arange(8.0).reshape(4, 2), torch.arange(4.0)[:, None])
    batch = Batch(torch.arange(12.0).reshape(4, 3), {"sex": torch.tensor([0, 1, 2, 1])}, output)
    part = batch[1:3]
    assert len(batch) == 4
    assert len(part) == 2
    assert part.x.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert part.groups["sex"].tolist() == [1, 2]
    assert part.output is not None
    assert part.output.logits.tolist() == [[2, 3], [4, 5]]
    assert part.output.features.tolist() == [[1], [2]]
    assert Batch(batch.x)[:1].output is None


def test_draws_stay_with_their_rows() -> None:
    """A slice and a join of batches keep each row's draw; without draws there are none."""
    batch = Batch(torch.zeros(4, 3), draws=torch.tensor([0.1, 0.2, 0.3, 0.4]))
    parts = batch[:1], batch[1:3], batch[3:]
    assert parts[1].draws is not None
    assert torch.equal(parts[1].draws, torch.tensor([0.2, 0.3]))
    joined = Batch.join(parts).draws
    assert joined is not None
    assert batch.draws is not None
    assert torch.equal(joined, batch.draws)
    assert Batch.join([Batch(batch.x), Batch(batch.x)]).draws is None


def test_rows_are_taken_by_index() -> None:
    """Rows of a file are taken in the order of an index, with labels and groups if there are any."""
    rows = Rows(torch.arange(6.0).reshape(3, 2), torch.tensor([7, 8, 9]), {"sex": ("f", None, "m")})
    taken = rows.take(torch.tensor([2, 0]))
    assert taken.x.tolist() == [[4, 5], [0, 1]]
    assert taken.y is not None
    assert taken.y.tolist() == [9, 7]
    assert taken.groups == {"sex": ("m", "f")}
    assert len(taken) == 2
    assert Rows(rows.x).take(torch.tensor([1])).y is None


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_first_rows_of_an_outcome(kind: str) -> None:
    """The first rows of an outcome are what its parts say of them; all of them are the outcome itself."""
    outcome = tiny_models.fitted(kind).bundle.pipeline()(Batch(tiny_models.inputs(kind, 9, 3)))
    assert len(outcome) == 9
    assert outcome.first(9) is outcome
    assert torch.equal(outcome[2:5].verdict.score, outcome.verdict.score[:, 2:5])
    first = outcome.first(4)
    assert torch.equal(first.output.logits, outcome.output.logits[:4])
    assert torch.equal(first.output.features, outcome.output.features[:4])
    for name in ("probabilities", "label", "members"):
        assert torch.equal(getattr(first.prediction, name), getattr(outcome.prediction, name)[:4])
    assert first.prediction.value is None
    for name in ("score", "p_value", "flagged"):
        assert torch.equal(getattr(first.verdict, name), getattr(outcome.verdict, name)[:, :4])
    assert torch.equal(first.verdict.action, outcome.verdict.action[:4])
    assert first.verdict.causes["quality"].shape[0] == 4


@pytest.mark.parametrize(("kind", "bounded"), [("tensor", False), ("image", True)])
def test_first_rows_of_violations(kind: str, bounded: bool) -> None:
    """A part of an outcome has violations if a guard knows a declared bound, as a guard of images does."""
    outcome = tiny_models.fitted(
        kind, guards=[{"name": "quality", "detector": {"kind": "ranges"}}] * bounded
    ).bundle.pipeline()(Batch(tiny_models.inputs(kind, 3, 3)))
    assert (outcome.verdict.violated is not None) == bounded
    assert (outcome.first(2).verdict.violated is not None) == bounded
