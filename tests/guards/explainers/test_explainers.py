"""Explainers against known answers: linear and additive models, all coalitions, dummies, symmetry, completeness."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor, nn

from guards import Bundle, Explainer, Mistake, TorchModel
from guards.config.explain import ExplainConfig
from guards.config.plugins import registered
from guards.explainers.base import NotExplainableError
from guards.explainers.explained_function import Subject
from guards.input.column import Column
from guards.input.imputation import Imputation
from guards.input.schema import InputSchema

TENSOR = tiny_models.schema("tensor")
ADDING = ("integrated_gradients", "deep_lift", "gradient_shap", "kernel_shap", "shapley")
GRADIENTS = ("integrated_gradients", "saliency", "deep_lift", "gradient_shap")
ALL = (*ADDING, "saliency", "occlusion", "feature_ablation")


def explainer(
    model: TorchModel, schema: InputSchema, method: str = "integrated_gradients", subject: Any = None, **parameters: Any
) -> Explainer:
    kind: Any = registered("explainers")[method]
    return kind(kind.Params.model_validate({"method": method, **parameters}), subject or Subject(model, schema))


def wrapped(net: nn.Module, outputs: int | None = 2, size: int = 5) -> TorchModel:
    return TorchModel(net, example=torch.rand(2, size), outputs=outputs)


def randn(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Rectified(nn.Module):
    """A smooth body would be easy: this one has kinks, as modules, and a head."""

    def __init__(self, inputs: int, width: int = 32, outputs: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Functions(nn.Module):
    """Any function of the columns to two logits, behind a linear layer that a model must have."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.head = function, nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(x))


# Known answers


@pytest.mark.parametrize("method", [*ADDING, "feature_ablation", "occlusion"])
def test_linear_model_is_explained_exactly(method: str) -> None:
    """On a linear model every method says weight times distance from the baseline, to rounding."""
    net = tiny_models.seeded(lambda: nn.Linear(5, 3))
    x, target = randn(7, 5), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    found = explainer(wrapped(net, None), TENSOR, method).explain(x, target)
    assert torch.allclose(found.values, net.weight[target] * x, atol=1e-6)
    assert torch.allclose(found.baseline_value, net.bias[target], atol=1e-6)
    assert torch.allclose(found.output_value, net(x).gather(1, target[:, None])[:, 0], atol=1e-6)
    if method in ADDING:
        assert found.convergence_delta.abs().max() < 1e-6
    else:
        assert found.convergence_delta.isnan().all()


def test_saliency_of_a_linear_model_is_its_weights() -> None:
    """The gradient keeps its sign."""
    net = tiny_models.seeded(lambda: nn.Linear(5, 3))
    found = explainer(wrapped(net, None), TENSOR, "saliency").explain(randn(2, 5), torch.tensor([0, 2]))
    assert torch.allclose(found.values, net.weight[[0, 2]], atol=1e-6)


def test_additive_model_is_explained_by_its_terms() -> None:
    """Shapley values, their regression and ablation give each column what the column adds by itself."""

    def terms(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] ** 2 + torch.sin(x[:, 1]) + x[:, 2].exp(), x[:, 3] - x[:, 4]], dim=1)

    x = randn(3, 5)
    expected = torch.stack([x[:, 0] ** 2, torch.sin(x[:, 1]), x[:, 2].exp() - 1, 0 * x[:, 3], 0 * x[:, 4]], dim=1)
    for method in ("shapley", "kernel_shap", "feature_ablation", "occlusion", "integrated_gradients"):
        more = {"tolerance": 1e-5, "max_steps": 1024} if method == "integrated_gradients" else {}
        found = explainer(wrapped(Functions(terms)), TENSOR, method, **more).explain(x, torch.zeros(3).long())
        assert torch.allclose(found.values, expected, atol=1e-5 if not more else 1e-4), method


def test_shapley_values_are_those_of_all_orders() -> None:
    """Exact Shapley values equal the mean gain over every order of the columns."""
    model = wrapped(tiny_models.seeded(lambda: Rectified(4)), size=4)
    x = randn(1, 4)
    expected = torch.zeros(4)
    for order in itertools.permutations(range(4)):
        row = torch.zeros(1, 4)
        for column in order:
            before = model(row).logits[0, 1].clone()
            row[0, column] = x[0, column]
            expected[column] += model(row).logits[0, 1] - before
    schema = InputSchema(kind="tensor", shape=(4,))
    for method in ("shapley", "kernel_shap"):  # 14 coalitions: the regression runs them all
        found = explainer(model, schema, method).explain(x, torch.tensor([1]))
        assert torch.allclose(found.values[0], expected / math.factorial(4), atol=1e-5)


def test_sampled_regression_is_near_the_exact_values() -> None:
    """With a part of the coalitions the regression adds up exactly, and comes near."""
    model = wrapped(tiny_models.seeded(lambda: Rectified(10)), size=10)
    schema, x, target = InputSchema(kind="tensor", shape=(10,)), randn(2, 10), torch.tensor([0, 1])
    exact = explainer(model, schema, "shapley").explain(x, target)
    found = explainer(model, schema, "kernel_shap", samples=512).explain(x, target)
    assert found.convergence_delta.abs().max() < 1e-6
    assert (found.values - exact.values).abs().max() < 0.1 * exact.values.abs().max()


@pytest.mark.parametrize("method", ALL)
def test_column_that_does_not_matter_gets_nothing(method: str) -> None:
    """An input that the model ignores has no part."""

    class Ignores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = Rectified(4), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x[:, :4]))

    found = explainer(wrapped(tiny_models.seeded(Ignores)), TENSOR, method).explain(randn(3, 5), torch.zeros(3).long())
    assert found.values[:, 4].abs().max() < 1e-7
    assert found.values[:, :4].abs().max() > 1e-3


@pytest.mark.parametrize("method", [m for m in ALL if m != "deep_lift"])
def test_equal_columns_get_equal_parts(method: str) -> None:
    """Two inputs that the model treats alike, and that are equal in the row, get the same."""

    def symmetric(x: Tensor) -> Tensor:
        both = torch.tanh(x[:, 0] + x[:, 1]) * x[:, 2]
        return torch.stack([both, -both], dim=1)

    x = torch.tensor([[0.7, 0.7, 1.1, 0.2, -0.4]])
    found = explainer(wrapped(Functions(symmetric)), TENSOR, method).explain(x, torch.tensor([0]))
    assert found.values[0, 0].item() == pytest.approx(found.values[0, 1].item(), abs=1e-6)
    assert abs(found.values[0, 0].item()) > 1e-2


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_same_row_gets_the_same_answer(kind: str, method: str) -> None:
    """A row's answer has the same bits at every call, and beside other rows."""
    if method == "shapley" and kind == "image":
        pytest.skip("36 pixels are too many for all coalitions")
    net = nn.Sequential(nn.Flatten(), Rectified(math.prod(tiny_models.SHAPES[kind])))
    model = TorchModel(tiny_models.seeded(lambda: net), example=torch.rand(2, *tiny_models.SHAPES[kind]), outputs=2)
    x, target = tiny_models.inputs(kind, 3, 5), torch.tensor([0, 1, 1])
    made = explainer(model, tiny_models.schema(kind), method)
    torch.manual_seed(1)
    first = made.explain(x, target)
    torch.manual_seed(2)
    assert torch.equal(first.values, made.explain(x, target).values)
    assert torch.equal(first.values[1:2], made.explain(x[1:2], target[1:2]).values)
    assert first.values.shape == x.shape


# Integrated gradients


@pytest.mark.parametrize("width", [8, 256])
def test_integrated_gradients_are_complete(width: int) -> None:
    """Contributions add up to the change of the logit within 1e-4 of it, in 128 gradient evaluations."""
    model = wrapped(tiny_models.seeded(lambda: Rectified(20, width)), size=20)
    schema, x = InputSchema(kind="tensor", shape=(20,)), 3 * randn(20, 20)
    target = model(x).logits.argmax(1)
    found = explainer(model, schema, max_steps=128).explain(x, target)
    change = found.output_value - found.baseline_value
    lacking = found.values.double().sum(1) - change
    assert torch.allclose(found.convergence_delta.double(), lacking, atol=1e-5)
    assert (lacking.abs() / change.abs()).quantile(0.95) < 1e-4


def test_integrated_gradients_come_near_the_integral() -> None:
    """Each contribution is near the contribution of very many steps, not only their sum."""
    model = wrapped(tiny_models.seeded(lambda: Rectified(20, 64)), size=20)
    subject = Subject(model, InputSchema(kind="tensor", shape=(20,)))
    x, target = 3 * randn(10, 20), torch.ones(10).long()
    found = explainer(model, subject.schema).explain(x, target).values
    places = (torch.arange(20_000) + 0.5) / 20_000
    for row in range(10):
        _, (slopes,) = subject.gradient((places[:, None] * x[row],), target[:1].expand(len(places)))
        expected = slopes.double().mean(0) * x[row]
        assert (found[row] - expected).norm() < 0.03 * expected.norm()


def test_steps_are_doubled_until_the_tolerance() -> None:
    """A harder row takes more gradient evaluations, never more than the limit; a linear one no more than the first."""
    counted: list[int] = []

    class Counting(Subject):
        def gradient(self, parts: tuple[Tensor, ...], target: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            counted.append(len(target))
            return super().gradient(parts, target)

    for net, tolerance, expected in (
        (nn.Linear(5, 2), 1e-3, [8]),
        (Rectified(5), 1e-9, [8, 7, 14, 28, 7]),
        (Rectified(5), 0.5, [8]),
    ):
        counted.clear()
        model = wrapped(tiny_models.seeded(lambda net=net: net))
        made = explainer(model, TENSOR, "integrated_gradients", Counting(model, TENSOR), steps=8, max_steps=64,
                         tolerance=tolerance)  # fmt: skip
        made.explain(4 * randn(1, 5), torch.tensor([0]))
        assert counted == expected


def test_more_steps_than_the_limit_are_a_mistake() -> None:
    """A config that contradicts itself is refused."""
    with pytest.raises(ValueError, match="max_steps 8 is below steps 16"):
        registered("explainers")["integrated_gradients"].Params(steps=16, max_steps=8)


# What is explained


def test_binary_model_is_explained_for_either_class() -> None:
    """With one logit z, the second class's output is z and the first's is -z."""
    net = tiny_models.seeded(lambda: nn.Linear(5, 1))
    x = randn(2, 5).repeat(2, 1)
    found = explainer(wrapped(net, None), TENSOR).explain(x, torch.tensor([1, 1, 0, 0]))
    assert torch.allclose(found.values[:2], net.weight * x[:2], atol=1e-5)
    assert torch.allclose(found.values[2:], -found.values[:2], atol=1e-6)
    assert torch.allclose(found.output_value[:2], net(x[:2])[:, 0], atol=1e-5)


def test_regression_is_explained_by_its_value() -> None:
    """Of a regression the value is explained, with target 0."""
    net = tiny_models.seeded(lambda: nn.Linear(5, 1))
    x = randn(4, 5)
    found = explainer(wrapped(net, 1), TENSOR).explain(x, torch.zeros(4).long())
    assert torch.allclose(found.values, net.weight * x, atol=1e-5)


def test_table_is_explained_from_its_imputed_values() -> None:
    """A table's baseline is a row with nothing known, and a missing value contributes nothing."""
    net = tiny_models.seeded(lambda: nn.Linear(3, 2))
    fill, blank = torch.tensor([1.0, -2.0, 0.5]), torch.zeros(3, dtype=torch.bool)
    columns = tuple(Column(name=name, kind="numeric", fill=value) for name, value in zip("abc", fill, strict=True))
    model = TorchModel(net, example=torch.rand(2, 3), outputs=2, imputation=Imputation(fill, blank, blank))
    schema = InputSchema(kind="tabular", shape=(3,), columns=columns)
    x = torch.tensor([[2.0, torch.nan, 4.0]])
    for method in ADDING:
        found = explainer(model, schema, method).explain(x, torch.tensor([1]))
        assert torch.allclose(found.values[0], net.weight[1] * torch.tensor([1.0, 0.0, 3.5]), atol=1e-5)
        assert torch.allclose(found.baseline_value, net(fill)[1], atol=1e-6)


def test_several_baselines_are_averaged() -> None:
    """With more than one baseline the contributions are the mean over them."""
    net = tiny_models.seeded(lambda: nn.Linear(5, 2))
    baselines, x = randn(3, 5, seed=8), randn(1, 5)
    subject = Subject(wrapped(net), TENSOR, baselines=baselines)
    for method in ADDING:
        found = explainer(subject.model, TENSOR, method, subject).explain(x, torch.tensor([1]))
        assert torch.allclose(found.values, net.weight[1] * (x - baselines.mean(0)), atol=1e-5)
        assert found.convergence_delta.abs().max() < 1e-5


def test_explanations_leave_the_rows_alone() -> None:
    """Rows made in inference mode are explained, and nothing is written into them."""
    model = tiny_models.model("tensor")
    with torch.inference_mode():
        x = torch.randn(3, 5)
    before = x.clone()
    found = explainer(model, TENSOR).explain(x, torch.tensor([0, 1, 2]))
    assert torch.equal(x, before)
    assert not found.values.requires_grad


@pytest.mark.parametrize("guard", ["ood", "unsure"])
def test_score_of_a_guard_is_explained(guard: str) -> None:
    """Gradients reach a guard's score through the features: contributions account for its change from the baseline."""
    bundle = tiny_models.fitted("tensor").bundle
    x = 2 * randn(4, 5)
    found = bundle.explainer(subject=bundle.subject(guard)).explain(x, torch.zeros(4).long())
    place = bundle.pipeline().names.index(guard)
    from guards import Batch

    scores = bundle.pipeline()(Batch(x)).verdict.score[place]
    assert torch.allclose(found.output_value, scores, atol=1e-5)
    assert found.values.abs().max() > 1e-2
    change = (found.output_value - found.baseline_value).abs()
    assert (found.convergence_delta.abs() / change).max() < 1e-3


# Categories


@pytest.mark.parametrize("method", GRADIENTS)
def test_embedded_category_is_refused(method: str) -> None:
    """If a category that matters has no gradient, the refusal names the column and the way out."""
    model, schema = tiny_models.model("tabular", "tiny_models:module_net"), tiny_models.schema("tabular")
    x = torch.tensor([[0.5, -0.5, 1.0, 2.0]])
    with pytest.raises(NotExplainableError, match=r"\['colour'\].*explain.embeddings.*feature_ablation"):
        explainer(model, schema, method).explain(x, torch.tensor([0]))


def test_category_at_its_baseline_is_explained() -> None:
    """A row whose category is the imputed one, or missing, loses nothing and is explained."""
    model, schema = tiny_models.model("tabular"), tiny_models.schema("tabular")
    x = torch.tensor([[0.1, 0.2, 0.3, 1.0], [0.1, 0.2, 0.3, torch.nan]])
    found = explainer(model, schema).explain(x, torch.tensor([0, 0]))
    assert torch.allclose(found.values[0], found.values[1])
    assert found.values[:, 3].tolist() == [0, 0]


@pytest.mark.parametrize("method", ADDING)
def test_named_embedding_gives_the_category_its_part(method: str) -> None:
    """With its layer named, a category is one column among the others, and contributions add up."""
    model, schema = tiny_models.model("tabular", "tiny_models:module_net"), tiny_models.schema("tabular")
    subject = Subject(model, schema, embeddings=["embedding"])
    x = torch.tensor([[0.5, -0.5, 1.0, 2.0], [0.9, 0.5, -1.0, 0.0]])
    found = explainer(model, schema, method, subject).explain(x, torch.tensor([0, 2]))
    assert found.values[:, 3].abs().min() > 1e-3
    limit = 0.02 if method == "gradient_shap" else 1e-4
    assert (found.convergence_delta / (found.output_value - found.baseline_value)).abs().max() < limit
    assert found.values[0, :3].tolist() == pytest.approx([0, 0, 0], abs=1e-6)  # these are at their baseline


def test_linear_model_of_an_embedding_is_explained_exactly() -> None:
    """On a model linear in numbers and embedded categories, gradients give what ablation gives."""

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(6, 2), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            looked_up = self.embedding(x[:, [1, 2]].long() + torch.tensor([0, 3])).flatten(1)
            return self.head(torch.cat([x[:, :1], looked_up], dim=1))

    columns = (
        Column(name="size", kind="numeric", fill=0.5),
        Column(name="colour", kind="categorical", categories=("blue", "green", "red"), fill=1.0),
        Column(name="shape", kind="categorical", categories=("flat", "long", "round"), fill=0.0),
    )
    schema = InputSchema(kind="tabular", shape=(3,), columns=columns)
    fill = torch.tensor([column.fill for column in columns])
    imputation = Imputation(fill, schema.categorical, torch.zeros(3, dtype=torch.bool))
    model = TorchModel(tiny_models.seeded(Bag), example=torch.zeros(2, 3), outputs=2, imputation=imputation)
    subject = Subject(model, schema, embeddings=["embedding"])
    x, target = torch.tensor([[2.0, 0.0, 2.0], [1.0, 2.0, torch.nan]]), torch.tensor([0, 1])
    expected = explainer(model, schema, "feature_ablation").explain(x, target).values
    for method in ("integrated_gradients", "deep_lift", "gradient_shap"):
        found = explainer(model, schema, method, subject).explain(x, target).values
        assert torch.allclose(found, expected, atol=1e-6), method


@pytest.mark.parametrize(
    ("kind", "embeddings", "sentence"),
    [
        ("tabular", ["embeding"], r"no submodule 'embeding'; the embeddings are \['embedding'\]"),
        ("tabular", ["body"], r"the output of body mixes '\w+' with another column"),
        ("tensor", ["body"], "only a table's categories need an embedding layer"),
    ],
)
def test_wrong_embedding_is_a_mistake(kind: str, embeddings: list[str], sentence: str) -> None:
    """A layer that does not exist, or that mixes columns, is refused by name."""
    with pytest.raises(Mistake, match=sentence):
        Subject(tiny_models.model(kind), tiny_models.schema(kind), embeddings=embeddings)


# Where a method does not apply


def test_deep_lift_refuses_what_it_cannot_follow() -> None:
    """DeepLIFT cannot follow rectifiers that are functions: the row is refused, and gets no wrong contributions."""

    def rectified(x: Tensor) -> Tensor:
        return torch.relu(torch.stack([x[:, 0] - x[:, 1], x[:, 2] * x[:, 3]], dim=1))

    with pytest.raises(NotExplainableError, match=r"deep_lift: its contributions miss .* make them modules"):
        explainer(wrapped(Functions(rectified)), TENSOR, "deep_lift").explain(
            torch.tensor([[2.0, -1.0, 1.0, 3.0, 0.0]]), torch.tensor([1])
        )


def test_shapley_refuses_many_columns() -> None:
    """2^d coalitions are run for up to ten columns."""
    model, x = tiny_models.model("image"), tiny_models.inputs("image", 1, 0)
    with pytest.raises(NotExplainableError, match="up to 10 columns, not 36: use kernel_shap"):
        explainer(model, tiny_models.schema("image"), "shapley").explain(x, torch.tensor([0]))


@pytest.mark.parametrize("method", ["occlusion", "feature_ablation", "kernel_shap"])
@pytest.mark.parametrize("shape", [(3, 11, 7), (1, 5, 5)])
def test_patches_cover_the_whole_image(method: str, shape: tuple[int, ...]) -> None:
    """However few windows or groups are allowed, no pixel is left out."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 2))
    model = TorchModel(tiny_models.seeded(lambda: net), example=torch.rand(2, *shape), outputs=2)
    with torch.no_grad():
        net[1].weight.abs_()
    few = {"positions": 4} if method == "occlusion" else {"groups": 4}
    found = explainer(model, InputSchema(kind="image", shape=shape), method, **few).explain(
        torch.ones(1, *shape), torch.tensor([1])
    )
    assert (found.values > 0).all()


# Through the bundle


def test_bundle_makes_its_explainers(tmp_path: Any) -> None:
    """A bundle gives the config's explainer or another, with steps changed, the same after a restart."""
    bundle = tiny_models.fitted("tensor", explain={"method": "integrated_gradients", "steps": 5}).bundle
    assert bundle.explainer().params.model_dump()["steps"] == 5
    assert bundle.explainer(steps=7).params.model_dump()["steps"] == 7
    assert bundle.explainer("gradient_shap", steps=7).params.model_dump()["steps"] == 7
    assert bundle.explainer("saliency").params.model_dump() == {"method": "saliency"}
    with pytest.raises(ValueError, match="less than or equal to 1024"):
        bundle.explainer(steps=5000)
    bundle.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    x, target = randn(2, 5), torch.tensor([0, 1])
    assert torch.equal(loaded.explainer().explain(x, target).values, bundle.explainer().explain(x, target).values)


@pytest.mark.parametrize("baseline", ["neutral", "zeros", "mean", "sample"])
@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_baselines_are_the_configs(kind: str, baseline: str) -> None:
    """Zeros, the reference's mean or a few of its rows, prepared for the model; categories stay categories."""
    bundle = tiny_models.fitted(kind, explain={"baseline": baseline}, store_reference_rows=True).bundle
    found = bundle.subject().baselines
    assert found.shape == (8 if baseline == "sample" else 1, *tiny_models.SHAPES[kind])
    assert found.isfinite().all()
    if kind == "tabular":
        assert set(found[:, 3].tolist()) <= {0.0, 1.0, 2.0}
    if baseline == "zeros" or (baseline == "neutral" and kind != "tabular"):
        assert found.flatten(1)[0, :3].tolist() == [0, 0, 0]
    if baseline == "mean":
        reference = bundle.model.prepare(tiny_models.rows(kind).x)
        assert torch.allclose(found.flatten(1)[0, :3], reference.flatten(1).mean(0)[:3], atol=1e-5)


def test_reference_rows_are_kept_only_where_allowed() -> None:
    """Without the config's word a bundle holds no reference row and no features; with it as many as it says."""
    with pytest.raises(Mistake, match=r"explain.baseline: sample needs `store_reference_rows: true`"):
        tiny_models.fitted("tensor", explain={"baseline": "sample"})
    kept = tiny_models.fitted("tensor").bundle.exemplars
    assert kept is not None
    assert kept.tensors().keys() == {"mean"}
    near = {"method": "neighbours", "methods": [{"method": "neighbours", "kept": 40}]}
    kept = tiny_models.fitted("tensor", explain=near).bundle.exemplars
    assert kept is not None
    assert kept.tensors().keys() == {"mean", "features", "labels", "index"}
    assert len(kept.features) == len(kept.index) == 40


def test_neighbours_cannot_be_allowed_later(tmp_path: Any) -> None:
    """Features that were not kept at fit cannot be asked for at deploy time."""
    from guards.config.config import parse

    tiny_models.fitted("tensor").bundle.save(tmp_path / "bundle")
    config = parse(
        tiny_models.document("tensor", explain={"methods": [{"method": "neighbours"}], "method": "neighbours"})
    )
    with pytest.raises(Mistake, match=r"explain.methods: neighbours needs features"):
        Bundle.load(tmp_path / "bundle", config=config)


# The section


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"method": "guess"}, "'guess' is not known; there are 'integrated_gradients'"),
        ({"method": "saliency", "steps": 3}, "steps: saliency has none"),
        ({"methods": [{"method": "saliency"}]}, "'integrated_gradients' is not among `methods`"),
        ({"method": "saliency", "methods": [{"method": "saliency"}] * 2}, "'saliency' is listed twice"),
        ({"steps": 4000}, "less than or equal to 1024"),
        ({"method": "occlusion", "methods": [{"method": "occlusion", "windw": 3}]}, "windw"),
    ],
)
def test_mistakes_of_the_section_are_told(section: dict[str, Any], sentence: str) -> None:
    """A method that is not there, not allowed or without steps is a sentence."""
    with pytest.raises(ValueError, match=sentence):
        ExplainConfig.model_validate(section)


def test_all_methods_but_neighbours_are_allowed_by_default() -> None:
    """A method that needs reference rows in the bundle must be requested."""
    assert set(ExplainConfig().allowed) == {*ALL}
    only = ExplainConfig.model_validate({"method": "occlusion", "methods": [{"method": "occlusion", "window": 4}]})
    assert only.parameters("occlusion").model_dump()["window"] == 4
    assert list(only.allowed) == ["occlusion"]
