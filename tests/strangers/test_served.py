"""The newcomers' folders on a real server: every protocol answers what the model itself answers."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pandas as pd
import pytest
import torch
from fresh_client import FRESH
from gateways import Gateway
from newcomers import Newcomer, mlp, numbers, pictures, tensors, train_input, with_codes
from PIL import Image
from torch import nn
from torch.export import Dim, export

pytestmark = pytest.mark.slow
TABLE = numbers("length", "mass", "age")
SHADOW = {"mode": "shadow", "monitors": []}
"""No row is withheld, so that every label can be compared."""


@contextmanager
def served(newcomer: Newcomer) -> Iterator[Gateway]:
    """Fit and serve the folder."""
    told = newcomer.fit()
    assert told.status == 0, told.text
    config = newcomer.folder / "gateway.yaml"
    gateway = Gateway(newcomer.folder / "bundle", config, newcomer.folder / "logs", PYTHONPATH=str(newcomer.folder))
    try:
        yield gateway.wait_ready()
    finally:
        gateway.stop()


def labels(gateway: Gateway, instances: list[object]) -> list[str]:
    """Predict rows one at a time, and all at once, which must be the same; in pieces that a request may have."""
    together = [row["label"] for row in gateway.predict(instances)]
    alone = [gateway.predict([instance])[0]["label"] for instance in instances[:8]]
    assert alone == together[:8], "SILENT, MISREAD: one row alone is answered otherwise"
    return together


def outputs(answer: httpx.Response, name: str) -> list[object]:
    """Take one output out of a v2 answer."""
    found: list[object] = next(output["data"] for output in answer.json()["outputs"] if output["name"] == name)
    return found


def test_labels_minus_one_and_one_are_served(newcomer: Newcomer) -> None:
    """A binary model of labels -1 and 1 answers its own labels over HTTP."""
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=(-1, 1))
    newcomer.config(model={"weights": newcomer.weights(net)}, **SHADOW)
    rows = pd.read_csv(newcomer.folder / "test.csv").drop(columns="y").to_dict("records")
    with served(newcomer) as gateway:
        assert labels(gateway, rows) == newcomer.truths


def test_one_probability_is_served(newcomer: Newcomer) -> None:
    """A model that ends in a sigmoid answers its own labels, and a probability on the side of the label."""
    source = mlp(3, 1).replace("nn.Linear(8, 1))", "nn.Linear(8, 1), nn.Sigmoid())")
    net = newcomer.build(source, train_input(TABLE))
    newcomer.tables(lambda x: net(x) - 0.5, TABLE, classes=("no", "yes"))
    newcomer.config(model={"weights": newcomer.weights(net)}, **SHADOW)
    rows = pd.read_csv(newcomer.folder / "test.csv").drop(columns="y").to_dict("records")
    with served(newcomer) as gateway:
        assert labels(gateway, rows) == newcomer.truths
        answers = gateway.predict(rows)
    assert all(max(row["probabilities"], key=row["probabilities"].get) == row["label"] for row in answers)


def test_booleans_are_served(newcomer: Newcomer) -> None:
    """A bool column takes true and false of JSON, as an object and as a list, and BOOL of v2."""
    clean = with_codes(TABLE, member=2)
    source = (
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.member, self.head = nn.Embedding(2, 3), nn.Linear(6, 2)\n\n"
        "    def forward(self, x):\n"
        "        return self.head(torch.cat([x[:, :3], 3 * self.member(x[:, 3].long())], 1))\n\n\n"
        "def build():\n    return Net()\n"
    )
    net = newcomer.build(source, train_input(clean))
    newcomer.tables(net, clean, dress=lambda frame: frame.assign(member=frame["member"] == 1))
    newcomer.config(model={"weights": newcomer.weights(net)}, **SHADOW)
    rows = pd.read_csv(newcomer.folder / "test.csv").drop(columns="y").to_dict("records")
    assert {type(row["member"]) for row in rows} == {bool}
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    tensors_sent = [
        {"name": name, "shape": [len(rows)], "datatype": "BOOL" if name == "member" else "FP32", "data": values}
        for name, values in columns.items()
    ]
    with served(newcomer) as gateway:
        for instances in (rows, [list(row.values()) for row in rows]):
            answer = FRESH.post(f"{gateway.url}/v1/models/stranger:predict", json={"instances": instances})
            assert [row["label"] for row in answer.json()["predictions"]] == newcomer.truths
        answer = FRESH.post(f"{gateway.url}/v2/models/stranger/infer", json={"inputs": tensors_sent})
        assert answer.status_code == 200, answer.text
        assert outputs(answer, "label") == newcomer.truths
        assert labels(gateway, rows) == newcomer.truths  # by a client that checks what OpenAPI declares


def test_program_for_sixteen_rows_is_served_many(newcomer: Newcomer) -> None:
    """A program for at most 16 rows answers a request of 300 rows, if fit takes it."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("ant", "bee", "cat"))
    program = export(net, (torch.zeros(4, 3),), dynamic_shapes=({0: Dim("batch", min=1, max=16)},))
    torch.export.save(program, newcomer.folder / "m.pt2")
    newcomer.config(model={"program": "m.pt2"}, **SHADOW)
    rows = pd.read_csv(newcomer.folder / "test.csv").drop(columns="y").to_dict("records")
    with served(newcomer) as gateway:
        assert labels(gateway, rows) == newcomer.truths


@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_bytes_have_one_scale_by_every_door(newcomer: Newcomer, kind: str) -> None:
    """uint8 at fit, UINT8 over v2, numbers in [0, 1] over v1, and a PNG of an image: one model, the same labels."""
    clean = pictures(3, 6, 6)
    net = newcomer.build(mlp(108, 3).replace("Sequential(", "Sequential(nn.Flatten(), "), clean(500, 1))
    newcomer.arrays(
        net, clean, dress=lambda x: (x * 255).round().to(torch.uint8).numpy(), classes=("ant", "bee", "cat")
    )
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": kind, "shape": [3, 6, 6]}, **SHADOW)
    whole = np.load(newcomer.folder / "test.npz")["x"]
    with served(newcomer) as gateway:
        assert labels(gateway, (whole / np.float32(255)).tolist()) == newcomer.truths
        tensor = {"name": "x", "shape": [*whole.shape], "datatype": "UINT8", "data": whole.ravel().tolist()}
        answer = FRESH.post(f"{gateway.url}/v2/models/stranger/infer", json={"inputs": [tensor]})
        assert outputs(answer, "label") == newcomer.truths
        told = gateway.predict((whole / np.float32(255)).tolist(), parameters={"detail": True})
        flagged = [any(guard["flagged"] for guard in row["guards"].values()) for row in told]
        assert np.mean(flagged) < 0.2, "SILENT, MISREAD: the guards were fitted on another scale than the wire's"
        if kind == "image":
            encoded = []
            for image in whole[:40]:
                Image.fromarray(image.transpose(1, 2, 0)).save(stream := io.BytesIO(), "PNG")
                encoded.append({"b64": base64.b64encode(stream.getvalue()).decode()})
            assert labels(gateway, encoded) == newcomer.truths[:40]


def test_recurrent_net_is_served(newcomer: Newcomer) -> None:
    """An LSTM with batch_first answers a row the same alone and among others."""
    source = (
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.rnn = nn.LSTM(4, 8, batch_first=True)\n        self.head = nn.Linear(8, 3)\n\n"
        "    def forward(self, x):\n        return self.head(self.rnn(x)[0][:, -1])\n\n\n"
        "def build():\n    return Net()\n"
    )
    clean = tensors(5, 4)
    net = newcomer.build(source, clean(500, 1))
    newcomer.arrays(net, clean, classes=("ant", "bee", "cat"))
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [5, 4]}, **SHADOW)
    with served(newcomer) as gateway:
        assert labels(gateway, np.load(newcomer.folder / "test.npz")["x"].tolist()) == newcomer.truths


def test_leading_zeros_are_served_as_text(newcomer: Newcomer) -> None:
    """A column of 02139 and 10115 takes those strings over HTTP."""
    clean = with_codes(TABLE, zip=3)
    source = (
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.zip, self.head = nn.Embedding(3, 3), nn.Linear(6, 2)\n\n"
        "    def forward(self, x):\n"
        "        return self.head(torch.cat([x[:, :3], 3 * self.zip(x[:, 3].long())], 1))\n\n\n"
        "def build():\n    return Net()\n"
    )
    codes = ["02139", "10115", "75001"]
    net = newcomer.build(source, train_input(clean))
    newcomer.tables(net, clean, dress=lambda frame: frame.assign(zip=[codes[code] for code in frame["zip"]]))
    newcomer.config(model={"weights": newcomer.weights(net)}, **SHADOW)
    rows = pd.read_csv(newcomer.folder / "test.csv", dtype={"zip": str}).drop(columns="y").to_dict("records")
    with served(newcomer) as gateway:
        assert labels(gateway, rows) == newcomer.truths


def test_thousands_of_classes_are_bounded(newcomer: Newcomer) -> None:
    """Of 3,000 classes an answer names the first few by default, and as many as `parameters.top_k` asks for."""
    clean = tensors(12)
    classes = [f"class-{index:04}" for index in range(3000)]
    net = newcomer.build("from torch import nn\n\n\ndef build():\n    return nn.Linear(12, 3000)\n")
    assert isinstance(net, nn.Linear)
    for seed, (part, count) in enumerate({"train": 500, "heldout": 300, "test": 64}.items(), 1):
        x = clean(count, seed)
        with torch.no_grad():
            y = np.array([classes[code] for code in net(x).argmax(1)])
        newcomer.truths = y.tolist()
        np.savez(newcomer.folder / f"{part}.npz", x=x.numpy(), y=y)
    newcomer.suffix = ".npz"
    newcomer.config(
        model={"weights": newcomer.weights(net), "classes": classes}, input={"kind": "tensor", "shape": [12]}, **SHADOW
    )
    rows = np.load(newcomer.folder / "test.npz")["x"].tolist()
    with served(newcomer) as gateway:
        response = gateway.post({"instances": rows})
        assert response.status_code == 200, response.text
        assert len(response.content) < 2_000_000, f"{len(response.content)} bytes for 64 rows"
        assert [row["label"] for row in response.json()["predictions"]] == newcomer.truths
        five = gateway.predict(rows, parameters={"top_k": 5})
        assert {len(row["probabilities"]) for row in five} == {5}
        assert all(row["label"] in row["probabilities"] for row in five)
