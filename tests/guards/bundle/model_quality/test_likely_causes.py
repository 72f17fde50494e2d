"""Likely causes: a misread model is found out on its own rows, and a sound model gets no warning."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import tiny_models
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from guards import InputSchema, Rows, TorchModel
from guards.bundle.labelled import Labelled
from guards.bundle.model_quality.input_changes import input_changes
from guards.bundle.model_quality.label_order import better_order
from guards.bundle.model_quality.likely_causes import judge
from guards.bundle.model_quality.quality import quality, recognises, sampled_outputs
from guards.bundle.preparation import Prepared
from guards.config.config import parse
from guards.input.column import Column
from guards.input.imputation import Imputation
from guards.model.chunked_run import run_model
from guards.notices import Notices

COUNT = 900


class Net(nn.Module):
    """A function of the rows, and a linear head behind it."""

    def __init__(self, body: Callable[[Tensor], Tensor], weight: Tensor) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def prepared(
    net: nn.Module,
    x: Tensor,
    y: Tensor | None,
    *,
    schema: InputSchema | None = None,
    classes: tuple[str, ...] = tiny_models.CLASSES,
    heldout: Rows | None = None,
) -> Prepared:
    """Wrap a net and its training rows as ``prepare`` would; every third row is for calibration."""
    schema = schema or InputSchema(kind="tensor" if x.ndim < 4 else "image", shape=tuple(x.shape[1:]))
    given = {"columns": []} if schema.kind == "tabular" else {"shape": list(schema.shape)}
    model: dict[str, Any] = {"builder": "tiny_models:tensor_net", "device": "cpu"}
    model |= {"classes": list(classes)} if classes else {"task": "regression"}
    imputation = None
    if schema.kind == "tabular":
        fill = torch.tensor([column.fill for column in schema.columns])
        imputation = Imputation(fill, schema.categorical, torch.zeros(len(fill), dtype=torch.bool))
    rows, third = Rows(x, y), torch.arange(len(x)) % 3 == 0
    return Prepared(
        config=parse(
            tiny_models.document("tensor", model=model, input={"kind": schema.kind, **given}, guards=[], monitors=[])
        ),
        reference=cast("Any", None),
        schema=schema,
        classes=classes,
        model=TorchModel(net, example=x[:4], outputs=len(classes) or 1, imputation=imputation),
        program=None,
        train=rows.take((~third).nonzero()[:, 0]),
        heldout=heldout or rows.take(third.nonzero()[:, 0]),
    )


def judged(made: Prepared, notices: Notices | None = None) -> Notices:
    notices = notices or Notices()
    outputs = {
        part: Labelled(run_model(made.model, rows.x).logits, rows.y)
        for part, rows in (("train", made.train), ("calibration", made.heldout))
    }
    judge(made, outputs, notices)
    return notices


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def noisy(y: Tensor, classes: int, share: float = 0.05) -> Tensor:
    """Give some rows another label, by chance."""
    generator = torch.Generator().manual_seed(5)
    other = torch.randint(classes, y.shape, generator=generator)
    return torch.where(torch.rand(y.shape, generator=generator) < share, other, y)


WEIGHT = normal(3, 5, seed=9)


def linear_case(order: list[int] | None = None) -> tuple[nn.Module, Tensor, Tensor]:
    """Make a linear model of three classes, whose outputs come in some order, and rows of those classes."""
    x = normal(COUNT, 5)
    y = noisy((x @ WEIGHT.T).argmax(1), 3)
    return Net(nn.Identity(), WEIGHT[order or [0, 1, 2]]), x, y


def test_a_sound_model_passes_without_a_word() -> None:
    """A model that is right in 19 of 20 rows is measured, and there is no warning."""
    assert judged(prepared(*linear_case())) == Notices()


def test_labels_in_another_order() -> None:
    """The order under which the outputs fit is given, ready to be set."""
    (warning,) = judged(prepared(*linear_case([2, 0, 1]))).warnings
    assert warning.startswith("model.classes: the outputs fit the labels in another order: accuracy 9")
    assert "set model.classes to ['cat', 'ant', 'bee']" in warning


def test_the_order_that_is_given_is_right() -> None:
    """With the classes in the order of the warning, there is no warning any more."""
    net, x, y = linear_case([2, 0, 1])
    new = {"cat": 0, "ant": 1, "bee": 2}
    y = torch.tensor([new[tiny_models.CLASSES[code]] for code in y.tolist()])
    assert judged(prepared(net, x, y, classes=("cat", "ant", "bee"))) == Notices()


def test_a_model_that_fits_settles_doubts_about_the_order() -> None:
    """A doubtful order of the labels is noted if most rows of each class have its output, and else warned of."""
    net, x, y = linear_case()
    rare = torch.where(torch.arange(len(y)) < 890, y.clamp(max=1), 2)
    for made, settled in (
        (prepared(net, x, y), True),
        (prepared(*linear_case([2, 0, 1])), False),
        (prepared(net, x, torch.randint(3, y.shape, generator=torch.Generator().manual_seed(1))), False),
        (prepared(net, x, rare), False),
    ):
        notices = Notices()
        notices.doubt("doubtful")
        notices = judged(made, notices)
        assert ("doubtful" in notices.warnings) != settled
        assert any(note.startswith("doubtful (the model's answers fit the order") for note in notices.notes) == settled


def test_two_classes_of_many_exchanged() -> None:
    """Two exchanged classes of ten are found though the model is far above the majority class."""
    weight, x = normal(10, 12, seed=3), normal(2000, 12)
    y = (x @ weight.T).argmax(1)
    exchanged = [0, 1, 7, 3, 4, 5, 6, 2, 8, 9]
    names = tuple("abcdefghij")
    (warning,) = judged(prepared(Net(nn.Identity(), weight[exchanged]), x, y, classes=names)).warnings
    assert "['a', 'b', 'h', 'd', 'e', 'f', 'g', 'c', 'i', 'j']" in warning


def test_many_classes_are_named_by_those_that_move() -> None:
    """Of hundreds of classes the warning names those that move, and counts the rest."""
    k = 150
    y = torch.arange(6000) % k
    x = nn.functional.one_hot(y, k).float()
    weight = torch.eye(k).roll(1, 0)
    (warning,) = judged(prepared(Net(nn.Identity(), weight), x, y, classes=tuple(f"c{i}" for i in range(k)))).warnings
    assert "set model.classes so that output 0 is 'c149', output 1 is 'c0'" in warning
    assert "and 130 more" in warning


def test_chance_fits_no_order() -> None:
    """A model whose outputs have nothing to do with the labels fits no order of labels, and is reported as such."""
    for seed in range(10):
        x = normal(300, 5, seed=seed)
        y = torch.randint(3, (300,), generator=torch.Generator().manual_seed(seed + 100))
        (warning,) = judged(prepared(Net(nn.Identity(), WEIGHT), x, y)).warnings
        assert "not above the share" in warning
        assert "other readings of the rows were tried, and none is far better" in warning
        assert "model.weights is not given" in warning


def scaled_table(x: Tensor, kinds: tuple[str, ...], names: tuple[str, ...] | None = None) -> InputSchema:
    """Describe rows as a table; a category is its index, and named by a letter."""
    names = names or tuple(f"c{i}" for i in range(len(kinds)))
    columns = []
    for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        count = int(x[:, index].max()) + 1 if kind == "categorical" else 0
        categories = tuple("abcdefghij"[:count]) if count else None
        columns.append(Column(name=name, kind=cast("Any", kind), categories=categories))
    return InputSchema(kind="tabular", shape=(len(columns),), columns=tuple(columns))


@pytest.mark.parametrize(
    ("trained", "what"),
    [
        (lambda x: x / 255, "the inputs are divided by 255"),
        (lambda x: x * 255, "the inputs are multiplied by 255"),
        (lambda x: (x - x.mean(0)) / x.std(0), "the inputs are standardised with the training rows' mean"),
        (lambda x: (x - x.amin(0)) / (x.amax(0) - x.amin(0)), "the inputs are scaled to [0, 1]"),
    ],
)
def test_tables_on_another_scale(trained: Callable[[Tensor], Tensor], what: str) -> None:
    """A model that was trained on scaled columns and gets them as they are is found out, and the scale is named."""
    x = normal(COUNT, 5) * torch.tensor([1.0, 20.0, 0.1, 5.0, 100.0]) + torch.tensor([3.0, -50.0, 0.0, 9.0, 900.0])
    inside = trained(x)
    centre, spread = inside.mean(0), inside.std(0)

    def body(rows: Tensor) -> Tensor:
        return torch.tanh((rows - centre) / spread)

    y = Net(body, WEIGHT)(inside).argmax(1)
    made = prepared(Net(body, WEIGHT), x, y, schema=scaled_table(x, ("numeric",) * 5))
    (warning,) = judged(made).warnings
    assert f"the model does far better if {what}" in warning
    assert "`scale`" in warning or "put this into the model" in warning


def test_columns_in_alphabetical_order() -> None:
    """A model that was trained with its columns in alphabetical order is found out, and the list to declare given."""
    x = normal(COUNT, 5)
    names = ("delta", "alpha", "echo", "bravo", "charlie")
    y = (x[:, [1, 3, 4, 0, 2]] @ WEIGHT.T).argmax(1)
    made = prepared(Net(nn.Identity(), WEIGHT), x, y, schema=scaled_table(x, ("numeric",) * 5, names))
    (warning,) = judged(made).warnings
    assert "if the columns come in alphabetical order" in warning
    assert "list them under input.columns in that order: alpha, bravo, charlie, delta, echo" in warning


def test_a_number_that_is_a_category() -> None:
    """A column of codes that the model looks up by their index is found, and how to declare it."""
    codes, values = torch.tensor([3.0, 5.0, 8.0, 20.0]), normal(COUNT, 1)
    index = torch.randint(4, (COUNT,), generator=torch.Generator().manual_seed(2))
    table = torch.tensor([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0], [3.0, 0, 0]])

    def body(rows: Tensor) -> Tensor:
        return table[rows[:, 1].long().clamp(0, 3)] + 0.1 * rows[:, :1]

    y = body(torch.cat([values, index[:, None].float()], 1)).argmax(1)
    x = torch.cat([values, codes[index][:, None]], 1)
    made = prepared(Net(body, torch.eye(3)), x, y, schema=scaled_table(x, ("numeric", "numeric"), ("v", "code")))
    (warning,) = judged(made).warnings
    assert "if column 'code' is categorical, and each number an index" in warning
    assert "declare {name: code, kind: categorical} under input.columns" in warning


def test_categories_in_an_order_of_their_own() -> None:
    """Sizes that the model knows from small to large are found, and their categories given in that order."""
    meant = torch.tensor([2.0, 1.0, 0.0])  # a is large, b is medium, c is small
    code = torch.randint(3, (COUNT,), generator=torch.Generator().manual_seed(2))
    x = torch.stack([normal(COUNT), code.float()], 1)
    offset, slope = normal(3, 3, seed=1), 2 * normal(3, 3, seed=2)

    def body(rows: Tensor) -> Tensor:
        size = rows[:, 1].long()
        return offset[size] + slope[size] * rows[:, :1]

    y = body(torch.stack([x[:, 0], meant[code]], 1)).argmax(1)
    made = prepared(Net(body, torch.eye(3)), x, y, schema=scaled_table(x, ("numeric", "categorical"), ("v", "size")))
    (warning,) = judged(made).warnings
    assert "categories: ['c', 'b', 'a']" in warning
    assert "name: size" in warning


def bright(x: Tensor) -> Tensor:
    """Look at the brightness of three places, one in each channel."""
    return torch.stack([x[:, 0, :2].mean((1, 2)), x[:, 1, 2:4].mean((1, 2)), x[:, 2, 4:].mean((1, 2))], 1)


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (lambda x: x / 255, "the inputs are multiplied by 255"),
        (lambda x: 1 - x, "the inputs are inverted"),
        (lambda x: x.flip(1), "the colour channels are swapped"),
        (lambda x: x.transpose(-1, -2).contiguous(), "height and width are exchanged"),
        (lambda x: (x + 1) / 2, "the inputs are scaled from [0, 1] to [-1, 1]"),
        (lambda x: x.permute(0, 2, 3, 1).reshape(-1, 3, 6, 6), "the pixels are read channels last"),
    ],
)
def test_images_that_are_read_otherwise(sent: Callable[[Tensor], Tensor], what: str) -> None:
    """A model that knows images in another form is found out, and the form is named."""
    x = uniform(COUNT, 3, 6, 6)
    weight = torch.tensor([[1.0, 0.0, -2.0], [0.5, 1.0, 0.7], [-1.0, 1.5, 0.0]])
    centre, spread = bright(x).mean(0), bright(x).std(0)

    def body(rows: Tensor) -> Tensor:
        return (bright(rows) - centre) / spread

    y = Net(body, weight)(x).argmax(1)
    (warning,) = judged(prepared(Net(body, weight), sent(x), y)).warnings
    assert f"the model does far better if {what}" in warning


def test_a_change_that_crashes_the_model_is_passed_over() -> None:
    """A model that looks categories up and cannot take their order changed is judged as it is."""
    x = torch.stack([torch.full((COUNT,), 9.0), torch.arange(COUNT) % 3.0], 1)
    embedding = nn.Embedding(3, 3)

    def body(rows: Tensor) -> Tensor:
        return embedding(rows[:, 1].long())

    y = torch.randint(3, (COUNT,), generator=torch.Generator().manual_seed(1))
    made = prepared(Net(body, torch.eye(3)), x, y, schema=scaled_table(x, ("numeric", "categorical"), ("b", "a")))
    (warning,) = judged(made).warnings
    assert "not above the share" in warning


def test_on_a_gpu_no_index_is_changed() -> None:
    """If a wrong index would end the process, only changes are tried that leave every index at its place and value."""
    x = torch.stack([normal(50, 1)[:, 0], torch.arange(50) % 3.0, normal(50, 1, seed=1)[:, 0]], 1)
    schema = scaled_table(x, ("numeric", "categorical", "numeric"), ("z", "m", "a"))
    tried = list(input_changes(schema, x, x, may_crash=False))
    assert any("alphabetical" in change.what for change in tried)
    assert all((change.apply(x)[:, 1] == x[:, 1]).all() for change in tried)


def regression_case(label: Callable[[Tensor], Tensor]) -> Prepared:
    x = normal(COUNT, 5)
    value = (x @ WEIGHT[:1].T)[:, 0]
    y = label(value) + 0.05 * normal(COUNT, seed=4)
    return prepared(Net(nn.Identity(), WEIGHT[:1]), x, y, classes=())


@pytest.mark.parametrize(
    ("label", "formula"),
    [(lambda value: 24 * value + 152, "24 * output + 152"), (lambda value: value.exp(), "for exp(output)")],
)
def test_labels_on_another_scale(label: Callable[[Tensor], Tensor], formula: str) -> None:
    """A regression of a standardised label, or of its logarithm, is found with the formula that undoes the scaling."""
    (warning,) = judged(regression_case(label)).warnings
    assert "the values fit the label on another scale: R2 is" in warning
    assert formula in warning
    assert "undo the label's scaling inside the model" in warning


def test_a_sound_regression_passes_without_a_word() -> None:
    """A regression with some noise is measured, and there is no warning."""
    assert judged(regression_case(lambda value: value)) == Notices()


def test_a_regression_that_knows_nothing() -> None:
    """A regression that is no better than the mean gets a warning."""
    made = regression_case(lambda value: normal(len(value), seed=8))
    (warning,) = judged(made).warnings
    assert "not above 0, the R2 of the mean" in warning


def test_overfitting_is_noted() -> None:
    """A model that is far better on training rows gets a note with both figures; a worthless model gets a warning."""
    net, x, y = linear_case()
    half = torch.where(torch.arange(300) % 3 == 0, torch.randint(3, (300,)), y[::3])
    notices = judged(prepared(net, x, y, heldout=Rows(x[::3], half)))
    assert notices.warnings == []
    assert "the model overfits: its accuracy is 9" in notices.notes[0]
    (warning,) = judged(prepared(net, x, y, heldout=Rows(x[::3], (y[::3] + 1) % 3))).warnings
    assert "no better than always answering" in warning


def test_exchanged_files_are_noted() -> None:
    """A model that is far better on calibration rows is noted."""
    net, x, y = linear_case()
    wrong = torch.where(torch.arange(len(y)) % 2 == 0, torch.randint(3, (len(y),)), y)
    (note,) = judged(prepared(net, x, wrong, heldout=Rows(x, y))).notes
    assert "check whether reference.path and reference.calibration are exchanged" in note


def test_rows_without_labels() -> None:
    """Without any label the quality is unknown, which is a warning; if one file alone lacks labels, it is a note."""
    net, x, y = linear_case()
    (warning,) = judged(prepared(net, x, None)).warnings
    assert "no row has a label ('y'), so that the model's quality is unknown" in warning
    notices = judged(prepared(net, x, y, heldout=Rows(x[:300])))
    assert notices.warnings == []
    assert "the calibration rows have no labels" in notices.notes[0]
    (warning,) = judged(prepared(net, x, None, heldout=Rows(x, torch.zeros(COUNT, dtype=torch.int64)))).warnings
    assert "calibration rows" in warning


def test_labels_that_are_all_alike_in_a_regression() -> None:
    """Labels without any spread have no R2, and a warning says so."""
    net = Net(nn.Identity(), WEIGHT[:1])
    (warning,) = judged(prepared(net, normal(COUNT, 5), torch.ones(COUNT), classes=())).warnings
    assert "all rows have the same value" in warning


def test_rare_events_are_no_misreading() -> None:
    """A model of rare events that never names one but ranks them well is noted, and not warned of."""
    x = normal(4000, 2)
    chance = torch.sigmoid(1.5 * x[:, 0] - 5.5)
    y = (uniform(4000) < chance).long()
    weight = torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    net = Net(lambda rows: rows - torch.tensor([11.0, 0.0]), weight)
    notices = judged(prepared(net, x, y, classes=("fine", "fraud")))
    assert notices.warnings == []
    made = prepared(net, x, y, classes=("fine", "fraud"))
    logits = run_model(made.model, made.train.x).logits
    assert made.train.y is not None
    auroc = roc_auc_score(made.train.y, logits[:, 1] - logits[:, 0])
    assert f"it still tells the classes apart (AUROC {auroc:.3f})" in notices.notes[0]


def test_balanced_models_of_skewed_classes_are_no_misreading() -> None:
    """A model that weighs a rare class up is right less often than the majority is frequent, and yet sound."""
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(3000, generator=generator) < 0.05).long()
    logits = torch.randn((3000, 2), generator=generator)
    logits[:, 1] += 2 * (y * 2 - 1) + 1.5
    found = quality(Labelled(logits, y), ("no", "yes"))
    assert found is not None
    assert not found.beats_rival
    assert (recognises(Labelled(logits, y), ("no", "yes")) or "").startswith("balanced accuracy")
    assert recognises(Labelled(torch.randn((3000, 2), generator=generator), y), ("no", "yes")) is None


def test_sampled_rows_keep_their_labels() -> None:
    """A sample of rows is measured with the labels of those rows, up to a bound."""
    net, _, _ = linear_case()
    x = normal(10_500, 5)
    y = (x @ WEIGHT.T).argmax(1)
    made = prepared(net, x, y)
    found = sampled_outputs(made.model, Rows(x, y), seed=0)
    assert found.y is not None
    assert len(found.y) == 10_000
    assert (found.logits.argmax(1) == found.y).all()


def test_thousands_of_classes_are_measured_quickly() -> None:
    """A model of thousands of classes is measured without a matrix of all pairs of classes."""
    k = 3000
    y = torch.randint(k, (400,), generator=torch.Generator().manual_seed(0))
    logits = nn.functional.one_hot((y + 1) % k, k).float()
    assert better_order(Labelled(logits, y), tuple(map(str, range(k)))) is None


def test_all_of_few_rows_are_measured_in_their_order() -> None:
    """Rows that are all measured come in the file's order, so that `check` judges them as `fit` does."""
    made = prepared(*linear_case())
    found = sampled_outputs(made.model, made.train, seed=0)
    assert torch.allclose(found.logits, run_model(made.model, made.train.x).logits, atol=1e-5)
    assert found.y is not None
    assert made.train.y is not None
    assert found.y.tolist() == made.train.y.tolist()


def test_distances_are_small_for_the_right_class() -> None:
    """Outputs of which the least is the answer are found, and only these."""
    net, x, y = linear_case()
    (warning,) = judged(prepared(Net(nn.Identity(), -WEIGHT), x, y)).warnings
    assert "the least output marks the right class, as of distances" in warning
    assert "return -output in forward" in warning
    assert judged(prepared(net, x, y)) == Notices()


def test_an_output_that_is_compared_with_a_half() -> None:
    """One output that was trained on 0 and 1 by a squared error is found; a logit of rare events is not."""
    x = normal(COUNT, 2)
    y = (x[:, 0] > 0).long()
    half = Net(lambda rows: torch.cat([0.3 * rows[:, :1].clamp(-1, 1) + 0.5, 0 * rows[:, :1]], 1), torch.eye(2)[:1])
    (warning,) = judged(prepared(half, x, y, classes=("no", "yes"))).warnings
    assert "the output fits labels of 0 and 1 with 0.5 as the bound" in warning
    rare = (x[:, 0] > 1.5).long()
    logit = Net(lambda rows: 4 * rows - 4, torch.eye(2)[:1])
    assert judged(prepared(logit, x, rare, classes=("no", "yes"))).warnings == []
