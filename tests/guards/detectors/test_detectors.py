"""The built-in detectors against values worked out by hand and by numpy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tiny_models
import torch
from quick_findings import same_in_inference_mode
from torch import Tensor

from guards import Batch, Detector, InputSchema, ModelOutput, Reference
from guards.detectors.confidence import Confidence, ConfidenceParams
from guards.detectors.mahalanobis import Mahalanobis, MahalanobisParams
from guards.detectors.ranges import Ranges, RangesParams
from guards.input.column import Column

NAN, INF = math.nan, math.inf
NEVER = math.log(5)  # of four reference rows


def columns(**declared: object) -> tuple[Column, ...]:
    age = Column.model_validate({"name": "age", "kind": "numeric", **declared})
    return (age, Column(name="colour", kind="categorical", categories=("blue", "red")))


def ranges(x: list[list[float]] | Tensor, schema: InputSchema) -> Ranges:
    batch = Batch(torch.as_tensor(x, dtype=torch.float32))
    return Ranges(RangesParams()).fit(Reference(batch, None, schema))


def table(*columns: Column) -> InputSchema:
    return InputSchema(kind="tabular", shape=(len(columns),), columns=columns)


REFERENCE = [[10.0, 0.0], [20.0, 1.0], [NAN, 0.0], [12.0, 1.0]]


def scores(detector: Detector, x: list[list[float]]) -> list[float]:
    return detector.score(Batch(torch.tensor(x))).tolist()


def test_ranges_by_hand() -> None:
    """A sound row scores 0; faults score their surprise, and what lies far outside more than what lies near."""
    detector = ranges(REFERENCE, table(*columns()))
    missing_age, missing_colour = math.log(6 / 2), math.log(6 / 1)
    rows = [[15, 0], [10, 1], [20, 0], [NAN, 0], [15, NAN], [25, 0], [0, 1], [15, -1], [NAN, -1], [1010, NAN]]
    expected = [
        *(0, 0, 0, missing_age, missing_colour, NEVER + math.log(1.5), NEVER + math.log(2), NEVER),
        *(missing_age + NEVER, NEVER + math.log(1 + 99) + missing_colour),
    ]
    assert scores(detector, rows) == pytest.approx(expected, rel=1e-6)


def test_ranges_causes() -> None:
    """The first causes are the columns that are missing, unseen or out of range, by their names."""
    detector = ranges(REFERENCE, table(*columns()))
    assert detector.cause_names()[:2] == ("age", "colour")
    causes = detector.causes(Batch(torch.tensor([[15, 0], [NAN, 1], [25, -1], [15, NAN]])))
    assert causes is not None
    assert causes[:, :2].tolist() == [[False, False], [True, False], [True, True], [False, True]]


def test_nothing_is_violated_where_nothing_is_declared() -> None:
    """Bounds that only the reference knows are no declared ones."""
    detector = ranges(REFERENCE, table(*columns()))
    assert detector.violations(Batch(torch.tensor([[1e9, -1.0], [NAN, NAN]]))) is None


@pytest.mark.parametrize(
    ("declared", "broken"),
    [
        ({"minimum": 5}, [[4.9, 0]]),
        ({"maximum": 30}, [[30.5, 0]]),
        ({"minimum": 5, "maximum": 30}, [[4, 0], [31, 0]]),
        ({"nullable": False}, [[NAN, 0]]),
    ],
)
def test_declared_bounds(declared: dict[str, float], broken: list[list[float]]) -> None:
    """A value beyond a declared bound is a violation, a value at it is not; a missing value is, if not allowed."""
    detector = ranges(REFERENCE, table(*columns(**declared)))
    sound = [[10.0, 0.0], [float(declared.get("minimum", 10)), 1], [float(declared.get("maximum", 10)), -1]]
    violations = detector.violations(Batch(torch.tensor([*sound, *broken])))
    assert violations is not None
    assert violations.tolist() == [False] * 3 + [True] * len(broken)


def test_declared_bound_replaces_the_references() -> None:
    """Inside a declared bound a record is no fault, and the reference's own bound still holds the other way."""
    detector = ranges(REFERENCE, table(*columns(maximum=100)))
    assert scores(detector, [[99, 0], [20, 0]]) == [0, 0]
    assert scores(detector, [[9, 0]])[0] > NEVER


def test_declared_categories() -> None:
    """An unseen category breaks declared categories alone."""
    colour = Column(name="colour", kind="categorical", categories=("blue", "red"), categories_declared=True)
    rows = Batch(torch.tensor([[0.0], [1.0], [-1.0], [NAN]]))
    violations = ranges([[0.0], [1.0]], table(colour)).violations(rows)
    assert violations is not None
    assert violations.tolist() == [False, False, True, False]


def test_column_that_is_always_missing_has_no_bounds() -> None:
    """No value of a column that the reference never had is out of range."""
    detector = ranges([[NAN, 0.0], [NAN, 1.0]], table(*columns()))
    assert scores(detector, [[1e30, 0], [-5, 1]]) == [0, 0]
    assert scores(detector, [[NAN, 0]]) == pytest.approx([math.log(4 / 3)])


def test_constant_column_has_a_width() -> None:
    """Beside a constant the excess is measured in millionths of its size, and stays finite."""
    detector = ranges([[5.0, 0.0], [5.0, 1.0]], table(*columns()))
    assert scores(detector, [[5, 0], [6, 0]]) == pytest.approx([0, math.log(3) + math.log1p(1 / 5e-6)], rel=1e-4)


def test_infinity_is_the_largest_fault() -> None:
    """Infinity in a column with bounds scores infinity, and is a cause."""
    detector = ranges(REFERENCE, table(*columns()))
    assert scores(detector, [[INF, 0], [-INF, 0]]) == [INF, INF]


def test_image_is_judged_by_its_ends() -> None:
    """Of an image the darkest and brightest value of each channel count; outside [0, 1] or NaN is a violation."""
    schema = InputSchema(kind="image", shape=(2, 2, 2))
    reference = torch.tensor([[[[0.2, 0.4], [0.6, 0.8]], [[0.1, 0.1], [0.3, 0.3]]]]).repeat(3, 1, 1, 1)
    detector = ranges(reference, schema)
    assert detector.cause_names() == ("darkest:0", "darkest:1", "brightest:0", "brightest:1")
    x = reference[:1].repeat(4, 1, 1, 1)
    x[1, 0, 0, 0] = 0.0
    x[2, 1, 1, 1] = 1.5
    x[3, 0, 0, 0] = NAN
    score = detector.score(Batch(x))
    assert score[:2].tolist() == [0, 0]
    assert score[2].item() == pytest.approx(math.log(4) + math.log1p(0.5 / 1e-6), rel=1e-3)  # it never varied
    violations = detector.violations(Batch(x))
    assert violations is not None
    assert violations.tolist() == [False, False, True, True]
    causes = detector.causes(Batch(x))
    assert causes is not None
    assert causes.tolist() == [[False] * 4, [False] * 4, [False, False, False, True], [True, False, True, False]]


def test_tensor_elements_are_named_by_their_places() -> None:
    """The columns of a tensor are its elements, named by their indices."""
    schema = InputSchema(kind="tensor", shape=(2, 2))
    detector = ranges(torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[1.0, 2.0], [3.0, 4.0]]]), schema)
    assert detector.cause_names() == ("[0,0]", "[0,1]", "[1,0]", "[1,1]")
    causes = detector.causes(Batch(torch.tensor([[[0.5, 9.0], [2.5, 3.5]]])))
    assert causes is not None
    assert causes.tolist() == [[False, True, False, False]]


def gaussian(n: int = 400, d: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=generator)
    mixing = torch.randn((d, d), generator=generator)
    return torch.randn((n, d), generator=generator) @ mixing + 3 * y[:, None], y


def fitted(params: MahalanobisParams, features: Tensor, y: Tensor | None, outputs: int = 2) -> Mahalanobis:
    logits = torch.zeros(len(features), outputs)
    if y is None and outputs > 1:
        logits[:, 1] = (features.sum(1) > 4.5).float()
    batch = Batch(features, output=ModelOutput(logits, features))
    return Mahalanobis(params).fit(Reference(batch, y, InputSchema(kind="tensor", shape=(3,))))


def score(detector: Detector, features: Tensor) -> Tensor:
    return detector.score(Batch(features, output=ModelOutput(torch.zeros(len(features), 2), features)))


def by_numpy(train: Tensor, y: Tensor, features: Tensor) -> np.ndarray:
    """Log of one plus the smallest squared distance, standardised on the reference, without shrinkage."""
    f, labels = train.double().numpy(), y.numpy()
    means = np.stack([f[labels == c].mean(0) for c in np.unique(labels)])
    residual = f - means[labels]
    inverse = np.linalg.inv(residual.T @ residual / len(f))

    def distance(rows: np.ndarray) -> np.ndarray:
        gaps = rows[:, None] - means
        return np.log1p(np.einsum("nci,ij,ncj->nc", gaps, inverse, gaps).min(1))

    reference = distance(f)
    return (distance(features.double().numpy()) - reference.mean()) / reference.std(ddof=1)


def test_mahalanobis_by_numpy() -> None:
    """Without shrinkage the score is the textbook distance to the nearest class, standardised on the reference."""
    train, y = gaussian()
    test = 4 * torch.randn((50, 3), generator=torch.Generator().manual_seed(1))
    detector = fitted(MahalanobisParams(normalise=False, shrinkage=0.0), train, y)
    assert score(detector, test).numpy() == pytest.approx(by_numpy(train, y, test), rel=1e-3, abs=1e-3)


def test_mahalanobis_of_directions() -> None:
    """Normalised, the features' length does not matter; as they are, it does; both takes the stranger."""
    train, y = gaussian(d=4)
    test = train[:20] * torch.linspace(0.1, 30, 20)[:, None]
    scaled = nn_normalise(train)
    by_direction = fitted(MahalanobisParams(normalise=True, shrinkage=0.1), train, y)
    assert torch.allclose(score(by_direction, test), score(by_direction, nn_normalise(test)), atol=1e-3)
    assert torch.allclose(
        score(by_direction, test),
        score(fitted(MahalanobisParams(normalise=False, shrinkage=0.1), scaled, y), nn_normalise(test)),
        atol=1e-2,
    )
    raw = fitted(MahalanobisParams(normalise=False, shrinkage=0.1), train, y)
    both = fitted(MahalanobisParams(normalise="both", shrinkage=0.1), train, y)
    assert torch.allclose(score(both, test), torch.maximum(score(raw, test), score(by_direction, test)), atol=1e-3)
    assert score(raw, test)[-1] > score(raw, train[19:20])


def nn_normalise(features: Tensor) -> Tensor:
    return features / features.norm(dim=1, keepdim=True)


def test_mahalanobis_shrinks_as_told() -> None:
    """With shrinkage 1 the covariance is a multiple of the identity, and every reference row has a finite score."""
    train, y = gaussian(n=60)
    assert score(fitted(MahalanobisParams(shrinkage=1.0), train, y), train).isfinite().all()


def test_mahalanobis_without_labels_uses_predictions() -> None:
    """If the reference has no labels, the predicted classes take their place."""
    train, _ = gaussian()
    y = (train.sum(1) > 4.5).long()
    test = train[:30] * 2
    with_labels = fitted(MahalanobisParams(shrinkage=0.1), train, y)
    assert torch.equal(score(fitted(MahalanobisParams(shrinkage=0.1), train, None), test), score(with_labels, test))


def test_mahalanobis_of_regression_has_one_mean() -> None:
    """A regression model's features have one centre, whatever the labels."""
    train, y = gaussian()
    with_values = fitted(MahalanobisParams(shrinkage=0.1), train, y + 0.5, outputs=1)
    assert with_values.offset.shape[2] == 4  # three coordinates and one class term
    assert torch.equal(
        score(with_values, train), score(fitted(MahalanobisParams(shrinkage=0.1), train, None, 1), train)
    )


def test_mahalanobis_takes_classes_that_are_not_all_there() -> None:
    """Labels without some of the classes, or with one row of a class, are no trouble."""
    train, y = gaussian()
    y[y == 1] = 7
    y[0] = 3
    assert score(fitted(MahalanobisParams(), train, y, outputs=9), train).isfinite().all()


def test_mahalanobis_takes_features_that_never_vary() -> None:
    """A constant feature, or constant rows, leave the scores finite."""
    train, y = gaussian()
    train[:, 1] = 2.0
    assert score(fitted(MahalanobisParams(), train, y), train).isfinite().all()
    assert score(fitted(MahalanobisParams(), torch.ones(10, 3), torch.zeros(10).long()), train).isfinite().all()
    assert score(fitted(MahalanobisParams(), torch.zeros(10, 3), torch.zeros(10).long()), train).isfinite().all()
    assert score(fitted(MahalanobisParams(), train[:, :1], y), train[:, :1]).isfinite().all()


def test_mahalanobis_refuses_what_it_cannot_fit() -> None:
    """One row, or a feature that is not finite, is refused in a sentence."""
    train, y = gaussian()
    with pytest.raises(ValueError, match="at least two reference rows"):
        fitted(MahalanobisParams(), train[:1], y[:1])
    train[5, 0] = NAN
    with pytest.raises(ValueError, match="finite features"):
        fitted(MahalanobisParams(), train, y)


def test_mahalanobis_cannot_judge_nan() -> None:
    """Features that are not finite score NaN or infinity, and so are the strangest there is."""
    train, y = gaussian()
    detector = fitted(MahalanobisParams(), train, y)
    assert not score(detector, torch.tensor([[NAN, 0, 0], [INF, 0, 0]])).isfinite().any()


def test_confidence_by_hand() -> None:
    """The score is one minus the largest probability at the reference's temperature."""
    reference = tiny_models.reference("tensor")
    detector = Confidence(ConfidenceParams()).fit(replace(reference, temperature=2.0))
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [-40.0, 40.0]])
    expected = [1 / (1 + math.e), 0.5, 0.0]
    assert detector.score(Batch(logits, output=ModelOutput(logits, logits))).tolist() == pytest.approx(expected)


def test_confidence_refuses_regression() -> None:
    """A model without probabilities is refused in a sentence."""
    labeller = tiny_models.model("tabular", builder="tiny_models:value_net", task="regression")
    with pytest.raises(ValueError, match="needs a classifier"):
        Confidence(ConfidenceParams()).fit(tiny_models.reference("tabular", labeller=labeller))


@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_sound_rows_are_found_as_faulty_ones_are(kind: str) -> None:
    """The quick way for sound rows in inference mode gives the same bits of score, violations and causes."""
    reference = tiny_models.reference(kind)
    detector = Ranges(RangesParams()).fit(reference)
    rows = torch.cat([tiny_models.inputs(kind, 60, 4), 3 * tiny_models.inputs(kind, 40, 5)])
    sound = 0
    for row in [*rows.split(1), rows, rows[:0]]:
        found = same_in_inference_mode(detector, row)
        sound += len(row) == 1 and not found.score.any()
    assert 10 < sound < 100


def test_rows_within_learned_bounds_may_still_violate_declared_ones() -> None:
    """If the reference itself lies beyond a declared bound, the declared bound decides, in inference mode too."""
    detector = ranges([[1.0, 0.0], [50.0, 1.0], [60.0, 1.0]], table(*columns(maximum=40.0)))
    with torch.inference_mode():
        found = detector.examine(Batch(torch.tensor([[45.0, 0.0], [30.0, 0.0]])), causes=False)
    assert found.violated is not None
    assert found.violated.tolist() == [True, False]


@pytest.mark.parametrize("normalise", [True, False, "both"])
def test_scores_in_place_are_those_with_gradients(*, normalise: bool | str) -> None:
    """In inference mode the distance is computed in place, to the same bits, and the features stay as they are."""
    reference = tiny_models.reference("tensor")
    detector = Mahalanobis(MahalanobisParams.model_validate({"normalise": normalise})).fit(reference)
    output = reference.batch.output
    assert output is not None
    features = torch.cat([output.features, torch.full((1, output.features.shape[1]), INF), output.features[:1] * 0])
    batch = Batch(torch.zeros(len(features), 5), output=ModelOutput(torch.zeros(len(features), 3), features.clone()))
    slow = detector.score(batch)
    with torch.inference_mode():
        fast = detector.score(batch)
    assert torch.equal(slow.nan_to_num(-7.0), fast.nan_to_num(-7.0))
    assert batch.output is not None
    assert torch.equal(batch.output.features, features)
