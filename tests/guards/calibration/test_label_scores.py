"""The scores of adaptive prediction sets, on examples small enough to count by hand."""

import pytest
import torch

from guards import Classifier, ModelOutput
from guards.calibration.label_scores import CumulativeScores

PROBABILITIES = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])


def test_cumulative_scores_by_hand() -> None:
    """A label's score is the sum of all more probable labels plus the drawn part of its own probability."""
    scores = CumulativeScores()(PROBABILITIES, torch.tensor([0.5, 0.25]))
    assert scores[0].tolist() == pytest.approx([0.8 + 0.5 * 0.2, 0.5 * 0.5, 0.5 + 0.5 * 0.3])
    assert scores[1].tolist() == pytest.approx([0.8 + 0.25 * 0.1, 0.9 + 0.25 * 0.1, 0.25 * 0.8])


def test_a_penalty_is_added_for_each_rank_beyond_the_free_ranks() -> None:
    """With one free rank, the second label pays the penalty once and the third twice."""
    plain = CumulativeScores()(PROBABILITIES, torch.zeros(2))
    penalised = CumulativeScores(penalty=0.1, free=1.0)(PROBABILITIES, torch.zeros(2))
    assert (penalised - plain)[0].tolist() == pytest.approx([0.2, 0.0, 0.1])


def test_without_draws_the_set_is_the_largest() -> None:
    """A row without a draw gets every label that some draw would give."""
    logits = torch.randn((50, 6), generator=torch.Generator().manual_seed(0))
    classifier = Classifier(torch.rand(40), coverage=0.8, temperature=1.0, measure=CumulativeScores())
    output = ModelOutput(logits, logits)
    largest = classifier(output).members
    assert largest is not None
    for draw in (0.0, 0.3, 0.999):
        members = classifier(output, torch.full((50,), draw)).members
        assert members is not None
        assert not (members & ~largest).any()
    assert torch.equal(largest, classifier(output, torch.zeros(50)).members)


def test_an_adaptive_set_holds_the_most_probable_labels() -> None:
    """A set of so many labels holds the labels of the highest probability, with any draw and penalty."""
    probabilities = torch.rand((200, 7), generator=torch.Generator().manual_seed(1)).softmax(1)
    scores = CumulativeScores(0.05, 2.0)(probabilities, torch.rand(200))
    order = probabilities.argsort(1, descending=True)
    assert (scores.gather(1, order).diff(dim=1) >= 0).all()


def test_raps_chooses_the_smallest_sets_on_its_own_rows() -> None:
    """The free ranks reach the true label at the coverage, and no penalty of the grid would give smaller sets."""
    generator = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn((500, 20), generator=generator)
    y = torch.multinomial((logits / 2).softmax(1), 1, generator=generator)[:, 0]
    probabilities, draws = logits.softmax(1), torch.rand(500, generator=generator)
    chosen = CumulativeScores.regularised(probabilities, y, draws, 0.9)
    rank = 1 + (probabilities > probabilities.gather(1, y[:, None])).sum(1)
    assert chosen.free == rank.sort().values[450]  # ceil(501 * 0.9) = 451

    def size(measure: CumulativeScores) -> float:
        scores = measure(probabilities, draws)
        radius = scores.gather(1, y[:, None])[:, 0].sort().values[450]
        return (scores <= radius).sum(1).double().mean().item()

    for penalty in (0.001, 0.01, 0.1, 0.2, 0.5):
        assert size(chosen) <= size(CumulativeScores(penalty, float(chosen.free)))


def test_raps_needs_rows_for_its_coverage() -> None:
    """Too few rows to choose a penalty on are refused."""
    with pytest.raises(ValueError, match=r"8 rows cannot choose the penalty of raps for a coverage of 0\.9"):
        CumulativeScores.regularised(torch.rand(8, 3), torch.zeros(8), torch.rand(8), 0.9)
