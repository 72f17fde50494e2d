"""Feature squeezing: the model judges squeezed views of each image in the same pass."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import document, fitted
from torch import nn

from guards.bundle.bundle import Bundle
from guards.config.config import parse
from guards.detectors.squeeze import Squeeze, SqueezeParams
from guards.errors import Mistake
from guards.model.torch_model import TorchModel
from guards.types import Batch, ModelOutput

GUARDS: list[dict[str, Any]] = [
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
    {"name": "squeezed", "detector": {"kind": "squeeze"}},
]


def squeeze(**params: Any) -> Squeeze:
    return Squeeze(SqueezeParams(**params))


def test_views_are_what_the_paper_says() -> None:
    """One view keeps some bits of each colour, another has the median of each square; the edge repeats."""
    x = torch.tensor([0.0, 0.1, 0.2, 0.9, 1.0, 0.4, 0.5, 0.6, 0.3]).reshape(1, 1, 3, 3)
    bits, median = squeeze(bits=1, median=3).views(x)
    assert bits.flatten().tolist() == [0, 0, 0, 1, 1, 0, 0, 1, 0]
    assert median[0, 0, 1, 1] == pytest.approx(0.4)
    assert median[0, 0, 0, 0] == pytest.approx(0.1)
    assert squeeze(bits=None, median=5).views(x).shape == (1, 1, 1, 3, 3)


def test_the_score_is_the_largest_distance_of_probabilities() -> None:
    """A view that answers as the image does gives 0, a view that is sure of another label gives 2."""
    logits = torch.tensor([[50.0, 0.0]]).repeat(2, 1)
    views = torch.tensor([[[50.0, 0.0], [50.0, 0.0]], [[50.0, 0.0], [0.0, 50.0]]])
    batch = Batch(torch.zeros(2, 1, 3, 3), output=ModelOutput(logits, logits, views=views))
    assert squeeze().score(batch).tolist() == pytest.approx([0.0, 2.0])
    assert squeeze().score(Batch(batch.x, output=ModelOutput(logits, logits))).isnan().all()


@pytest.mark.parametrize("most", [None, 5])
def test_views_ride_in_the_same_pass(most: int | None) -> None:
    """The module runs once for rows and views together; the rows' outputs are as without views, and views in order."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Tanh(), nn.Linear(4, 3))
    calls: list[int] = []
    net.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    x = torch.rand((7, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    views = squeeze().views
    plain = TorchModel(net, example=x[:4], outputs=3, most_rows=most)
    viewing = TorchModel(net, example=x[:4], outputs=3, most_rows=most, views=views)
    calls.clear()
    found = viewing(x)
    assert sum(calls) >= 21
    assert most is not None or calls == [21]
    expected = plain(x)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.features, expected.features)
    assert found.views is not None
    for place, view in enumerate(views(x)):
        torch.testing.assert_close(found.views[:, place], plain(view).logits)
    assert found[2:4].views is not None
    assert torch.equal(found[2:4].views, found.views[2:4])
    assert plain(x).views is None


def test_a_bundle_squeezes_as_it_was_fitted(tmp_path: Path) -> None:
    """Fit, self-test, loading and pipeline know the views; a small change that the model falls for is found."""
    bundle = fitted("image", guards=GUARDS).bundle
    bundle.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    pipeline = loaded.pipeline()
    loaded.run_self_test(pipeline)
    assert loaded.self_test is not None
    verdict = pipeline(Batch(loaded.self_test.x)).verdict
    assert verdict.score.isfinite().all()
    assert (verdict.score[1] > 0).any()


def test_a_fit_says_what_views_cost() -> None:
    """A note has the measured cost of a guard with views; without such a guard there is none."""
    said = [
        [note for note in fitted("image", guards=guards).notices.notes if "views" in note]
        for guards in (GUARDS, GUARDS[:1])
    ]
    assert len(said[0]) == 1
    assert re.search(r"squeezed .* a batch of 64 rows takes the model \d+\.\d times as long", said[0][0])
    assert said[1] == []


def test_a_second_guard_with_views_is_refused() -> None:
    """At most one guard reads views; the sentence names the guard that does."""
    with pytest.raises(Mistake, match=r"guards\.2: squeezed reads views already"):
        fitted("image", guards=[*GUARDS, {"name": "again", "detector": {"kind": "squeeze"}}])


def test_nothing_to_squeeze_is_told() -> None:
    """A guard without any view is refused."""
    with pytest.raises(Mistake, match="both null"):
        parse(document("image", guards=[{"name": "s", "detector": {"kind": "squeeze", "bits": None, "median": None}}]))
