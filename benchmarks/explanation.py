"""How good explanations are: completeness, deletion, insertion, infidelity, sensitivity, randomisation, and time.

Every method on the three examples and on a small network for Fashion-MNIST. Infidelity and maximum sensitivity are
Quantus' own figures (extra `bench`), for images alone, which is what it takes; the rest is measured here.
"""

import gzip
import importlib.machinery
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.machine import describe
from guards.bundle import Bundle
from guards.cli.configs import load_config
from guards.data.rows import load_rows
from guards.explainer import Explainer, NotExplainableError
from guards.model import TorchModel
from guards.registry import registered
from guards.schema import InputSchema
from guards.subject import Subject

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data"))
EXAMPLES = ("digits", "diabetes", "adult")
RANDOM_ORDERS = 10
FASHION_ROWS, FASHION_EPOCHS = 12_000, 3


class Case:
    """A trained subject, the same with random weights, and rows to explain."""

    def __init__(self, name: str, subject: Subject, random: Subject, x: Tensor) -> None:
        self.name, self.subject, self.random = name, subject, random
        self.x = subject.prepare(x)
        logits = subject.model.logits(self.x).detach()
        self.target = logits.argmax(1) if logits.shape[1] > 1 else torch.zeros(len(x), dtype=torch.int64)


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    torch.set_num_threads(1)
    rows, console = (8 if quick else 100), Console(stderr=True)
    cases = _cases(rows, console)
    methods = [name for name in registered("explainers") if name != "neighbours"]
    measured: dict[str, dict[str, Any]] = {}
    for case in cases:
        measured[case.name] = {}
        for method in methods:
            measured[case.name][method] = _measure(case, method, quick=quick)
            console.print(f"{case.name} {method}", highlight=False)
        _show(case.name, measured[case.name], console)
    print(
        json.dumps({"benchmark": "explanation", "machine": describe(), "rows": rows, "quick": quick, "cases": measured})
    )


def _measure(case: Case, method: str, *, quick: bool) -> dict[str, Any]:
    """Give one method's figures on one case: of the rows that it does not refuse."""
    explainer, unlike = _explainer(method, case.subject), _explainer(method, case.random)
    answered: list[int] = []
    values, delta, seconds, correlations = [], [], [], []
    for place, (row, target) in enumerate(zip(case.x.split(1), case.target.split(1), strict=True)):
        try:
            started = time.perf_counter()
            found = explainer.explain(row, target)
            seconds.append(time.perf_counter() - started)
        except NotExplainableError:
            continue
        answered.append(place)
        values.append(found.values)
        change = (found.output_value - found.baseline_value).abs().item()
        delta.append(found.convergence_delta.abs().item() / change if change else math.nan)
        with suppress(NotExplainableError):
            one, other = found.values.flatten().numpy(), unlike.explain(row, target).values.flatten().numpy()
            if one.std() > 0 and other.std() > 0:
                correlations.append(spearmanr(one, other).statistic)
    figures: dict[str, Any] = {"refused": 1 - len(answered) / len(case.x)}
    if not answered:
        return figures
    figures["milliseconds"] = 1e3 * float(np.median(seconds))
    if not math.isnan(delta[0]):
        figures["completeness_p50"] = float(np.nanmedian(delta))
        figures["completeness_p95"] = float(np.nanquantile(delta, 0.95))
    attributions = torch.cat(values)
    rest = Case(case.name, case.subject, case.random, case.x[answered])
    figures |= _curves(rest, attributions)
    if correlations:
        figures["randomised_rank_correlation"] = float(np.mean(correlations))
    if case.subject.schema.kind == "image":
        figures |= _quantus(rest, explainer, attributions, quick=quick)
    return figures


def _curves(case: Case, attributions: Tensor) -> dict[str, float]:
    """Give the areas under deletion and insertion, of the change of output, and how often they beat random orders.

    Elements go from the row to the baseline (deletion), or come from there (insertion), those first that most moved
    the output its way; all channels of a pixel are one element.
    """
    generator = torch.Generator().manual_seed(0)
    deletion, insertion, better_deletion, better_insertion = [], [], [], []
    for row, target, values in zip(case.x.split(1), case.target.split(1), attributions, strict=True):
        ends = case.subject.evaluate(torch.cat([row, case.subject.baselines]), target.expand(2))
        change = float(ends[0] - ends[1])
        if abs(change) < 1e-6:  # noqa: PLR2004 - nothing to delete
            continue
        scores = values.sum(0).flatten() if case.subject.schema.kind == "image" else values.flatten()
        order = (scores * math.copysign(1, change)).argsort(descending=True, stable=True)
        drawn = [torch.randperm(len(order), generator=generator) for _ in range(RANDOM_ORDERS)]
        ours, *others = (_areas(case, row, target, each) for each in [order, *drawn])
        deletion.append(ours[0])
        insertion.append(ours[1])
        better_deletion.append(ours[0] < np.mean([other[0] for other in others]))
        better_insertion.append(ours[1] > np.mean([other[1] for other in others]))
    return {
        "deletion": float(np.median(deletion)), "insertion": float(np.median(insertion)),
        "deletion_better_than_random": float(np.mean(better_deletion)),
        "insertion_better_than_random": float(np.mean(better_insertion)),
    }  # fmt: skip


def _areas(case: Case, row: Tensor, target: Tensor, order: Tensor) -> tuple[float, float]:
    baseline = case.subject.baselines
    steps = torch.linspace(0, len(order), min(len(order), 32) + 1).round().long()
    rank = order.argsort()
    gone = rank[None] < steps[:, None]
    shape = (1, *row.shape[2:]) if case.subject.schema.kind == "image" else row.shape[1:]
    gone = gone.view(-1, *shape)
    targets = target.expand(len(gone))
    deleted = case.subject.evaluate(torch.where(gone, baseline, row), targets)
    inserted = case.subject.evaluate(torch.where(gone, row, baseline), targets)
    change = deleted[0] - deleted[-1]
    low = deleted[-1]
    return tuple(float(torch.trapezoid((each - low) / change, dx=1 / (len(gone) - 1))) for each in (deleted, inserted))  # type: ignore[return-value]


def _quantus(case: Case, explainer: Explainer, attributions: Tensor, *, quick: bool) -> dict[str, float]:
    """Ask Quantus, where it is installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import quantus  # noqa: PLC0415 - an extra
    except ImportError:
        return {}
    few = min(len(case.x), 4 if quick else 16)
    x, y, a = case.x[:few].numpy(), case.target[:few].numpy(), attributions[:few].numpy()
    net = Logits(case.subject).eval()

    def explain(*, inputs: Any, targets: Any, **_: Any) -> Any:  # noqa: ANN401 - Quantus' own
        rows = torch.as_tensor(np.asarray(inputs), dtype=torch.float32).reshape(-1, *case.x.shape[1:])
        return explainer.explain(rows, torch.as_tensor(np.asarray(targets))).values.numpy()

    arguments = {"model": net, "x_batch": x, "y_batch": y, "a_batch": a, "device": "cpu"}
    patch = 2 if case.x.shape[-1] < 16 else 4  # noqa: PLR2004
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.random.seed(0)  # noqa: NPY002 - Quantus draws from it
        infidelity = quantus.Infidelity(perturb_patch_sizes=[patch], n_perturb_samples=10, disable_warnings=True)
        sensitivity = quantus.MaxSensitivity(nr_samples=5, lower_bound=0.02, disable_warnings=True)
        figures = {"infidelity": float(np.median(infidelity(**arguments)))}
        with suppress(NotExplainableError):  # one of the rows near these is refused
            figures["max_sensitivity"] = float(np.median(sensitivity(**arguments, explain_func=explain)))
        return figures


class Logits(nn.Module):
    """The model as Quantus calls it."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.subject = subject

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits."""
        return self.subject.model.logits(x)


def _explainer(method: str, subject: Subject) -> Explainer:
    kind: Any = registered("explainers")[method]
    return kind(kind.Params.model_validate({"method": method}), subject)


# Cases


def _cases(rows: int, console: Console) -> list[Case]:
    cases = []
    for name in EXAMPLES:
        if name == "adult" and not (DATA / "adult").is_dir():
            console.print(f"adult: no data at {DATA / 'adult'}; set GUARDHOUSE_DATA")
            continue
        cases.append(_example(name, rows))
    if (DATA / "fashion-mnist").is_dir():
        cases.append(_fashion(rows))
    else:
        console.print(f"fashion-mnist: no data at {DATA / 'fashion-mnist'}; set GUARDHOUSE_DATA")
    return cases


def _example(name: str, rows: int) -> Case:
    folder = ROOT / "examples" / name
    if not (folder / "build").is_dir():
        subprocess.run([sys.executable, folder / "train.py"], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "service.cli", "fit", folder / "gateway.yaml", "--out", f"{out}/bundle"]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
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


def _fashion(rows: int) -> Case:
    """Train for a few epochs on a part of Fashion-MNIST; explain test images."""
    x, y = _images("train", FASHION_ROWS), _idx("train-labels-idx1-ubyte.gz", 8)[:FASHION_ROWS]
    torch.manual_seed(0)
    net = fashion_net()
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(FASHION_EPOCHS):
        for batch in torch.randperm(len(x)).split(128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
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


# The table


COLUMNS = {
    "refused": "refused", "completeness_p50": "completeness p50", "completeness_p95": "p95", "deletion": "deletion",
    "deletion_better_than_random": "better than random", "insertion": "insertion",
    "insertion_better_than_random": "better", "infidelity": "infidelity", "max_sensitivity": "max sensitivity",
    "randomised_rank_correlation": "randomised", "milliseconds": "ms a row",
}  # fmt: skip


def _show(name: str, measured: dict[str, dict[str, Any]], console: Console) -> None:
    grid = Table(title=name)
    grid.add_column("method")
    for title in COLUMNS.values():
        grid.add_column(title, justify="right")
    for method, figures in measured.items():
        cells = [f"{figures[key]:.2g}" if key in figures else "" for key in COLUMNS]
        grid.add_row(method, *cells)
    console.print(grid)
