"""Answers that cannot be served: not finite, equal for all rows, or lost in half precision."""

from collections.abc import Callable
from typing import Any

import faulty_models
import pytest
import tiny_models
import torch
from torch import Tensor

from guards import InputSchema, Mistake, TorchModel
from guards.bundle.fit_rows import fit_rows
from guards.config.config import parse
from guards.examination import examine, refuse_not_finite
from guards.input.column import Column
from guards.notices import Notices

ROWS = torch.randn(200, faulty_models.INPUTS, generator=torch.Generator().manual_seed(2))


def examined(end: Callable[[Tensor], Any], *, outputs: int = 3, **options: Any) -> list[str]:
    notices = Notices()
    net = faulty_models.Ends(end, outputs)
    model = TorchModel(net, example=torch.rand(4, 6), outputs=outputs, notices=notices, **options)
    schema = InputSchema(kind="tensor", shape=(6,))
    examine(model, ROWS, schema=schema, classification=outputs > 1, declared="auto", largest=64, notices=notices)
    return notices.warnings


@pytest.mark.parametrize("end", [lambda y: y.log(), lambda y: y / (y > 0), lambda y: y * torch.tensor([1e39, 1, 1])])
def test_answers_that_are_not_finite(end: Callable[[Tensor], Any]) -> None:
    """NaN and infinity on reference rows are refused with the rows' numbers."""
    with pytest.raises(Mistake, match=r"its answers are not finite for \d+ of 31 reference rows \(row \d+"):
        examined(end)


def test_the_column_of_a_value_that_is_too_large() -> None:
    """Of a table the sentence names the column with the row's largest value, or those that the model gets NaN of."""
    columns = (Column(name="age", kind="numeric"), Column(name="income", kind="numeric"))
    schema = InputSchema(kind="tabular", shape=(2,), columns=columns)
    rows, given = torch.tensor([[1.0, 2.0], [3.0, 4e20]]), torch.tensor([[0.0], [torch.inf]])
    with pytest.raises(Mistake, match=r"1 of 2 calibration rows \(row 1, .*4e\+20 in column 'income'"):
        refuse_not_finite(given, rows, rows, schema, whose="calibration")
    kept = InputSchema(kind="tabular", shape=(1,), columns=(Column(name="age", kind="numeric", impute="none"),))
    with pytest.raises(Mistake, match=r"the model gets NaN in \['age'\] \(impute: none\)"):
        refuse_not_finite(torch.tensor([[torch.nan]]), torch.zeros(1, 1), torch.tensor([[torch.nan]]), kept)


@pytest.mark.parametrize("part", ["reference", "calibration"])
def test_every_row_is_looked_at_by_fit(part: str) -> None:
    """A single row whose features are not finite is found when guards are fitted, and the error has its number."""
    net = tiny_models.seeded(lambda: tiny_models.Flat(5, 3))
    with torch.no_grad():
        net.body[1].weight.fill_(1e3)
    model = TorchModel(net, example=torch.rand(4, 5), outputs=3, feature_layer="body.1")
    train, heldout = tiny_models.rows("tensor"), tiny_models.rows("tensor", 400, 50)
    (train if part == "reference" else heldout).x[17] = 1e38
    config = parse(tiny_models.document("tensor"))
    with pytest.raises(Mistake, match=rf"the features are not finite for 1 of \d+ {part} rows \(row \d+, counted"):
        fit_rows(
            config,
            schema=tiny_models.schema("tensor"),
            classes=tiny_models.CLASSES,
            model=model,
            train=train,
            heldout=heldout,
        )


def test_constant_answers() -> None:
    """The same answer for every row is warned of, and the same features; sound ones are not."""
    assert "it gives the same answer for all 31 reference rows" in examined(lambda y: 0 * y)[0]
    assert examined(lambda y: y) == []

    class Still(faulty_models.Net):
        def __init__(self) -> None:
            super().__init__()
            self.still = torch.nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            self.still(torch.ones(len(x), 3))
            return super().forward(x)

    notices, schema = Notices(), InputSchema(kind="tensor", shape=(6,))
    model = TorchModel(Still(), example=torch.rand(4, 6), outputs=3, feature_layer="still")
    examine(model, ROWS, schema=schema, classification=True, declared="auto", largest=8, notices=notices)
    assert "'still' gives the same features for all 31 reference rows" in notices.warnings[0]


@pytest.mark.parametrize("outputs", [3, 1])
def test_half_precision_that_overflows(outputs: int) -> None:
    """Answers that float16 cannot hold are refused with the precision that can."""
    with pytest.raises(
        Mistake, match=r"in float16 the answers are not finite for .* set model.precision to bfloat16 or float32"
    ):
        examined(lambda y: y * 1e6, outputs=outputs, precision="float16")
    assert examined(lambda y: y * 1e6, outputs=outputs, precision="float32") == []


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("outputs", [3, 1])
def test_half_precision_that_is_good_enough(precision: Any, outputs: int) -> None:
    """A model whose answers stay the same within rounding is taken without a word, and keeps its precision."""
    assert examined(lambda y: y, outputs=outputs, precision=precision) == []


def test_half_precision_that_changes_labels() -> None:
    """Labels that change for more than a few rows, and values that move far, are warned of."""
    assert "the label changes for" in examined(lambda y: y * 1e-3 + 300, precision="bfloat16")[0]
    assert "a value moves by up to" in examined(lambda y: y * 1e-3 + 300, outputs=1, precision="bfloat16")[0]
