"""Exported programs: for a fixed number of rows, with two inputs, in training mode, or from another tool."""

import warnings
from typing import Any

import pytest
import torch
from newcomers import Newcomer, mlp, numbers, tensors, train_input
from torch import Tensor, nn
from torch.export import Dim, export

TABLE = numbers("length", "mass", "age")
CLASSES = ("ant", "bee", "cat")
ANY = ({0: Dim("batch")},)


class Two(nn.Module):
    """Takes numbers and a mask."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.net(x * mask)


class Dropping(nn.Module):
    """Drops out some of what the net gets."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.drop = net, nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.drop(x))


class Normed(nn.Module):
    """Normalises what the net gets."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.norm = net, nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.norm(x))


class Tokens(nn.Module):
    """Averages the embeddings of token ids, which must be int64."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x).mean(1))


def net_and_tables(newcomer: Newcomer) -> Any:
    """Make the perceptron, and write the tables that it labelled."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=CLASSES)
    return net


def save(newcomer: Newcomer, net: nn.Module, *inputs: Tensor, shapes: Any = ANY) -> None:
    """Export a net, and name the program in the config."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(export(net, inputs or (torch.zeros(4, 3),), dynamic_shapes=shapes), newcomer.folder / "m.pt2")
    newcomer.config(model={"program": "m.pt2"})


def test_program_for_any_number_of_rows_is_read(newcomer: Newcomer) -> None:
    """A program with a dynamic batch is read rightly and silently."""
    save(newcomer, net_and_tables(newcomer))
    newcomer.expect(read=True)


def test_program_for_at_most_sixteen_rows_is_cut_or_refused(newcomer: Newcomer) -> None:
    """A program with max=16 answers files of hundreds of rows, sixteen at a time, and says 16; or is refused so."""
    save(newcomer, net_and_tables(newcomer), shapes=({0: Dim("batch", min=1, max=16)},))
    newcomer.expect(read=True, said=r"\b16\b", refused=r"\b16\b")


def test_program_for_at_least_two_rows_is_refused(newcomer: Newcomer) -> None:
    """A program with min=2 cannot answer one row alone: fit reports it with what to export, or pads the row."""
    save(newcomer, net_and_tables(newcomer), shapes=({0: Dim("batch", min=2, max=64)},))
    newcomer.expect(read=True, refused=r"one row|at least|alone|\b1\b|\b2\b")


def test_program_for_one_batch_size_is_refused(newcomer: Newcomer) -> None:
    """A program exported without dynamic shapes is refused with what to export."""
    save(newcomer, net_and_tables(newcomer), shapes=None)
    newcomer.expect(refused=r"exactly 4 rows.*dynamic_shapes")


def test_program_with_two_inputs_is_refused(newcomer: Newcomer) -> None:
    """A program that takes a mask beside the rows is refused with the number of its inputs."""
    shapes = ({0: (batch := Dim("batch"))}, {0: batch})
    save(newcomer, Two(net_and_tables(newcomer)).eval(), torch.zeros(4, 3), torch.ones(4, 3), shapes=shapes)
    newcomer.expect(refused=r"(two|2) inputs|inputs.*(x|mask)|second input")


def test_program_of_a_net_with_dropout_on_is_refused(newcomer: Newcomer) -> None:
    """A program exported in training mode always drops out: the refusal names eval() before export as the way out."""
    save(newcomer, Dropping(net_and_tables(newcomer)).train())
    newcomer.expect(refused=r"dropout|random|training.mode|\beval\b")


def test_program_of_a_net_with_batch_norm_in_training_is_refused(newcomer: Newcomer) -> None:
    """A program exported with BatchNorm in training mode normalises by the batch: named."""
    save(newcomer, Normed(net_and_tables(newcomer)).train())
    newcomer.expect(refused=r"batch.?norm|training.mode|\beval\b")


def test_program_of_integers_is_refused(newcomer: Newcomer) -> None:
    """A program whose input is int64 token ids gets float32 rows: refused with both types, or the rows are cast."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Tokens().eval()

    def ids(count: int, seed: int) -> Tensor:
        return torch.randint(50, (count, 6), generator=torch.Generator().manual_seed(seed)).float()

    with torch.no_grad():
        scores = net(ids(500, 1).long())
        net.head.bias -= scores.mean(0)
    newcomer.arrays(lambda x: net(x.long()), ids, dress=lambda x: x.long().numpy())
    save(newcomer, net, torch.zeros((4, 6), dtype=torch.long))
    newcomer.config(model={"program": "m.pt2"}, input={"kind": "tensor", "shape": [6]})
    newcomer.expect(read=True, refused=r"int64|long|float32|integer")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its old way to export
def test_script_as_a_program_is_refused(newcomer: Newcomer) -> None:
    """A TorchScript archive is no program of torch.export, and the refusal says what to do."""
    net = net_and_tables(newcomer)
    torch.jit.save(torch.jit.trace(net, torch.zeros(2, 3)), newcomer.folder / "m.pt2")
    newcomer.config(model={"program": "m.pt2"})
    newcomer.expect(refused=r"torch\.export")


def test_program_of_another_shape_is_refused(newcomer: Newcomer) -> None:
    """A program of four columns beside a table of three is refused with both."""
    net_and_tables(newcomer)
    other = newcomer.build(mlp(4, 3))
    save(newcomer, other, torch.zeros(4, 4))
    newcomer.expect(refused=r"\b3\b.*\b4\b|\b4\b.*\b3\b")


def test_program_with_softmax_is_found(newcomer: Newcomer) -> None:
    """A program that ends in a softmax is found as a builder's module is."""
    net = net_and_tables(newcomer)
    save(newcomer, nn.Sequential(net, nn.Softmax(1)).eval())
    newcomer.expect(read=True, said="probabilit", warned="probabilit", refused="probabilit")


def test_program_of_a_recurrent_net_is_read(newcomer: Newcomer) -> None:
    """A program of a GRU with batch_first is read rightly and silently."""
    clean = tensors(5, 4)
    source = (
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.rnn = nn.GRU(4, 8, batch_first=True)\n        self.head = nn.Linear(8, 3)\n\n"
        "    def forward(self, x):\n        return self.head(self.rnn(x)[0][:, -1])\n\n\n"
        "def build():\n    return Net()\n"
    )
    net = newcomer.build(source, clean(500, 1))
    newcomer.arrays(net, clean)
    save(newcomer, net, torch.zeros(4, 5, 4))
    newcomer.config(model={"program": "m.pt2"}, input={"kind": "tensor", "shape": [5, 4]})
    newcomer.expect(read=True)
