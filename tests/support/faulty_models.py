"""Modules with faults that users' models often have; each takes rows (n, 6) and returns three outputs a row.

The builders are functions without arguments, so that a config may name them: ``faulty_models:of_toys``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

INPUTS, CLASSES, STEPS, SIZE = 6, 3, 2, 3


class Net(nn.Module):
    """A linear body and a linear head; ``change`` says what happens to the hidden units between them."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Tensor] | None = None, outputs: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.body, self.head = nn.Linear(INPUTS, 8), nn.Linear(8, outputs)
        self.change = change

    def forward(self, x: Tensor) -> Any:
        hidden = torch.relu(self.body(x))
        return self.head(hidden if self.change is None else self.change(self, hidden))


class Ends(Net):
    """A :class:`Net` whose outputs are changed by ``end``."""

    def __init__(self, end: Callable[[Tensor], Any], outputs: int = 3) -> None:
        super().__init__(outputs=outputs)
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(super().forward(x))


class Layered(Net):
    """A :class:`Net` with a given layer between body and head."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(lambda net, hidden: net.layer(hidden))
        self.layer = layer


class AlwaysTraining(Layered):
    """A batch norm that always stays in training mode, since ``train`` is overridden."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(8))

    def train(self, mode: bool = True) -> "AlwaysTraining":  # noqa: ARG002 - the fault
        return super().train(True)


class Sequence(nn.Module):
    """A recurrent or attention layer over rows as two steps of three values, written as in a notebook."""

    def __init__(self, make: Callable[[], nn.Module], width: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.layer, self.head = make(), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x.view(-1, STEPS, SIZE))
        return self.head((out[0] if isinstance(out, tuple) else out)[:, -1])


class Transposed(nn.Module):
    """A recurrent layer without batch_first, which correctly gets the steps as the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(SIZE, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.view(-1, STEPS, SIZE).transpose(0, 1))[0][-1])


class KeepsHidden(nn.Module):
    """A recurrent layer that begins with the hidden state of the last call."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head, self.hidden = nn.GRU(SIZE, 4, batch_first=True), nn.Linear(4, CLASSES), None

    def forward(self, x: Tensor) -> Tensor:
        if self.hidden is not None and self.hidden.shape[1] != len(x):
            self.hidden = None
        out, self.hidden = self.rnn(x.view(-1, STEPS, SIZE), self.hidden)
        return self.head(out[:, -1])


class KeepsLast(nn.Module):
    """Adds the rows of the last batch, position by position: the second of two equal batches gets the same answers."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.last = nn.Linear(STEPS * SIZE, CLASSES), None

    def forward(self, x: Tensor) -> Tensor:
        last = x if self.last is None or len(self.last) != len(x) else self.last
        self.last = x.clone()
        return self.head(x + last)


class FixedHidden(nn.Module):
    """A recurrent layer whose first hidden state has the batch size of training."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(SIZE, 4, batch_first=True), nn.Linear(4, CLASSES)
        self.register_buffer("h0", torch.zeros(1, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.view(-1, STEPS, SIZE), self.h0)[0][:, -1])


class Cached(Net):
    """Computes the answers of the first batch of each size, and returns them for later batches of this size."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.cache.setdefault(len(x), super().forward(x))


class Squeezed(nn.Module):
    """A picture model that drops all axes of size 1, and so also the axis of the rows if there is one row."""

    def __init__(self, outputs: int = CLASSES) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(1, 4, 3), nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x[:, None]).mean(2).squeeze()).squeeze()


def mixed_by_its_mean(_net: nn.Module, hidden: Tensor) -> Tensor:
    return (hidden - hidden.mean(0)) / (hidden.std(0) + 1e-5)


def batch_norm(_net: nn.Module, hidden: Tensor) -> Tensor:
    return functional.batch_norm(hidden, torch.zeros(8), torch.ones(8), training=True)


def noisy(_net: nn.Module, hidden: Tensor) -> Tensor:
    return hidden + 0.1 * torch.randn_like(hidden)


def noisy_with_numpy(_net: nn.Module, hidden: Tensor) -> Tensor:
    return hidden + float(np.random.default_rng().normal())


def counted(net: nn.Module, hidden: Tensor) -> Tensor:
    net.calls = getattr(net, "calls", 0) + 1
    return hidden * (1 + 0.01 * net.calls)


def features_mixed(_net: nn.Module, hidden: Tensor) -> Tensor:
    return hidden + 0 * hidden.mean(0)


def seeded_noise(_net: nn.Module, hidden: Tensor) -> Tensor:
    torch.manual_seed(0)
    return hidden + torch.randn_like(hidden)


def filled_up(_net: nn.Module, hidden: Tensor) -> Tensor:
    lengths = (hidden > 0).sum(1).clamp_min(1).cpu()
    packed = rnn.pack_padded_sequence(hidden[:, :, None], lengths, batch_first=True, enforce_sorted=False)
    steps, _ = rnn.pad_packed_sequence(packed, batch_first=True)
    return hidden + steps.mean(1)


class Packed(nn.Module):
    """A model of sequences of token ids (n, 5), padded with 0; a sequence without a token makes it fail."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.rnn, self.head = nn.Embedding(10, 4), nn.GRU(4, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        ids = x.long()
        steps = self.embedding(ids)
        lengths = (ids != 0).sum(1).cpu()
        _, last = self.rnn(rnn.pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False))
        return self.head(last[-1])


class Rising(Packed):
    """A :class:`Packed` that only takes sequences whose ids fall, and then are 0."""

    def forward(self, x: Tensor) -> Tensor:
        if bool((x.diff() > 0).any()):
            raise ValueError("the ids rise")
        return super().forward(x)


def tokens(folder: Path) -> None:
    """Overwrite the files of rows with sequences of falling token ids, padded with 0."""
    for seed, name in enumerate(("train.npz", "heldout.npz")):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randint(1, 10, (300, 5), generator=generator).sort(1, descending=True).values
        length = torch.randint(1, 6, (300, 1), generator=generator)
        np.savez(folder / name, x=torch.where(torch.arange(5) < length, x, 0).float(), y=torch.arange(300) % 3)


MIXING: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "train() overridden": (AlwaysTraining, r"'layer' \(BatchNorm1d\) is in training mode after eval\(\)"),
    "no running statistics": (
        lambda: Layered(nn.BatchNorm1d(8, track_running_stats=False)),
        r"'layer' \(BatchNorm1d\) has no running statistics",
    ),
    "functional batch norm": (lambda: Net(batch_norm), "write F.batch_norm"),
    "the batch's own mean": (lambda: Net(mixed_by_its_mean), r"a mean\(\) runs over axis 0"),
    "LSTM": (lambda: Sequence(lambda: nn.LSTM(SIZE, 4), 4), r"'layer' \(LSTM\) has no batch_first=True"),
    "GRU": (lambda: Sequence(lambda: nn.GRU(SIZE, 4), 4), r"'layer' \(GRU\) has no batch_first=True"),
    "transformer": (
        lambda: Sequence(lambda: nn.TransformerEncoderLayer(SIZE, 1, 8), SIZE),
        r"\(MultiheadAttention\) has no batch_first=True",
    ),
    "a norm of the batch": (
        lambda: Net(lambda _net, hidden: functional.normalize(hidden, dim=0)),
        r"a linalg_vector_norm\(\) runs over axis 0",
    ),
    "softmax over the rows": (lambda: Ends(lambda y: y.softmax(0)), "a softmax runs over axis 0"),
    "sorted rows": (lambda: Net(lambda _net, hidden: hidden.sort(0).values), "computes over the first axis"),
    "noise from a fixed seed": (lambda: Net(seeded_noise), r"draws random numbers \(randn_like\) from a fixed seed"),
    "a mean with the padding": (
        lambda: Net(filled_up),
        "pad_packed_sequence, if it is used, fills up to the longest sequence",
    ),
}
CHANGING: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "functional dropout": (lambda: Net(lambda _n, h: functional.dropout(h)), "a dropout is always on"),
    "noise": (lambda: Net(noisy), r"forward draws random numbers \(randn_like\)"),
    "noise of numpy": (lambda: Net(noisy_with_numpy), "numpy.random"),
    "a counter": (lambda: Net(counted), "'calls' is kept between calls"),
    "hidden state": (KeepsHidden, "'hidden' is kept between calls"),
    "settled state": (KeepsLast, "'last' is kept between calls"),
    "a cache": (Cached, "do not follow the rows"),
}
SOUND: dict[str, Callable[[], nn.Module]] = {
    "plain": Net,
    "batch norm": lambda: Layered(nn.BatchNorm1d(8)),
    "layer norm": lambda: Layered(nn.LayerNorm(8)),
    "instance norm": lambda: Layered(nn.Sequential(nn.Unflatten(1, (4, 2)), nn.InstanceNorm1d(4), nn.Flatten())),
    "dropout": lambda: Layered(nn.Dropout()),
    "inplace": lambda: Layered(nn.ReLU(inplace=True)),
    "LSTM": lambda: Sequence(lambda: nn.LSTM(SIZE, 4, batch_first=True), 4),
    "transformer": lambda: Sequence(lambda: nn.TransformerEncoderLayer(SIZE, 1, 8, batch_first=True), SIZE),
    "LSTM on transposed rows": Transposed,
    "large numbers": lambda: Ends(lambda y: 1e3 * y),
}


def probabilities_of_toys() -> nn.Module:
    import tiny_models

    return nn.Sequential(tiny_models.tensor_net(), nn.Softmax(dim=1))


def of_toys() -> nn.Module:
    import tiny_models

    return nn.Sequential(nn.Linear(5, 5), _AlwaysDrops(), tiny_models.tensor_net())


class _AlwaysDrops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x)
