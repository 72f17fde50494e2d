"""Feature squeezing: the model judges squeezed views of each image in the same pass."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import document, fitted
from torch import nn

from guards.bundle.bundle import Bundle
from guards.cli.tuning.feature_layers import FeatureLayers
from guards.config.config import parse
from guards.detectors.squeeze import Squeeze, SqueezeParams
from guards.errors import Mistake
from guards.model.chunked_run import CHUNK, run_model
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


def test_backwards_fewer_bits_are_the_identity() -> None:
    """An attacker gets the gradient of the row itself through the view of fewer bits, whose values are as without."""
    x = torch.rand((3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    traced = x.clone().requires_grad_()
    view = squeeze(bits=2, median=None).views(traced)[0]
    assert torch.equal(view, (x * 3).round() / 3)
    weights = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((weights * view).sum(), traced)
    assert torch.equal(gradient, weights)


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
    cost = (
        r"squeezed runs the model on 2 more views of each row: a batch of 64 rows takes the model \d+\.\d times as long"
    )
    assert re.search(cost, said[0][0])
    assert said[1] == []


def test_a_second_guard_with_views_is_refused() -> None:
    """At most one guard reads views; the sentence names the guard that does."""
    with pytest.raises(Mistake, match=r"guards\.2: squeezed reads views already"):
        fitted("image", guards=[*GUARDS, {"name": "again", "detector": {"kind": "squeeze"}}])


def test_nothing_to_squeeze_is_told() -> None:
    """A guard without any view is refused."""
    with pytest.raises(Mistake, match="both null"):
        parse(document("image", guards=[{"name": "s", "detector": {"kind": "squeeze", "bits": None, "median": None}}]))


def test_padding_and_neighbours_leave_a_score_as_it_is() -> None:
    """In batches of one size a row's score is bitwise the same, whatever rows stand behind it."""
    bundle = fitted("image", guards=GUARDS).bundle
    assert bundle.self_test is not None
    pipeline, shape = bundle.pipeline(), bundle.self_test.x.shape[1:]
    x = torch.rand((8, *shape), generator=torch.Generator().manual_seed(1))
    padded = torch.cat([x[:5], x[4:5].expand(3, *shape)])
    assert torch.equal(pipeline(Batch(x)).verdict.score[:, :5], pipeline(Batch(padded)).verdict.score[:, :5])


@pytest.mark.parametrize("side", [3, 5])
def test_medians_are_those_of_numpy(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pixel becomes the median of its square, however few images are sorted at once."""
    x = torch.rand((7, 3, 6, 6), generator=torch.Generator().manual_seed(2))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2), mode="edge")
    expected = np.median(np.lib.stride_tricks.sliding_window_view(padded, (side, side), (2, 3)), (4, 5))
    monkeypatch.setattr("guards.detectors.squeeze.VALUES_AT_ONCE", 2 * x[:1].numel() * side * side)
    assert np.array_equal(squeeze(bits=None, median=side).views(x)[0].numpy(), expected)


def test_chunks_of_rows_with_views_are_no_longer_than_others() -> None:
    """While a bundle is fitted, a pass has no more rows with views than without."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    x = torch.rand((300, 1, 6, 6), generator=torch.Generator().manual_seed(3))
    model = TorchModel(net, example=x[:4], outputs=3, views=squeeze().views)
    calls: list[int] = []
    net.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    found = run_model(model, x)
    assert max(calls) <= CHUNK
    assert sum(calls) == 3 * len(x)
    assert found.views is not None
    assert found.views.shape == (300, 2, 3)


def test_only_the_explained_guard_pays_for_views() -> None:
    """With gradients the views run only if they are asked for."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    x = torch.rand((4, 1, 6, 6), generator=torch.Generator().manual_seed(4))
    model = TorchModel(net, example=x, outputs=3, views=squeeze().views)
    calls: list[int] = []
    net.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    assert model.output(x).views is None
    assert model.output(x, views=True).views is not None
    assert calls == [4, 12]


@pytest.mark.parametrize("most", [None, 5])
def test_layers_are_found_beside_views(most: int | None) -> None:
    """A search among layers finds the same layers, whether or not views run in the same pass."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
    x = torch.rand((8, 1, 6, 6), generator=torch.Generator().manual_seed(5))
    plain, viewing = (
        TorchModel(net, example=x[:4], outputs=3, most_rows=most, views=views) for views in (None, squeeze().views)
    )
    found = FeatureLayers(viewing, x)
    assert found.names == FeatureLayers(plain, x).names
    assert len(found.names) > 1
