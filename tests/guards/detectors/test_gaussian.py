"""The default detector: its views worked out in double precision, their combination, and its causes."""

import pytest
import torch
from torch import Tensor

from guards import Batch, InputSchema, ModelOutput, Reference
from guards.detectors.gaussian import Gaussian, GaussianParams

WEIGHT = torch.tensor([[2.0, 0.0, 0.0, 1.0], [0.0, 2.0, 0.0, -1.0], [0.0, 0.0, 2.0, 0.0]])
NAMES = (
    *("between classes", "direction between classes", "low energy"),
    *("far from every class", "direction far from every class"),
    "early layer",
)


def made(n: int = 2000, seed: int = 0, outputs: int = 3, width: int = 6) -> tuple[Batch, Tensor]:
    """Make rows of three classes, whose early features follow the last features but for noise of scale 0.1."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=generator)
    features = 3 * torch.eye(3, 4)[y] + 1 + 0.5 * torch.randn((n, 4), generator=generator)
    mixing = torch.randn((4, width), generator=torch.Generator().manual_seed(7))
    direction = features / features.norm(dim=1, keepdim=True)
    early = direction @ mixing + 0.1 * torch.randn((n, width), generator=generator)
    return Batch(features, output=ModelOutput((features @ WEIGHT.T)[:, :outputs], features, early)), y


def fitted(rows: Batch, y: Tensor | None) -> Gaussian:
    return Gaussian(GaussianParams()).fit(Reference(rows, y, InputSchema(kind="tensor", shape=(4,))))


def changed(rows: Batch, **parts: Tensor | None) -> Batch:
    output = rows.output
    assert output is not None
    kept = {"logits": output.logits, "features": output.features, "early": output.early}
    return Batch(rows.x, output=ModelOutput(**{**kept, **parts}))


def squared(rows: Tensor, centre: Tensor, covariance: Tensor) -> Tensor:
    return torch.einsum("ni,ij,nj->n", rows - centre, torch.linalg.inv(covariance), rows - centre)


def test_views_in_double_precision() -> None:
    """Each view is what its paper says, with both covariances inverted, and shrinkage near 0 for so many rows."""
    rows, y = made(20_000)
    fresh, _ = made(50, 1)
    found = fitted(rows, y)._views(fresh.output)  # type: ignore[arg-type]
    assert rows.output is not None
    assert fresh.output is not None
    assert rows.output.early is not None
    assert fresh.output.early is not None
    distances, relative = [], []
    for scale in (lambda z: z, lambda z: z / z.norm(dim=1, keepdim=True)):
        f, g = scale(rows.output.features.double()), scale(fresh.output.features.double())
        means = torch.stack([f[y == c].mean(0) for c in range(3)])
        shared = (f - means[y]).T @ (f - means[y]) / len(f)
        distances.append(torch.stack([squared(g, mean, shared) for mean in means], 1).amin(1))
        relative.append(distances[-1] - squared(g, f.mean(0), (f - f.mean(0)).T @ (f - f.mean(0)) / len(f)))
    logits = fresh.output.logits.double()
    energy = -torch.logsumexp(logits - logits.mean(1, keepdim=True), 1)
    centred, early = f - f.mean(0), rows.output.early.double()
    slope = torch.linalg.lstsq(centred, early - early.mean(0)).solution
    residual = early - early.mean(0) - centred @ slope
    unexpected = fresh.output.early.double() - early.mean(0) - (g - f.mean(0)) @ slope
    last = squared(unexpected, torch.zeros(6), residual.T @ residual / len(f))
    expected = [*relative, energy, *(each.log1p() for each in distances), last.log1p()]
    for view, values, tolerance in zip(found.T, expected, (0.3, 0.3, *[0.03] * 4), strict=True):
        assert view.tolist() == pytest.approx(values.tolist(), rel=tolerance / 10, abs=tolerance)


def test_score_combines_the_surprises() -> None:
    """The score is the mean of two questions about the last layer, plus the early surprise beyond 2 nats."""
    rows, y = made()
    fresh, _ = made(500, 1)
    detector = fitted(rows, y)
    s = detector.surprises(fresh.output)  # type: ignore[arg-type]
    beyond = (s[:, 5] - 2).clamp_min(0)
    assert 0.05 < float((beyond > 0).float().mean()) < 0.3
    expected = (s[:, :3].mean(1) + s[:, 3:5].mean(1)) / 2 + beyond
    assert detector.score(fresh).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    regression = fitted(changed(rows, logits=rows.output.logits[:, :1]), None)  # type: ignore[union-attr]
    s = regression.surprises(fresh.output)  # type: ignore[arg-type]
    expected = s[:, :2].mean(1) + (s[:, 2] - 2).clamp_min(0)
    assert regression.score(fresh).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert detector.cause_names() == NAMES


def test_causes() -> None:
    """The loudest view is the cause: a row of noise in the early layer, a long row, a row between the classes."""
    rows, y = made()
    detector = fitted(rows, y)
    fresh, _ = made(300, 1)
    assert detector.causes(fresh).sum() < 100
    assert fresh.output is not None
    assert fresh.output.early is not None
    noisy = changed(fresh, early=fresh.output.early + torch.tensor([1.0, -1.0]).repeat(3))
    assert detector.causes(noisy)[:, 5].all()
    long = changed(fresh, features=30 * fresh.output.features)
    assert detector.causes(long)[:, 3].all()
    found = detector.examine(noisy, causes=True)
    assert found.causes is not None
    assert torch.equal(found.causes, detector.causes(noisy))


def test_a_constant_added_to_all_logits_changes_nothing() -> None:
    """Logits count up to a constant, as probabilities do."""
    rows, y = made()
    detector = fitted(rows, y)
    assert rows.output is not None
    shifted = changed(rows, logits=rows.output.logits + 50)
    assert torch.allclose(detector.score(rows), detector.score(shifted), atol=1e-3)


def test_regression_and_models_without_an_early_layer() -> None:
    """A regression has no classes to be between, and without early features their view is left out."""
    rows, y = made(outputs=1)
    far = ("far from the training rows", "direction far from the training rows")
    assert fitted(rows, y.float()).cause_names() == (*far, "early layer")
    rows, y = made()
    bare = changed(rows, early=None)
    detector = fitted(bare, y)
    assert detector.cause_names() == NAMES[:5]
    assert detector.score(bare).isfinite().all()


def test_early_features_that_the_last_features_determine() -> None:
    """If the early layer is the last layer, rounding errors are not surprising."""
    rows, y = made()
    fresh, _ = made(2000, 1)
    assert rows.output is not None
    assert fresh.output is not None

    def same(batch: Batch) -> Batch:
        assert batch.output is not None
        features = batch.output.features
        return changed(batch, early=features / features.norm(dim=1, keepdim=True))

    detector = fitted(same(rows), y)
    surprises = detector.surprises(same(fresh).output)  # type: ignore[arg-type]
    assert float((surprises[:, 5] > 4).float().mean()) < 0.05


def test_surprises_are_honest_if_rows_are_few() -> None:
    """With hardly more rows than features, fresh rows surprise hardly more often than reference rows."""
    rows, y = made(120, width=40)
    fresh, _ = made(2000, 1, width=40)
    detector = fitted(rows, y)
    surprised = (detector.surprises(fresh.output) > 3).float().mean(0)  # type: ignore[arg-type]
    assert surprised.max() < 0.15


def test_what_is_refused() -> None:
    """Too few rows and features that are not finite are refused."""
    rows, y = made()
    with pytest.raises(ValueError, match="at least 10 reference rows"):
        fitted(rows[:9], y[:9])
    assert rows.output is not None
    features = rows.output.features.clone()
    features[3] = torch.nan
    with pytest.raises(ValueError, match="finite features"):
        fitted(changed(rows, features=features), y)
