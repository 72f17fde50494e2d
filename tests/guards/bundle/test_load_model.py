"""A config's model: a builder with its weights, or a program, wrapped for the rows of a schema."""

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from guards import Mistake, TorchModel
from guards.bundle.load_model import make_model
from guards.config.config import parse
from guards.explainers.explained_function import Subject
from guards.model.program import load_program, save_program
from guards.notices import Notices


def wrapped(program: ExportedProgram, kind: str = "tensor", notices: Notices | None = None) -> TorchModel:
    config = parse(tiny_models.document(kind, model={"program": "model.pt2", "device": "cpu"}))
    return make_model(
        config, tiny_models.schema(kind), outputs=3, folder=None, weights=None, program=program, notices=notices
    )


def exported(**bounds: int) -> ExportedProgram:
    dims = ({0: torch.export.Dim("batch", **bounds)},)
    return torch.export.export(tiny_models.tensor_net().eval(), (torch.zeros((4, 5)),), dynamic_shapes=dims)


def test_program_as_a_model(tmp_path: Path) -> None:
    """A program is wrapped like a builder's module: same logits, same features, a head."""
    save_program(tiny_models.program("tensor"), tmp_path / "model.pt2")
    program, built = wrapped(load_program(tmp_path / "model.pt2")), tiny_models.model("tensor")
    x = tiny_models.inputs("tensor", 9, 1)
    assert torch.allclose(program(x).logits, built(x).logits, atol=1e-6)
    assert torch.allclose(program(x).features, built(x).features, atol=1e-6)
    assert program.head is not None
    assert built.head is not None
    assert torch.equal(program.head.weight, built.head.weight)


@pytest.mark.parametrize("bounds", [{"max": 16}, {"min": 3, "max": 16}])
def test_a_program_for_few_rows_is_run_in_pieces(bounds: dict[str, int], tmp_path: Path) -> None:
    """A program that takes at most 16 rows, or no fewer than 3, answers batches of any size, with gradients, too."""
    notices, built = Notices(), tiny_models.model("tensor")
    save_program(exported(**bounds), tmp_path / "model.pt2")
    model = wrapped(load_program(tmp_path / "model.pt2"), notices=notices)
    for rows in (1, 2, 16, 17, 18, 64, 100):
        x = tiny_models.inputs("tensor", rows, rows)
        known, output = built(x), model.output(x)
        assert torch.allclose(model(x).logits, known.logits, atol=1e-6)
        assert torch.allclose(model(x).features, known.features, atol=1e-6)
        assert torch.allclose(model.logits(x), known.logits, atol=1e-6)
        assert torch.allclose(output.logits, known.logits, atol=1e-6)
        assert torch.allclose(output.features, known.features, atol=1e-6)
    assert notices.notes == [
        "model.program: the program takes at most 16 rows at once; larger batches are run in pieces of 16"
    ]


class Two(nn.Module):
    """Takes numbers and categories apart."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        return self.head(torch.cat([numbers, categories], dim=1))


def two() -> nn.Module:
    return Two()


def test_a_model_of_two_inputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module or a program that wants two tensors is refused with what it takes."""
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        Two(), (torch.zeros(2, 3), torch.zeros(2, 2)), dynamic_shapes=({0: batch}, {0: batch})
    )
    with pytest.raises(Mistake, match=r"the program takes 2 inputs \(numbers, categories\)"):
        wrapped(program)
    monkeypatch.setattr(tiny_models, "tensor_net", two)
    with pytest.raises(Mistake, match=r"forward\(numbers: .*, categories: .*\).* does not take one tensor"):
        tiny_models.model("tensor")


def test_a_program_for_even_batches_is_refused() -> None:
    """A program that takes only multiples of a number of rows is refused with how to export it."""

    class Pairs(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(-1, 2, 5).flip(1).reshape(-1, 5)[:, :3]

    half = torch.export.Dim("half")
    program = torch.export.export(Pairs(), (torch.zeros(4, 5),), dynamic_shapes=({0: 2 * half},))
    with pytest.raises(Mistake, match=r"the program takes only batches of 2\*.* rows: export it with"):
        wrapped(program)


def made(net: nn.Module, monkeypatch: pytest.MonkeyPatch, **more: Any) -> tuple[TorchModel, list[str]]:
    monkeypatch.setattr(tiny_models, "tensor_net", lambda: net)
    notices = Notices()
    config = parse(tiny_models.document("tensor"))
    schema = tiny_models.schema("tensor")
    arguments = {"outputs": 3, "folder": None, "weights": None, "program": None} | more
    return make_model(config, schema, notices=notices, **arguments), notices.notes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type_become_float32(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in half or double precision runs in float32, and a note says so."""
    net = tiny_models.tensor_net().to(dtype)
    model, notes = made(net, monkeypatch)
    assert model(torch.rand(2, 5)).logits.isfinite().all()
    assert f"model: its weights of type {str(dtype)[6:]} were turned into float32, the type of the rows" in notes


def test_a_module_that_computes_in_float64_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with weights in double precision that takes float32 rows itself is not changed, and there is no note."""

    class Doubles(tiny_models.Flat):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.double())

    net = Doubles(5, 3).double()
    model, notes = made(net, monkeypatch)
    assert next(net.parameters()).dtype == torch.float64
    assert model(torch.rand(2, 5)).logits.dtype == torch.float32
    assert not any("float32" in note for note in notes)


def test_weights_on_the_meta_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module without values is refused; with weights from a file it is filled."""
    state = tiny_models.tensor_net().state_dict()
    with pytest.raises(Mistake, match=r"'body.1.weight' is on the meta device and has no values"):
        made(tiny_models.tensor_net().to("meta"), monkeypatch)
    model, _ = made(tiny_models.Flat(5, 3).to("meta"), monkeypatch, weights=state)
    x = torch.rand(3, 5)
    built = tiny_models.Flat(5, 3)
    built.load_state_dict(state)
    assert torch.equal(model(x).logits, built(x))


def test_a_model_without_weights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no file of weights is named, a note says that the builder's are served; with one there is no note."""
    net = tiny_models.tensor_net()
    assert made(net, monkeypatch)[1] == [
        "model.weights is not given: the model answers with the weights that its builder gave it"
    ]
    assert made(net, monkeypatch, weights=net.state_dict())[1] == []


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("script", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(2, 5))])
def test_a_scripted_module(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scripted module answers; its layers cannot be tapped, so its features are its outputs, and a note says so."""
    net = tiny_models.tensor_net()
    model, notes = made(script(net), monkeypatch)
    x = torch.rand(4, 5)
    assert torch.allclose(model(x).logits, net(x))
    assert torch.equal(model(x).features, model(x).logits)
    assert "the features that guards look at are the model's own outputs" in notes[0]
    config = parse(tiny_models.document("tensor", model={"builder": "tiny_models:tensor_net", "features": "body"}))
    with pytest.raises(Mistake, match=r"'body' is a layer of a scripted module, which cannot be tapped"):
        make_model(config, tiny_models.schema("tensor"), outputs=3, folder=None, weights=None, program=None)


def test_a_program_for_few_rows_is_explained() -> None:
    """Explanations run such a program in pieces, too, and find the columns of its embeddings."""
    dims = ({0: torch.export.Dim("batch", max=2)},)
    net = tiny_models.tabular_net().eval()
    program = torch.export.export(net, (torch.zeros((2, 4)),), dynamic_shapes=dims)
    few = Subject(wrapped(program, "tabular"), tiny_models.schema(), embeddings=("embedding",))
    any_number = Subject(tiny_models.model("tabular"), tiny_models.schema(), embeddings=("embedding",))
    assert [owner.tolist() for owner in few.owners] == [owner.tolist() for owner in any_number.owners] == [[3, 3]]
    x, target = few.prepare(tiny_models.inputs("tabular", 20, 3)), torch.zeros(20, dtype=torch.int64)
    assert torch.allclose(few.evaluate(x, target), any_number.evaluate(x, target), atol=1e-6)
    parts = (x, few.split(x[:1], x[1:2])[0][1].repeat(20, 1))
    for one, other in zip(few.gradient(parts, target)[1], any_number.gradient(parts, target)[1], strict=True):
        assert torch.allclose(one, other, atol=1e-5)
