"""Early features: which layers are chosen, how their outputs are pooled, and when they are read."""

import threading
from pathlib import Path

import pytest
import tiny_models
import torch
from torch import Tensor, nn

from guards import Mistake, TorchModel
from guards.model.early_features import WIDTH, first_layers
from guards.model.program import layers_of, load_program, save_program, unflatten
from guards.notices import Notices


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 1)),
        *(nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2)),
    )


def pooled(maps: Tensor) -> Tensor:
    return torch.cat([maps.mean((2, 3)), maps.square().mean((2, 3)).sqrt()], dim=1)


def early(model: TorchModel, x: Tensor) -> Tensor:
    found = model(x).early
    assert found is not None
    return found


def test_convolutions() -> None:
    """Of the first two convolutions, mean and root mean square of each channel are taken before an in-place layer."""
    net, x = convolutions(), torch.rand(5, 1, 6, 6)
    model = TorchModel(net, example=x, outputs=2, early=True)
    first = net[0](x)
    expected = torch.cat([pooled(first), pooled(net[2](first.relu()))], dim=1)
    assert torch.allclose(early(model, x), expected, atol=1e-6)


def test_linear_layers() -> None:
    """Without a convolution the output of the first linear layer is taken, averaged over the steps of a sequence."""
    net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)), torch.rand(5, 3)
    assert torch.equal(early(TorchModel(net, example=x, outputs=2, early=True), x), net[0](x))
    steps = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    x = torch.rand(5, 3, 2)
    mapped = steps[0](x)
    expected = torch.cat([mapped.mean(1), mapped.square().mean(1).sqrt()], dim=1)
    assert torch.allclose(early(TorchModel(steps, example=x, outputs=2, early=True), x), expected, atol=1e-6)


def test_layers_in_the_order_of_running() -> None:
    """Layers that run first are chosen, each once, and the last linear layer is never early."""
    assert first_layers([("a", False), ("c", True), ("c", True), ("b", True), ("d", True)]) == ("c", "b")
    assert first_layers([("a", False), ("b", False)]) == ("a",)
    assert first_layers([("a", False)]) == ()
    assert first_layers([]) == ()


def test_nobody_reads_them() -> None:
    """Early features are not computed unless they are asked for."""
    x = torch.rand(5, 1, 6, 6)
    assert TorchModel(convolutions(), example=x, outputs=2)(x).early is None


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_model_without_an_early_layer() -> None:
    """A model of one linear layer has no early features, nor has a scripted model, of which no layer can be named."""
    x = torch.rand(5, 3)
    for net in (nn.Linear(3, 2), torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))):
        notices = Notices()
        assert TorchModel(net, example=x, outputs=2, early=True, notices=notices)(x).early is None
        told = any("name a submodule" in note for note in notices.notes)
        assert told is not isinstance(net, torch.jit.ScriptModule)


def test_named_layers() -> None:
    """The config may name other layers, in any order."""
    net, x = convolutions(), torch.rand(5, 1, 6, 6)
    model = TorchModel(net, example=x, outputs=2, early=["6", "0"])
    assert early(model, x).shape == (5, 5 + 2 * 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [("none", "no submodule 'none'"), ("unused", "'unused' did not run"), ("odd", "'odd' does not have one entry")],
)
def test_named_layers_that_cannot_be_read(name: str, said: str) -> None:
    """A named layer that is not there, does not run, or mixes rows is refused."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd, self.unused, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.odd(x.mean(0, keepdim=True))
            return self.head(x)

    with pytest.raises(Mistake, match=said):
        TorchModel(Net(), example=torch.rand(4, 3), outputs=2, early=[name])
    notices = Notices()
    model = TorchModel(Net(), example=torch.rand(4, 3), outputs=2, early=True, notices=notices)
    assert model(torch.rand(4, 3)).early is None
    assert any("'odd' gives 1 entries for 4 rows" in note for note in notices.notes)


def test_wide_layers() -> None:
    """Of a wide layer evenly spaced channels are taken."""
    net, x = nn.Sequential(nn.Linear(3, 1000), nn.ReLU(), nn.Linear(1000, 2)), torch.rand(5, 3)
    found = early(TorchModel(net, example=x, outputs=2, early=True), x)
    assert found.shape[1] <= WIDTH
    assert torch.allclose(found, net[0](x)[:, ::4], atol=1e-6)


def test_a_layer_that_runs_twice() -> None:
    """Of a layer that runs twice the first run is taken."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(self.body(x)))

    net, x, notices = Twice(), torch.rand(5, 3), Notices()
    assert torch.equal(early(TorchModel(net, example=x, outputs=2, early=True, notices=notices), x), net.body(x))
    assert any("runs several times" in note for note in notices.notes)


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")
def test_program(tmp_path: Path) -> None:
    """The layers of an exported program are found too, and give what the module's give."""
    net, x = convolutions().eval(), torch.rand(5, 1, 6, 6)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    path = tmp_path / "m.pt2"
    save_program(program, path)
    loaded = load_program(path)
    layers = first_layers(layers_of(loaded))
    assert layers == ("0", "2")
    module, last = unflatten(loaded)
    assert last == "8"
    found = early(TorchModel(module, example=x, outputs=2, last_linear=last, early=layers), x)
    assert torch.allclose(found, early(TorchModel(net, example=x, outputs=2, early=True), x), atol=1e-6)
    assert first_layers(layers_of(loaded.run_decompositions())) == layers


def test_passes_with_gradients() -> None:
    """Gradients reach the early features, while a pipeline in another thread reads its own."""
    net, x = convolutions(), torch.rand(2, 1, 6, 6)
    model = TorchModel(net, example=x, outputs=2, early=True)
    row = x.clone().requires_grad_()
    found = model.output(row)
    assert found.early is not None
    thread = threading.Thread(target=lambda: model(torch.rand(7, 1, 6, 6)))
    thread.start()
    thread.join()
    found.early.sum().backward()
    assert row.grad is not None
    assert row.grad.abs().sum() > 0
    assert torch.allclose(found.early, early(model, x), atol=1e-6)


def test_rows_in_pieces() -> None:
    """A model that takes few rows at once gives the early features of all rows."""
    net, x = convolutions(), torch.rand(7, 1, 6, 6)
    pieces = TorchModel(net, example=x, outputs=2, early=True, most_rows=3)
    assert torch.allclose(early(pieces, x), early(TorchModel(net, example=x, outputs=2, early=True), x), atol=1e-6)


def test_what_is_sliced_and_joined() -> None:
    """Slices and joins of outputs keep the early features."""
    model = TorchModel(tiny_models.image_net(), example=torch.rand(4, 1, 6, 6), outputs=None, early=True)
    output = model(torch.rand(6, 1, 6, 6))
    assert output.early is not None
    joined = type(output).join([output[:2], output[2:]])
    assert joined.early is not None
    assert torch.equal(joined.early, output.early)
