"""Prediction sets that are calibrated apart, on examples small enough to count by hand."""

import torch

from guards import Classifier, ModelOutput, Regressor
from guards.calibration.strata import Strata

NEAR, FAR = [float(value) / 100 for value in range(1, 10)], [float(value) / 10 for value in range(1, 10)]


def test_each_label_has_the_radius_of_its_own_rows() -> None:
    """With nine rows of each label, a coverage of 0.5 takes the fifth score of each label's rows."""
    strata = Strata(("a", "b"), torch.tensor([0] * 9 + [1] * 9), are_labels=True)
    classifier = Classifier(torch.tensor(NEAR + FAR), coverage=0.5, temperature=1.0, strata=strata)
    assert classifier.radius is not None
    assert torch.allclose(classifier.radius[:2], torch.tensor([0.05, 0.5]))
    logits = torch.tensor([[0.6, 0.4], [0.94, 0.06], [0.96, 0.04], [0.5, 0.5]]).log()
    members = classifier(ModelOutput(logits, logits)).members
    assert members is not None
    assert members.tolist() == [[False, False], [False, False], [True, False], [False, True]]
    assert classifier.notice is None


def test_each_group_has_the_radius_of_its_own_rows() -> None:
    """A row's interval has the radius of the row's group, and the radius of all rows beyond the declared groups."""
    strata = Strata(("north", "south"), torch.tensor([0] * 9 + [1] * 9), are_labels=False)
    regressor = Regressor(torch.tensor(NEAR + FAR), coverage=0.5, strata=strata)
    output = ModelOutput(torch.zeros(3, 1), torch.zeros(3, 1))
    interval = regressor(output, None, torch.tensor([0, 1, 2])).interval
    assert interval is not None
    pooled = sorted(NEAR + FAR)[9]  # ceil(19 * 0.5) = 10
    assert torch.allclose(interval[:, 1], torch.tensor([0.05, 0.5, pooled]))


def test_a_stratum_of_few_rows_has_the_radius_of_all_rows_and_says_so() -> None:
    """A label with eight rows cannot support a coverage of 0.9; its notice names the label and the rows it needs."""
    scores, codes = torch.tensor(NEAR[:8] + FAR), torch.tensor([0] * 8 + [1] * 9)
    strata = Strata(("a", "b"), codes, are_labels=True)
    classifier = Classifier(scores, coverage=0.9, temperature=1.0, strata=strata)
    assert classifier.radius is not None
    assert classifier.radius[0] == classifier.radius[-1]
    assert classifier.pooled == ("a",)
    assert classifier.notice is not None
    assert classifier.notice.startswith("prediction_sets.by: 'a' has fewer than 9 labelled calibration rows")
    assert Classifier(scores, coverage=0.8, temperature=1.0, strata=strata).notice is None
