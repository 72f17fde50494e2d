"""The model adapter: logits, features, imputation, precision, and what it refuses."""

import math
import re
import shutil
from dataclasses import dataclass
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor, nn

from guards import Mistake, TorchModel
from guards.input.imputation import Imputation
from guards.model.torch_model import resolve_device
from guards.notices import Notices


def wrap(net: nn.Module, *shape: int, outputs: int | None = None, **options: Any) -> TorchModel:
    return TorchModel(net, example=torch.rand(4, *shape), outputs=outputs, **options)


class Gives(nn.Module):
    """Gives whatever a function makes of the input; the linear layer is there for its features."""

    def __init__(self, give: Any) -> None:
        super().__init__()
        self.linear, self.give = nn.Linear(3, 2), give

    def forward(self, x: Tensor) -> Any:
        return self.give(self.linear(x))


def test_classifier() -> None:
    """Logits are the module's own, float32, and the default features what the last linear layer gets."""
    net = tiny_models.tensor_net()
    x = torch.randn(7, 5)
    output = wrap(net, 5)(x)
    assert torch.equal(output.logits, net(x))
    assert torch.equal(output.features, net.body(x))
    assert output.logits.dtype == output.features.dtype == torch.float32


def test_module_is_frozen_and_in_evaluation_mode() -> None:
    """The wrapped module neither trains nor collects gradients, and dropout is off."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    model = wrap(net, 3)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    x = torch.rand(5, 3)
    assert torch.equal(model(x).logits, model(x).logits)


def test_named_features() -> None:
    """The features are the output of the submodule that the config names."""
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    x = torch.randn(4, 3)
    assert torch.equal(wrap(net, 3, feature_layer="0")(x).features, net[0](x))
    assert torch.equal(wrap(net, 3, feature_layer="1")(x).features, net[1](net[0](x)))


def test_maps_are_averaged_over_positions() -> None:
    """A convolution's map is averaged over height and width, a sequence model's over its steps."""
    net = tiny_models.image_net()
    x = torch.rand(3, 1, 6, 6)
    features = wrap(net, 1, 6, 6, feature_layer="conv")(x).features
    assert torch.allclose(features, net.conv(x).mean((2, 3)))
    steps = nn.Sequential(nn.Linear(2, 4), nn.Flatten(), nn.Linear(12, 2))
    x = torch.rand(5, 3, 2)
    assert torch.allclose(wrap(steps, 3, 2, feature_layer="0")(x).features, steps[0](x).mean(1))


def test_last_linear_that_gets_a_sequence() -> None:
    """If the last linear layer sees a sequence, its input is averaged over the steps."""
    net = nn.Sequential(nn.Linear(2, 3), nn.AdaptiveAvgPool2d((1, None)), nn.Flatten())
    x = torch.rand(4, 5, 2)
    assert torch.allclose(wrap(net, 5, 2)(x).features, x.mean(1))


def test_tuple_features() -> None:
    """Of a submodule that gives several tensors, the first is the feature."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    net = Recurrent()
    assert wrap(net, 4, 2, feature_layer="rnn")(torch.rand(6, 4, 2)).features.shape == (6, 4)


def test_linear_layer_that_is_called_by_keyword() -> None:
    """The features are found if the last linear layer gets its input by keyword."""

    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(input=2 * x)

    x = torch.rand(2, 3)
    assert torch.equal(wrap(Keyword(), 3)(x).features, 2 * x)


def test_last_linear_is_the_last_to_run() -> None:
    """The default feature layer is the linear layer that runs last, in whatever order they were made."""

    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body = nn.Linear(4, 2), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

    net = Backwards()
    model = wrap(net, 3)
    assert model(torch.rand(2, 3)).features.shape == (2, 4)
    assert model.head is not None
    assert torch.equal(model.head.weight, net.head.weight)
    assert torch.equal(model.head.bias, net.head.bias)


def test_head_without_bias() -> None:
    """The head is a linear layer with the module's weights, even if it has no bias."""
    model = wrap(nn.Sequential(nn.Linear(3, 2, bias=False)), 3)
    assert model.head is not None
    x = torch.rand(2, 3)
    assert torch.equal(model.head(x), model(x).logits)


def test_head_with_computed_weights() -> None:
    """A last layer whose weights are computed has features, and is no head that could be copied."""
    net = nn.Sequential(nn.Linear(3, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)))
    model = wrap(net, 3)
    assert model.head is None
    assert model(torch.rand(2, 3)).features.shape == (2, 4)


def test_one_logit_is_binary() -> None:
    """A model with one logit z is a classifier of two, with logits [0, z]."""
    net = tiny_models.binary_net()
    x = torch.randn(6, 5)
    for outputs in (None, 2):
        model = wrap(net, 5, outputs=outputs)
        assert model.binary
        assert model.outputs == 2
        assert torch.equal(model(x).logits, torch.stack([torch.zeros(6), net(x)[:, 0]], dim=1))


def test_flat_binary_logit() -> None:
    """A single logit may come as (n,)."""
    model = wrap(Gives(lambda y: y[:, 0]), 3, outputs=2)
    assert model(torch.rand(5, 3)).logits.shape == (5, 2)


@pytest.mark.parametrize("builder", ["tiny_models:value_net", "tiny_models:squeezed_net"])
def test_regression(builder: str) -> None:
    """A value may come as (n, 1) or (n,), and is (n, 1) for the pipeline."""
    model = tiny_models.model("tabular", builder, task="regression")
    assert model.outputs == 1
    assert not model.binary
    x = tiny_models.inputs("tabular", 8, 0)
    assert model(x).logits.shape == (8, 1)
    assert torch.equal(
        model(x).logits, tiny_models.model("tabular", "tiny_models:value_net", task="regression")(x).logits
    )


def test_as_many_classes_as_the_model_gives() -> None:
    """If the classes are not declared, their number is the width of the logits."""
    assert wrap(nn.Linear(3, 7), 3).outputs == 7


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_precision(precision: Any, tolerance: float) -> None:
    """In half precision logits and features come back as float32, near the values of full precision."""
    x = torch.rand(5, 5)
    full, half = wrap(tiny_models.tensor_net(), 5)(x), wrap(tiny_models.tensor_net(), 5, precision=precision)(x)
    assert half.logits.dtype == half.features.dtype == torch.float32
    assert torch.allclose(full.logits, half.logits, atol=tolerance, rtol=tolerance)
    assert not torch.equal(full.logits, half.logits)


def test_category_indices_survive_half_precision() -> None:
    """The input is not rounded: a category's index beyond 256 still finds its embedding."""

    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(1000, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embedding(x[:, 0].long()))

    net, x = Lookup(), torch.tensor([[515.0], [516.0], [999.0]])
    assert torch.allclose(wrap(net, 1)(x).logits, wrap(net, 1, precision="bfloat16")(x).logits, atol=0.05)


def test_missing_and_unseen_values_are_imputed() -> None:
    """NaN and, in a categorical column, -1 are replaced; a numeric -1 stays."""
    imputation = Imputation(
        fill=torch.tensor([5.0, 2.0]), categorical=torch.tensor([False, True]), keep=torch.tensor([False, False])
    )
    x = torch.tensor([[1.0, 0.0], [math.nan, 1.0], [-1.0, -1.0], [0.0, math.nan]])
    assert imputation(x).tolist() == [[1, 0], [5, 1], [-1, 2], [0, 2]]


def test_columns_that_are_kept_are_not_imputed() -> None:
    """A kept column passes NaN, or -1 for a category that is missing or unseen."""
    imputation = Imputation(
        fill=torch.tensor([5.0, 2.0]), categorical=torch.tensor([False, True]), keep=torch.tensor([True, True])
    )
    x = imputation(torch.tensor([[math.nan, -1.0], [2.0, math.nan]]))
    assert x[0].isnan().tolist() == [True, False]
    assert x[:, 1].tolist() == [-1, -1]


def test_model_gets_imputed_rows() -> None:
    """A table's missing values reach the model as the schema's fill, and guards see them as they are."""
    model = tiny_models.model("tabular")
    x = torch.tensor([[0.1, 0.2, 0.3, 2.0]]).repeat(2, 1)
    x[1] = torch.tensor([0.5, math.nan, 0.3, -1.0])
    filled = torch.tensor([[0.1, 0.2, 0.3, 2.0], [0.5, -0.5, 0.3, 1.0]])
    assert torch.equal(model(x).logits, model(filled).logits)
    assert torch.equal(model.prepare(x), filled)
    assert x[1, 1].isnan()


def test_logits_with_gradients() -> None:
    """Explainers get gradients with regard to prepared rows, and leave the tapped features alone."""
    model = wrap(tiny_models.tensor_net(), 5)
    x = torch.rand(3, 5, requires_grad=True)
    model.logits(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert torch.equal(model.logits(x), model(x.detach()).logits)


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (
            nn.Linear(4, 2),
            "model: it does not take a batch of shape (4, 3): the model takes 4 columns, and the rows have 3",
        ),
        (Gives(lambda y: [y, y]), "model: it returned a list of shape (4, 2), shape (4, 2); it must return one tensor"),
        (Gives(lambda y: {"a": y, "b": y}), "model: it returned a dict of 'a': shape (4, 2), 'b': shape (4, 2)"),
        (Gives(lambda _y: None), "model: it returned a NoneType; it must return one tensor"),
        (Gives(lambda y: y.argmax(1)), "model: it returned values of type int64: return the logits themselves"),
        (Gives(lambda y: y[:, None, :].repeat(1, 3, 1)), "model: it returned shape (4, 3, 2), a table of outputs"),
        (Gives(lambda y: y.sum()), "model: it returned shape () for 4 rows; the first size is rows"),
        (Gives(lambda y: y[:2]), "model: it returned shape (2, 2) for 4 rows; the first size is rows"),
        (Gives(lambda y: y), "model: it returned shape (4, 2), but model.task and classes need (4, 5)"),
    ],
)
def test_unfit_module_is_refused(net: nn.Module, sentence: str) -> None:
    """A module that does not take the rows, or gives something else, is refused in a sentence."""
    with pytest.raises(Mistake) as refused:
        wrap(net, 3, outputs=5)
    assert str(refused.value).startswith(sentence)


def test_a_model_without_a_linear_layer_has_its_outputs_as_features() -> None:
    """The features of a fully convolutional network are its outputs, and a note says so."""
    notices = Notices()
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = TorchModel(net, example=torch.rand(4, 1, 6, 6), outputs=5, notices=notices)
    found = model(torch.rand(7, 1, 6, 6))
    assert torch.equal(found.features, found.logits)
    assert found.features.shape == (7, 5)
    assert "the model has no linear layer" in notices.notes[0]


class Tapped(nn.Module):
    """A layer that is tapped, and what happens to its output afterwards."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.body, self.after, self.head = nn.Linear(3, 4), after, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.after(self.body(x)))


class AddsInPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.add_(7)


@pytest.mark.parametrize("after", [nn.ReLU(inplace=True), nn.Hardtanh(inplace=True), AddsInPlace()])
def test_features_are_what_the_layer_gave(after: nn.Module) -> None:
    """A later layer that works in place changes no feature, in any pass."""
    net = Tapped(after)
    model, x = wrap(net, 3, feature_layer="body"), torch.randn(5, 3)
    known = net.body(x)
    assert torch.equal(model(x).features, known)
    assert torch.equal(model.output(x).features, known)


def test_features_of_the_input_itself() -> None:
    """If the first layer is the last linear layer, features are the rows, whatever later layers do to them in place."""

    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            out = self.head(x)
            return out + x.mul_(0).sum(1, keepdim=True)

    x = torch.randn(5, 3)
    kept, notices = x.clone(), Notices()
    model = wrap(Changed(), 3, notices=notices)
    assert torch.equal(model(x).features, kept)
    assert torch.equal(x, kept)
    assert "model: its forward changes the rows that it is given; the model gets a copy of them" in notices.notes


def test_rows_that_a_model_changes() -> None:
    """A model that normalises its input in place answers the same rows twice alike, and guards see them as sent."""

    class Normalises(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(0.5).div_(0.25))

    model, x = wrap(Normalises(3, 2), 3), torch.rand(5, 3)
    kept = x.clone()
    first = model(x).logits
    assert torch.equal(x, kept)
    assert torch.equal(model(x).logits, first)
    assert torch.equal(model.logits(x), first)


def test_a_model_that_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """The model's prints go to standard error in every pass, because standard output may be a JSON document."""

    class Prints(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            print("shape", tuple(x.shape))  # noqa: T201 - what is tested
            return super().forward(x)

    notices = Notices()
    model = wrap(Prints(3, 2), 3, notices=notices)
    model(torch.rand(9, 3))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("shape (9, 3)\n")
    assert notices.notes == ["model: its forward prints; the text goes to standard error"]


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor


@pytest.mark.parametrize(
    "give", [lambda y: {"logits": y, "loss": None}, lambda y: Output(y, y + 1), lambda y: (y,), lambda y: [y]]
)
def test_logits_inside_what_is_returned(give: Any) -> None:
    """The tensor that is named `logits`, or the only tensor, is taken, with a note."""
    notices, x = Notices(), torch.rand(4, 3)
    net = Gives(give)
    assert torch.equal(wrap(net, 3, notices=notices)(x).logits, net.linear(x))
    assert re.fullmatch(r"model: its forward returns an? .*; the tensor of \(4, 2\) was taken", notices.notes[0])


@pytest.mark.parametrize("give", [lambda y: y[:, None], lambda y: y[:, :, None], lambda y: y[:, None, :, None]])
def test_axes_of_size_one(give: Any) -> None:
    """Outputs of shape (n, 1, k) or (n, k, 1) are outputs (n, k)."""
    net, x = Gives(give), torch.rand(4, 3)
    assert torch.equal(wrap(net, 3, outputs=2)(x).logits, net.linear(x))


def _without_cuda(_outputs: Tensor) -> Tensor:
    raise AssertionError("Torch not compiled with CUDA enabled")  # torch's words on a machine without


class Views(nn.Module):
    """Runs on two views of each row, and averages their outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(self.head(torch.cat([x, x.flip(1)])).chunk(2)).mean(0)


def test_a_last_layer_that_does_not_run_on_the_rows_alone() -> None:
    """If the last linear layer gets more entries than rows, the model's outputs are its features, with a note."""
    notices, x, net = Notices(), torch.rand(6, 3), Views()
    model = wrap(net, 3, outputs=2, notices=notices)
    assert torch.equal(model(x).logits, net(x))
    assert torch.equal(model(x).features, net(x))
    assert model.head is None
    assert "the last linear layer 'head' gets 8 entries for 4 rows" in notices.notes[0]


class Unpacks(nn.Module):
    def forward(self, batch: Any) -> Tensor:
        x, _y = batch
        return x


@pytest.mark.parametrize(
    ("net", "shape", "reason"),
    [
        (nn.Linear(4, 2), (3,), "the model takes 4 columns, and the rows have 3: compare them with `input`"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (2, 3), "the model takes 12 values a row, and the rows have 6"),
        (nn.Conv2d(3, 2, 1), (1, 5, 5), "the model takes 3 channels, and the rows have 1: input.shape is"),
        (nn.LSTM(4, 2, batch_first=True), (5, 3), "the model takes 4 values in the last axis, and the rows have 3"),
        (nn.LayerNorm(4), (3,), "the model takes 4 columns, and the rows have 3"),
        (nn.BatchNorm1d(4), (3,), "the model takes 4 columns, and the rows have 3"),
        (nn.Embedding(3, 2), (3,), r"whole numbers are looked up, and the rows are float32: write x\[:, i\].long\(\)"),
        (Unpacks(), (3,), r"forward unpacks what it is given, .*: take x, not \(x, y\)"),
        (nn.Bilinear(3, 3, 2), (3,), r"forward\(input1: .*\).* does not take one tensor, and the gateway gives one"),
        (Gives(lambda y: y.view(7, -1)), (3,), "a size is fixed in a view or reshape: write x.shape"),
        (Gives(lambda y: y + torch.ones(7, 2)), (3,), "two tensors have different sizes: is a number of rows fixed"),
        (
            nn.Linear(3, 2).half(),
            (3,),
            r"the rows are float32, and a layer works in another type: call model.float\(\)",
        ),
        (nn.Conv2d(3, 2, 1).half(), (3, 4, 4), "the rows are float32, and a layer works in another type"),
        (Gives(_without_cuda), (3,), "forward moves tensors to a device of its own: write x.device"),
    ],
)
def test_torch_errors_are_translated(net: nn.Module, shape: tuple[int, ...], reason: str) -> None:
    """PyTorch's errors of shape and type are put in terms of rows, with PyTorch's own words and the place."""
    with pytest.raises(
        Mistake, match=rf"it does not take a batch of shape \(4, .*\): {reason}.* \(\w+Error: "
    ) as refused:
        wrap(net, *shape)
    assert "\n" not in str(refused.value)


def test_the_place_of_an_error() -> None:
    """An exception in the user's own code is reported with its file, line and function."""

    def broken(_rows: Tensor) -> Tensor:
        raise KeyError("no such key\nsecond line")

    with pytest.raises(Mistake, match=r"KeyError: 'no such key\\nsecond line', in .*test_torch_model.py:\d+ broken$"):
        wrap(Gives(broken), 3)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.spare, self.whole = nn.Linear(3, 2), nn.Linear(3, 2), nn.Identity()
        self.blocks, self.named = nn.ModuleList([nn.Identity()]), Gives(lambda y: {"a": y})

    def forward(self, x: Tensor) -> Tensor:
        self.named(x)
        return self.head(x) + self.whole(self.blocks[0](x).mean(0, keepdim=True)).sum()


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("hed", "model.features: no submodule 'hed'; there are ['head', 'spare', 'whole', 'blocks', 'named']"),
        (
            "blocks",
            "model.features: 'blocks' is a ModuleList, which holds layers and never runs: name one of ['blocks.0']",
        ),
        ("named", "model.features: the layer 'named' gave a dict, not a tensor: name a layer that gives a tensor"),
        ("spare", "model.features: the submodule 'spare' did not run in a forward pass: name a submodule that runs"),
        (
            "whole",
            "model.features: the output of 'whole' does not have one entry per row: it has 1 for 4 rows",
        ),
    ],
)
def test_unfit_feature_layer_is_refused(layer: str, sentence: str) -> None:
    """A feature layer that is not there, does not run, or is not per row is refused in a sentence."""
    with pytest.raises(Mistake) as refused:
        wrap(Unused(), 3, feature_layer=layer)
    assert str(refused.value) == sentence


def test_features_that_a_user_should_know_of() -> None:
    """A layer that runs twice gets a note, and a layer with very many features a warning."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.wide, self.head = nn.Linear(3, 3), nn.Linear(3, 100_001), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.wide(x)
            return self.head(self.body(self.body(x)))

    notices, net, x = Notices(), Twice(), torch.rand(4, 3)
    assert torch.equal(wrap(net, 3, feature_layer="body", notices=notices)(x).features, net.body(net.body(x)))
    assert notices.notes == [
        "model.features: 'body' runs 2 times in a forward pass; the features of the last run are taken"
    ]
    wrap(net, 3, feature_layer="wide", notices=notices)
    assert notices.warnings[0].startswith("model.features: 'wide' gives 100,001 features a row")


def test_device_is_resolved() -> None:
    """`auto` is the GPU if there is one; a device that is absent is refused."""
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(Mistake, match=r"model.device: cuda:99 is not there"):
        resolve_device("cuda:99")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_model_agrees() -> None:
    """Compiled, the model gives the same logits and features within rounding."""
    x = torch.rand(4, 5)
    plain, compiled = wrap(tiny_models.tensor_net(), 5), wrap(tiny_models.tensor_net(), 5, compiled=True)
    assert torch.allclose(plain(x).logits, compiled(x).logits, atol=1e-5)
    assert torch.allclose(plain(x).features, compiled(x).features, atol=1e-5)


def test_a_model_that_cannot_be_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If compilation fails, the model is refused with the first line of the reason and with what to do."""

    def never(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: never)
    with pytest.raises(Mistake) as refused:
        wrap(tiny_models.tensor_net(), 5, compiled=True)
    assert str(refused.value) == (
        "model.compile: the model cannot be compiled here (No working C++ compiler found): "
        "give the machine what is missing, or set it to false"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_every_shape_is_compiled_once() -> None:
    """A dozen batch shapes, more than dynamo's own limit, have a graph each, and the second time none is made."""
    from torch._dynamo.utils import counters

    model = wrap(tiny_models.tensor_net(), 5, compiled=True)
    counters.clear()
    for turn in range(2):
        for rows in range(1, 13):
            model(torch.rand(rows, 5))
        made = counters["stats"]["unique_graphs"]
        assert made == 11, f"turn {turn}"  # four rows are what it was tried on
