"""Sound folders: they are read correctly, without any warning."""

import numpy as np
import pandas as pd
import pytest
import torch
from newcomers import SIZES, Frame, Newcomer, mlp, numbers, pictures, tensors, train_input, with_codes
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

TABLE = numbers("length", "mass", "age")
CNN = """
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d({channels}, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(8 * {pixels}, {outputs}),
    )
"""
RECURRENT = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.{kind}(4, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.head(out[:, -1])


def build():
    return Net()
"""
TRANSFORMER = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(4, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(self.up(x)).mean(1))


def build():
    return Net()
"""
EMBEDDING = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.colour = nn.Embedding(4, 3)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(torch.cat([x[:, :3], self.colour(x[:, 3].long())], 1)))


def build():
    return Net()
"""


def test_plain_table_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A table of numbers with a perceptron is read rightly and silently."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("ant", "bee", "cat"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_regression_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A regression that answers (n, 1) is read rightly and silently, with targets in the thousands."""
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    with torch.no_grad():
        net[2].bias += 2000
    newcomer.tables(net, TABLE, classes=None)
    newcomer.config(model={"weights": newcomer.weights(net), "task": "regression"})
    newcomer.expect(read=True)


def test_weak_model_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A model that is right in two of three rows, half of them of one class, is weak and not misread."""
    newcomer.flipped = 0.33
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("no", "yes"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_weak_regression_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A regression that explains a fifth of the variance is weak and not misread."""
    newcomer.noise = 2.0
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=None)
    newcomer.config(model={"weights": newcomer.weights(net), "task": "regression"})
    newcomer.expect(read=True)


def test_rare_class_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A model of fraud, of which one row in ten is, is a little above the majority, as it must be."""
    newcomer.flipped = 0.02
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    with torch.no_grad():
        net[2].bias -= 5
    newcomer.tables(net, TABLE, classes=("honest", "fraud"))
    newcomer.config(model={"weights": newcomer.weights(net), "classes": ["honest", "fraud"]})
    newcomer.expect(read=True)


def test_one_logit_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """One logit for two labels is read correctly and without a notice."""
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("no", "yes"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_embedding_with_missing_values_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A named category with an embedding, and empty fields that the median fills, are read rightly and silently."""
    clean = with_codes(TABLE, colour=4)
    colours = np.array(["blue", "green", "red", "white"])
    train = clean(SIZES["train"], 1)
    median = train["mass"][train["length"] < 1].median()

    def filled(count: int, seed: int) -> Frame:
        frame = clean(count, seed)
        return frame.assign(mass=frame["mass"].where(frame["length"] < 1, median))

    def dress(frame: Frame) -> Frame:
        return frame.assign(mass=frame["mass"].where(frame["length"] < 1), colour=colours[frame["colour"]])

    net = newcomer.build(EMBEDDING, train_input(clean))
    newcomer.tables(net, filled, dress=dress)
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_small_table_with_honest_duplicates_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """Rows of a few whole numbers repeat by chance, also between training and calibration: no leak is cried."""

    def clean(count: int, seed: int) -> Frame:
        rng = np.random.default_rng(seed)
        return pd.DataFrame({name: rng.integers(4, size=count) for name in ("rooms", "floors", "doors")})

    net = newcomer.build(mlp(3, 2), train_input(clean))
    newcomer.tables(net, clean)
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_sound_table_with_every_kind_of_column_is_read_without_a_warning(newcomer: Newcomer, suffix: str) -> None:
    """Small and large numbers, whole numbers, years, negative numbers and exponents are plain numbers."""

    def clean(count: int, seed: int) -> Frame:
        rng = np.random.default_rng(seed)
        return pd.DataFrame(
            {
                "year": rng.integers(1990, 2025, size=count),
                "tiny": rng.normal(size=count) * 1e-7,
                "huge": rng.integers(0, 10**7, size=count),
                "delta": rng.integers(-5, 6, size=count),
            }
        )

    net = newcomer.build(
        "import torch\nfrom torch import nn\n\n\n"
        "class Scale(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return (x - torch.tensor([2007.0, 0, 5e6, 0])) / torch.tensor([10.0, 1e-7, 3e6, 3])\n\n\n"
        "def build():\n    return nn.Sequential(Scale(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))\n",
        train_input(clean),
    )
    newcomer.tables(net, clean, suffix=suffix)
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_cnn_on_uint8_images_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A trained-like CNN with BatchNorm and Dropout modules is read rightly and silently on uint8 images."""
    clean = pictures(3, 8, 8)
    net = newcomer.build(CNN.format(channels=3, pixels=16, outputs=3), clean(500, 1))
    newcomer.arrays(net, clean, dress=lambda x: (x * 255).round().to(torch.uint8).numpy())
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "image", "shape": [3, 8, 8]})
    newcomer.expect(read=True)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_net_with_batch_first_is_read_without_a_warning(newcomer: Newcomer, kind: str) -> None:
    """A recurrent net over sequences (n, time, features) is read rightly and silently."""
    clean = tensors(5, 4)
    net = newcomer.build(RECURRENT.format(kind=kind), clean(500, 1))
    newcomer.arrays(net, clean)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [5, 4]})
    newcomer.expect(read=True)


def test_transformer_with_batch_first_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A transformer over sequences is read rightly and silently, whichever of torch's kernels runs."""
    clean = tensors(5, 4)
    net = newcomer.build(TRANSFORMER, clean(500, 1))
    newcomer.arrays(net, clean)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [5, 4]})
    newcomer.expect(read=True)


def test_bfloat16_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A declared precision of bfloat16 is no reason for a warning, though answers differ a little from float32's."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("ant", "bee", "cat"))
    newcomer.config(model={"weights": newcomer.weights(net), "precision": "bfloat16"})
    told = newcomer.fit()
    assert told.status == 0, told.text
    assert not told.lines("warning")
    assert newcomer.evaluate()[1]["accuracy"] == pytest.approx(newcomer.truth, abs=0.02)


@pytest.mark.parametrize(
    "load", [load_iris, load_wine, load_breast_cancer, load_digits], ids=lambda load: load.__name__
)
def test_datasets_of_scikit_learn_are_read_without_a_warning(newcomer: Newcomer, load: object) -> None:
    """A linear model that was trained on a well-known table is read rightly and silently."""
    assert callable(load)
    data = load(as_frame=True)
    frame = data.frame.drop(columns="target")
    mean, deviation = frame.mean().to_numpy(), frame.std().clip(lower=1e-3).to_numpy()
    x = torch.tensor(((frame - mean) / deviation).to_numpy(np.float32))
    y = torch.tensor(data.target.to_numpy(), dtype=torch.long)
    classes = len(y.unique())
    scaler = (
        "import torch\nfrom torch import nn\n\n\nclass Scale(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n"
        f"        self.register_buffer('mean', torch.zeros({x.shape[1]}))\n"
        f"        self.register_buffer('deviation', torch.ones({x.shape[1]}))\n\n"
        "    def forward(self, x):\n        return (x - self.mean) / self.deviation\n\n\n"
        f"def build():\n    return nn.Sequential(Scale(), nn.Linear({x.shape[1]}, {classes}))\n"
    )
    net = newcomer.build(scaler)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).numpy()
    parts = dict(zip(("train", "heldout", "test"), np.array_split(order, [len(x) // 2, len(x) * 3 // 4]), strict=True))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x[parts["train"]]), y[parts["train"]]).backward()
        optimiser.step()
    net[0].mean.copy_(torch.tensor(mean)), net[0].deviation.copy_(torch.tensor(deviation))
    for part, rows in parts.items():
        names = [str(data.target_names[code]) for code in data.target.to_numpy()[rows]]
        frame.iloc[rows].assign(y=names).to_csv(newcomer.folder / f"{part}.csv", index=False)
    with torch.no_grad():
        raw = torch.tensor(frame.to_numpy(np.float32))[parts["test"]]
        newcomer.truth = (net(raw).argmax(1) == y[parts["test"]]).double().mean().item()
    names = [str(name) for name in data.target_names]
    budget = 0.1 if len(x) < 400 else 0.05
    newcomer.config(model={"weights": newcomer.weights(net), "classes": names}, false_alarm_budget=budget)
    newcomer.expect(read=True)


def test_diabetes_is_read_without_a_warning(newcomer: Newcomer) -> None:
    """A least-squares model of a well-known table is read rightly and silently; one of its columns is +-0.05."""
    data = load_diabetes(as_frame=True)
    frame, y = data.frame.drop(columns="target"), data.target.to_numpy()
    net = newcomer.build(mlp(10, 1).replace("nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1)", "nn.Linear(10, 1)"))
    x = np.c_[frame.to_numpy(), np.ones(len(frame))]
    solution = torch.tensor(np.linalg.lstsq(x[:220], y[:220], rcond=None)[0], dtype=torch.float32)
    net[0].weight.data, net[0].bias.data = solution[None, :-1], solution[-1:]
    for part, rows in {"train": slice(0, 220), "heldout": slice(220, 330), "test": slice(330, None)}.items():
        frame[rows].assign(y=y[rows]).to_csv(newcomer.folder / f"{part}.csv", index=False)
    with torch.no_grad():
        values = net(torch.tensor(frame.to_numpy(np.float32)[330:])).numpy()[:, 0]
    newcomer.truth = 1 - ((y[330:] - values) ** 2).sum() / ((y[330:] - y[330:].mean()) ** 2).sum()
    newcomer.config(model={"weights": newcomer.weights(net), "task": "regression"})
    newcomer.expect(read=True)
