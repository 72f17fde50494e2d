"""Models with rows to explain: the models of the three examples, and a small network for Fashion-MNIST."""

import gzip
import importlib.machinery
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.harness.servers import ROOT
from guards.bundle.bundle import Bundle
from guards.config.load import load_config
from guards.data.rows import load_rows
from guards.explainers.explained_function import Subject
from guards.input.schema import InputSchema
from guards.model.torch_model import TorchModel

__all__ = ["Case", "make_cases"]

DATA = Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data"))
EXAMPLES = ("digits", "diabetes", "adult")
FASHION_ROWS, FASHION_QUICK_ROWS, FASHION_EPOCHS = 12_000, 1_000, 3


class Case:
    """A trained subject, the same with random weights, and rows to explain."""

    def __init__(self, name: str, subject: Subject, random: Subject, x: Tensor) -> None:
        self.name, self.subject, self.random = name, subject, random
        self.x = subject.prepare(x)
        logits = subject.model.logits(self.x).detach()
        self.target = logits.argmax(1) if logits.shape[1] > 1 else torch.zeros(len(x), dtype=torch.int64)


def make_cases(rows: int, console: Console, *, quick: bool) -> list[Case]:
    """Train a model for each example and for Fashion-MNIST, with rows to explain; say which data is not here."""
    cases = []
    for name in EXAMPLES:
        if name == "adult" and not (DATA / "adult").is_dir():
            console.print(f"adult: no data at {DATA / 'adult'}; set GUARDHOUSE_DATA")
            continue
        cases.append(_example(name, rows))
    if (DATA / "fashion-mnist").is_dir():
        cases.append(_fashion(rows, FASHION_QUICK_ROWS if quick else FASHION_ROWS))
    else:
        console.print(f"fashion-mnist: no data at {DATA / 'fashion-mnist'}; set GUARDHOUSE_DATA")
    return cases


def _example(name: str, rows: int) -> Case:
    folder = ROOT / "examples" / name
    if not (folder / "build").is_dir():
        subprocess.run([sys.executable, folder / "train.py"], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "service", "fit", str(folder / "gateway.yaml"), "--out", f"{out}/bundle"]
        fitted = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
        if fitted.returncode:
            sys.exit(f"the example {name} could not be fitted:\n{fitted.stdout}{fitted.stderr}")
        config = load_config(folder / "gateway.yaml")
        module = _module(folder / "model.py", name)
        sys.modules["model"] = module  # what the config's builder names: each example has its own
        bundle = Bundle.load(Path(f"{out}/bundle"), config=config, folder=folder, device="cpu")
    test = folder / "build" / ("test.npz" if bundle.schema.kind == "image" else "test.csv")
    x = load_rows(test, config, bundle.schema, bundle.classes).x[:rows]
    subject = bundle.subject()
    return Case(name, subject, _randomised(subject, module.build, config.explain.embeddings), x)


def _randomised(subject: Subject, build: Callable[[], nn.Module], embeddings: tuple[str, ...]) -> Subject:
    """Give the subject with fresh parameters; what it learned of the columns' scale stays."""
    torch.manual_seed(1)
    net = build()
    for name, buffer in subject.model.net.named_buffers():
        owner, _, last = name.rpartition(".")
        if "running" not in last:
            setattr(net.get_submodule(owner), last, buffer.clone())
    example = subject.schema.example_rows(3)[:2]
    model = TorchModel(net, example=example, outputs=subject.model.outputs, imputation=subject.model.imputation)
    return Subject(model, subject.schema, embeddings=embeddings)


def _module(path: Path, name: str) -> Any:  # noqa: ANN401 - a module
    loader = importlib.machinery.SourceFileLoader(f"example_{name}", str(path))
    module = types.ModuleType(loader.name)
    loader.exec_module(module)
    return module


def fashion_net() -> nn.Module:
    """Make a small convolutional network for 28x28 images, rectifiers as modules."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def _fashion(rows: int, training_rows: int) -> Case:
    """Train for a few epochs on a part of Fashion-MNIST; explain test images."""
    x, y = _images("train", training_rows), _idx("train-labels-idx1-ubyte.gz", 8)[:training_rows]
    torch.manual_seed(0)
    net = fashion_net()
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(FASHION_EPOCHS):
        for batch in torch.split(torch.randperm(len(x)), 128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]  # torch's is untyped
            optimiser.step()
    test = _images("t10k", rows)
    schema = InputSchema(kind="image", shape=(1, 28, 28))
    subject = Subject(TorchModel(net, example=test[:2], outputs=10), schema)
    return Case("fashion-mnist", subject, _randomised(subject, fashion_net, ()), test)


def _images(part: str, rows: int) -> Tensor:
    return _idx(f"{part}-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28)[:rows].float() / 255


def _idx(name: str, head: int) -> Tensor:
    content = gzip.decompress((DATA / "fashion-mnist" / name).read_bytes())
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=head).astype(np.int64))
