"""Tiny models and made-up rows of every kind, fitted in a fraction of a second.

The builders are functions without arguments, so that a config may name them: ``tiny_models:tabular_net``.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import ExportedProgram

from guards import Batch, InputSchema, Reference, Rows, TorchModel
from guards.bundle.fit_rows import Fitted, fit_rows
from guards.bundle.load_model import make_model
from guards.config.config import parse
from guards.input.column import Column

CLASSES = ("ant", "bee", "cat")
COLOURS = ("blue", "green", "red")
COLUMNS = ("length", "mass", "age", "colour")
KINDS = ("tabular", "image", "tensor")
SHAPES: dict[str, tuple[int, ...]] = {"tabular": (4,), "image": (1, 6, 6), "tensor": (5,)}

Document = dict[str, Any]
T = TypeVar("T")


class Table(nn.Module):
    """A model of three numbers and an embedded category; a number that is no index of a category makes it fail."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(COLOURS), 2)
        self.body = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        category = self.embedding(x[:, 3].long())
        return self.head(self.body(torch.cat([x[:, :3], category], dim=1)))


class Modules(nn.Module):
    """A :class:`Table` whose rectifiers are modules, as DeepLIFT requires."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(COLOURS), 2)
        self.body = nn.Sequential(nn.Linear(5, 16), nn.ReLU())
        self.head = nn.Linear(16, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        category = self.embedding(x[:, 3].long())
        return self.head(self.body(torch.cat([x[:, :3], category], dim=1)))


class Flat(nn.Module):
    """A linear body and a linear head on the flattened input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.Tanh())
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Convolutional(nn.Module):
    """A small picture model with a map of features (n, 4, 6, 6) named ``conv``."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4 * 36, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).flatten(1))


class Tolerant(nn.Module):
    """A model that takes any value: NaN, and -1 for a category."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.nan_to_num(0.0))


class Averaging(nn.Module):
    """A model that takes any number of columns."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(1, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(1, keepdim=True))


class Normalising(nn.Module):
    """A model that takes six columns, or a single column, which torch broadcasts over the mean of six."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.head = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x - self.mean)


class Squeezed(nn.Module):
    """A model that returns (n,) for a net that returns (n, 1)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0]


def seeded(make: Callable[[], T]) -> T:
    """Call a function with a fixed random state, and restore the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return make()


def sharp(net: nn.Module) -> nn.Module:
    """Spread the logits of a net with a linear ``head``, so that the net is sure of some rows."""
    with torch.no_grad():
        net.head.weight.mul_(6)
    return net


def tabular_net() -> nn.Module:
    return sharp(seeded(lambda: Table(len(CLASSES))))


def module_net() -> nn.Module:
    return seeded(Modules)


def image_net() -> nn.Module:
    return sharp(seeded(lambda: Convolutional(len(CLASSES))))


def tensor_net() -> nn.Module:
    return sharp(seeded(lambda: Flat(5, len(CLASSES))))


def binary_net() -> nn.Module:
    return sharp(seeded(lambda: Flat(5, 1)))


def value_net() -> nn.Module:
    return seeded(lambda: Table(1))


def squeezed_net() -> nn.Module:
    return Squeezed(value_net())


def tolerant_net() -> nn.Module:
    return sharp(seeded(lambda: Tolerant(len(CLASSES))))


def averaging_net() -> nn.Module:
    return seeded(lambda: Averaging(len(CLASSES)))


def normalising_net() -> nn.Module:
    return seeded(lambda: Normalising(len(CLASSES)))


def not_a_net() -> str:
    return "a string"


def schema(kind: str = "tabular") -> InputSchema:
    fills = (0.5, -0.5, 1.0)
    columns = tuple(Column(name=name, kind="numeric", fill=fill) for name, fill in zip(COLUMNS[:3], fills, strict=True))
    colour = Column(name="colour", kind="categorical", categories=COLOURS, fill=1.0)
    return InputSchema.model_validate(
        {"kind": kind, "shape": SHAPES[kind], "columns": (*columns, colour) if kind == "tabular" else ()}
    )


def document(kind: str, **changes: Any) -> Document:
    """Give a config with two or three guards and two monitors; ``changes`` replace whole sections."""
    columns = [{"name": name, "kind": "numeric"} for name in COLUMNS[:3]]
    colour = {"name": "colour", "kind": "categorical", "categories": list(COLOURS)}
    shape = {"columns": [*columns, colour]} if kind == "tabular" else {"shape": list(SHAPES[kind])}
    group = {"kind": "groups", "name": "region", "attribute": "region", "source": {"request": "region"}}
    return {
        "name": "toy",
        "model": {"builder": f"tiny_models:{kind}_net", "classes": list(CLASSES), "device": "cpu"},
        "input": {"kind": kind, **shape},
        "reference": {"path": "train.npz", "calibration": "heldout.npz"},
        "false_alarm_budget": 0.05,
        "guards": [
            {"name": "quality", "detector": {"kind": "ranges"}},
            {"name": "ood", "detector": {"kind": "mahalanobis"}, "action": "abstain", "share": 2.0},
            {"name": "unsure", "detector": {"kind": "confidence"}},
        ],
        "monitors": [{"kind": "bins", "name": "streams"}, {**group, "levels": ["north", "south"]}],
        **changes,
    }


def inputs(kind: str, count: int, seed: int) -> Tensor:
    """Make up the inputs of rows; in a table, 3 % of the values are missing."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((count, *SHAPES[kind]), generator=generator)
    if kind == "image":
        return torch.sigmoid(x)
    if kind == "tabular":
        x[:, 3] = torch.randint(len(COLOURS), (count,), generator=generator).float()
        x[torch.rand(x.shape, generator=generator) < 0.03] = torch.nan
    return x


def model(kind: str, builder: str | None = None, **changes: Any) -> TorchModel:
    """Make the model of a kind, or of another builder in this module; ``changes`` are keys of the section ``model``."""
    section = {**document(kind)["model"], "classes": None, "builder": builder or f"tiny_models:{kind}_net", **changes}
    outputs = 1 if section.get("task") == "regression" else None
    config = parse(document(kind, model=section))
    return make_model(config, schema(kind), outputs=outputs, folder=None, weights=None, program=None)


def rows(kind: str, count: int = 300, seed: int = 0, *, labeller: TorchModel | None = None) -> Rows:
    """Make up rows in the groups north and south, with labels drawn from the predictions of the model of that kind."""
    x = inputs(kind, count, seed)
    logits = (labeller or model(kind))(x).logits
    generator = torch.Generator().manual_seed(seed + 1)
    if logits.shape[1] > 1:
        y = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    else:
        y = logits[:, 0] + 0.3 * torch.randn(count, generator=generator)
    north = (torch.rand(count, generator=generator) < 0.5).tolist()
    return Rows(x, y.clone(), {"region": tuple("north" if each else "south" for each in north)})


def reference(kind: str, count: int = 300, seed: int = 0, *, labeller: TorchModel | None = None) -> Reference:
    """Make up the reference that detectors are fitted on."""
    wrapped = labeller or model(kind)
    made = rows(kind, count, seed, labeller=wrapped)
    return Reference(Batch(made.x, output=wrapped(made.x)), made.y, schema(kind), wrapped.head, 1.5)


def fitted(kind: str, *, train: Rows | None = None, heldout: Rows | None = None, **changes: Any) -> Fitted:
    """Fit the model of a kind in memory."""
    config = parse(document(kind, **changes))
    outputs = 1 if config.model.task == "regression" else len(config.model.classes or CLASSES)
    wrapped = make_model(config, schema(kind), outputs=outputs, folder=None, weights=None, program=None)
    return fit_rows(
        config,
        schema=schema(kind),
        classes=() if outputs == 1 else config.model.classes or CLASSES,
        model=wrapped,
        train=rows(kind, labeller=wrapped) if train is None else train,
        heldout=rows(kind, 400, 50, labeller=wrapped) if heldout is None else heldout,
    )


def program(kind: str, *, net: nn.Module | None = None, dynamic: bool = True) -> ExportedProgram:
    """Export the model of a kind, or another net; with ``dynamic``, for any number of rows."""
    made = net or cast("nn.Module", {"tabular": tabular_net, "image": image_net, "tensor": tensor_net}[kind]())
    example = torch.zeros((2, *SHAPES[kind]))
    dims = ({0: torch.export.Dim("batch")},) if dynamic else None
    return torch.export.export(made.eval(), (example,), dynamic_shapes=dims)


def write(folder: Path, kind: str, **changes: Any) -> Path:
    """Write a config with its weights and data files, as a user would, and give the config's path."""
    written = document(kind, **changes)
    write_rows(folder, kind, written)
    if "weights" in written["model"]:
        net = {"tabular": tabular_net, "image": image_net, "tensor": tensor_net}[kind]()
        save_file(net.state_dict(), folder / written["model"]["weights"])
    import yaml

    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    return path


def write_rows(folder: Path, kind: str, written: Document) -> None:
    files = {written["reference"]["path"]: 0, "test.npz": 90, "suspect.npz": 91}
    if written["reference"].get("calibration"):
        files[written["reference"]["calibration"]] = 50
    for name, seed in files.items():
        made = rows(kind, 400 if seed else 300, seed)
        suspect = 5.0 if seed == 91 and kind != "image" else 0.0
        assert made.y is not None
        if name.endswith(".npz"):
            x = (1 - made.x if kind == "image" and seed == 91 else made.x + suspect).numpy()
            np.savez(folder / name, x=x, y=made.y.numpy(), group_region=np.array(made.groups["region"]))
        else:
            write_csv(folder / name, made)


def write_csv(path: Path, made: Rows) -> None:
    """Write a table, missing values as empty fields."""
    assert made.y is not None
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*COLUMNS, "y", "group_region"])
        for values, y, region in zip(made.x.tolist(), made.y.tolist(), made.groups["region"], strict=True):
            numbers = ["" if value != value else repr(value) for value in values[:3]]  # noqa: PLR0124 - NaN
            colour = "" if values[3] != values[3] else COLOURS[int(values[3])]
            writer.writerow([*numbers, colour, CLASSES[y], region])
