"""Makes a newcomer's folder: a model, data files and a config; the model makes the labels, so its accuracy is known.

The labels of every file are the model's own answers for its *true* input, some of them changed. The files may show that
input in another way: a price as "$1,200.50", a category as its name. If the files are read correctly, the served
accuracy is the true accuracy; if they are misread, it is not.
"""

import json
import re
import runpy
import sys
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

Frame = pd.DataFrame
Array = npt.NDArray[Any]
DRAWN = re.compile(r"━|──|\d+/\d+ \d+:\d\d:\d\d")
"""Progress bars and frames."""
SIZES = {"train": 500, "heldout": 300, "test": 300}
SEEDS = {"train": 1, "heldout": 2, "test": 3}
GUARDS = [
    {"name": "quality", "detector": {"kind": "ranges"}},
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
    {"name": "unsure", "detector": {"kind": "confidence"}},
]
MLP = """
from torch import nn


def build():
    return nn.Sequential(nn.Linear({inputs}, 8), nn.Tanh(), nn.Linear(8, {outputs}))
"""


def mlp(inputs: int, outputs: int) -> str:
    """Write the source of a small perceptron."""
    return MLP.format(inputs=inputs, outputs=outputs)


@dataclass(frozen=True, slots=True)
class Told:
    """The output and the exit status of a command; a crash is status 1 with its traceback, as in a shell."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything that the user sees."""
        return self.out + self.err

    def lines(self, kind: str) -> list[str]:
        """Give the sentences that begin with ``note:`` or ``warning:``."""
        return re.findall(rf"(?im)^\W*{kind}s?:\s*(.*\S)", self.text)


Guardhouse = Callable[..., Told]


def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Guardhouse:
    """Give the command line as a function in this process; its output is so wide that no sentence is broken."""
    from guards.cli.commands import run

    monkeypatch.setenv("COLUMNS", "2000")
    monkeypatch.delenv("GUARDHOUSE_CONFIG", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*arguments: str | Path) -> Told:
        monkeypatch.setattr("sys.argv", ["guardhouse", *map(str, arguments)])
        status, crash = 0, ""
        capsys.readouterr()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # for a user, Python's warnings are no errors
                run()
        except SystemExit as left:
            status = int(left.code or 0)
        except Exception as failed:  # noqa: BLE001 - whatever leaves the command line is a traceback to the user
            status, crash = 1, f"Traceback: {type(failed).__name__}: {failed}"
        said = capsys.readouterr()
        sentences = "".join(line for line in said.err.splitlines(keepends=True) if not DRAWN.search(line))
        return Told(status, said.out, sentences + crash)

    return call


@dataclass(slots=True)
class Newcomer:
    """A user with a folder, who types ``guardhouse fit gateway.yaml --out bundle`` and reads the output."""

    folder: Path
    call: Guardhouse
    module: str = field(default_factory=lambda: f"strange_{uuid.uuid4().hex}")
    truth: float = float("nan")
    truths: list[str] = field(default_factory=list)
    """The model's own labels of the rows of the test file."""
    first: float | None = None
    """The model's own accuracy on the first row of the test file."""
    suffix: str = ".csv"
    flipped: float = 0.06
    """The share of labels that differ from the model's answer."""
    noise: float = 0.3
    """For a regression: the standard deviation of the labels' noise, relative to that of the model's values."""

    # The folder

    def code(self, source: str) -> dict[str, Any]:
        """Write the model's code beside the config, run the code, and give the names that it defines."""
        path = self.folder / f"{self.module}.py"
        path.write_text(source, encoding="utf-8")
        return runpy.run_path(str(path))

    def build(self, source: str, x: Tensor | None = None, *, seed: int = 0) -> Any:
        """Write the code, build its module with fixed weights, and spread the answers over ``x`` if ``x`` is given."""
        names = self.code(source)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = names["build"]()
        net.eval()
        if x is not None:
            spread(net, x)
        return net

    def weights(self, net: nn.Module, name: str = "model.safetensors") -> str:
        """Save the weights of a module, and give the file's name."""
        save_file({key: value.contiguous() for key, value in net.state_dict().items()}, self.folder / name)
        return name

    def config(self, **sections: Any) -> Path:
        """Write the config; ``model``, ``input`` and ``reference`` add keys, the others replace whole sections."""
        reference = {"path": f"train{self.suffix}", "calibration": f"heldout{self.suffix}", "label": "y"}
        builder = {} if "program" in sections.get("model", {}) else {"builder": f"{self.module}:build"}
        values = sections.get("model", {}).get("task") == "regression"
        document: dict[str, Any] = {
            "name": "stranger",
            "false_alarm_budget": 0.05,
            "guards": GUARDS[:2] if values else GUARDS,  # the third needs probabilities
            **sections,
            "model": {**builder, "device": "cpu", **sections.get("model", {})},
            "input": {"kind": "tabular", **sections.get("input", {})},
            "reference": {**reference, **sections.get("reference", {})},
        }
        path = self.folder / "gateway.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path

    def tables(  # noqa: PLR0913
        self,
        net: Callable[[Tensor], Tensor],
        clean: Callable[[int, int], Frame],
        *,
        dress: Callable[[Frame], Frame] = lambda frame: frame,
        dress_test: Callable[[Frame], Frame] | None = None,
        classes: Sequence[object] | None = ("no", "yes"),
        label: str = "y",
        suffix: str = ".csv",
        edit: Callable[[str], str] = lambda text: text,
        sizes: dict[str, int] = SIZES,
    ) -> None:
        """Write train, heldout and test; ``clean`` (count, seed) makes the model's input, ``dress`` what a file shows.

        ``edit`` changes the text of a CSV. ``classes`` is None for a regression.
        """
        self.suffix = suffix
        for part, count in sizes.items():
            frame = clean(count, SEEDS[part])
            y = self._labels(net, torch.tensor(frame.to_numpy(np.float32)), classes, part)
            shown = (dress_test if part == "test" and dress_test else dress)(frame).assign(**{label: y})
            write_table(shown, self.folder / f"{part}{suffix}", edit)

    def arrays(
        self,
        net: Callable[[Tensor], Tensor],
        clean: Callable[[int, int], Tensor],
        *,
        dress: Callable[[Tensor], Array] = lambda x: x.numpy(),
        classes: Sequence[object] | None = (0, 1, 2),
        label: str = "y",
        dress_y: Callable[[Array], Array] = np.asarray,
        sizes: dict[str, int] = SIZES,
    ) -> None:
        """Write train, heldout and test as .npz files, as :meth:`tables` does."""
        self.suffix = ".npz"
        for part, count in sizes.items():
            x = clean(count, SEEDS[part])
            y = np.array(self._labels(net, x, classes, part))
            np.savez(self.folder / f"{part}.npz", **{"x": dress(x), label: dress_y(y)})

    def _labels(
        self, net: Callable[[Tensor], Tensor], x: Tensor, classes: Sequence[object] | None, part: str
    ) -> list[Any]:
        generator = torch.Generator().manual_seed(SEEDS[part] + 100)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = net(x).reshape(len(x), -1)
        if classes is None:
            values = answers[:, 0]
            y = values + self.noise * values.std() * torch.randn(len(x), generator=generator)
            self.truth = (1 - ((y - values) ** 2).sum() / ((y - y.mean()) ** 2).sum()).item()
            return [float(value) for value in y]
        own = (answers[:, 0] > 0).long() if answers.shape[1] == 1 else answers.argmax(1)
        flip = torch.rand(len(x), generator=generator) < self.flipped
        shift = torch.randint(1, len(classes), (len(x),), generator=generator)
        index = torch.where(flip, (own + shift) % len(classes), own)
        assert len(index.unique()) == len(classes), "the model must say every class"
        self.truth = (own == index).double().mean().item()
        self.first = float(own[0] == index[0])
        self.truths = [str(classes[code]) for code in own.tolist()]
        return [classes[code] for code in index.tolist()]

    # The commands

    def fit(self, *options: str) -> Told:
        """Run ``guardhouse fit``."""
        told = self.call("fit", self.folder / "gateway.yaml", "--out", self.folder / "bundle", *options)
        hidden = str(self.folder)  # the folder's name has words of the test
        return Told(told.status, told.out.replace(hidden, ""), told.err.replace(hidden, ""))

    def evaluate(self, *more: str | Path, part: str = "test") -> tuple[Told, dict[str, Any]]:
        """Run ``guardhouse evaluate --json`` on the test file, or on another one."""
        config, clean = self.folder / "gateway.yaml", self.folder / f"{part}{self.suffix}"
        told = self.call("evaluate", self.folder / "bundle", "--config", config, "--clean", clean, "--json", *more)
        if told.status:
            return told, {}
        try:
            document: dict[str, Any] = json.loads(told.out)
        except ValueError:
            pytest.fail(f"NOT JSON: evaluate --json printed {told.out[:200]!r}")
        return told, document

    # What a newcomer must see

    def expect(self, *, read: bool = False, said: str = "", refused: str = "", warned: str = "") -> None:
        """Fit, and fail unless the newcomer sees one of the allowed results; a silent misreading is never allowed.

        ``read``: the served accuracy is the model's own, without a warning unless ``warned`` allows one, and the output
        has the words ``said``. ``refused``: status 2 and these words. ``warned``: status 0 and these words in a
        warning, and status 2 with ``--strict``. All words are regular expressions that ignore case.
        """
        told = self.fit()
        assert told.status != 1, f"TRACEBACK: {told.text[-600:]}"
        assert "Traceback" not in told.text, f"TRACEBACK: {told.text[-600:]}"
        assert told.status in (0, 2), told.text
        if told.status == 2:
            assert refused, f"REFUSED, although it can be read: {told.err[-600:]}"
            assert found(refused, told.err), f"WORDLESS refusal, without {refused!r}: {told.err[-600:]}"
            return
        right, served = self._is_right()
        alarms = told.lines("warning")
        if right and read:
            assert not alarms or warned, f"FALSE WARNING: {alarms}"
            assert found(said, told.text), f"UNSAID: read rightly, but without {said!r}: {told.text[-600:]}"
            return
        fault = "NOT READ" if served.startswith("nothing") else "MISREAD"
        state = "read rightly" if right else f"{fault}: true {self.truth:.3f}, served {served}"
        assert alarms, f"SILENT, {state}; wanted: {said or refused or warned or 'the true accuracy'}"
        assert warned, f"WARNED, but not read, {state}: {alarms}"
        assert found(warned, "\n".join(alarms)), f"WORDLESS warning, without {warned!r}, {state}: {alarms}"
        strict = self.fit("--strict")
        assert strict.status == 2, f"NOT STRICT: status {strict.status}: {strict.text[-600:]}"
        assert found(warned, strict.err), f"NOT STRICT: {strict.err[-600:]}"

    def _is_right(self) -> tuple[bool, str]:
        """Tell whether the served accuracy (R2) is the model's own."""
        told, document = self.evaluate()
        assert told.status in (0, 2), f"TRACEBACK: evaluate: {told.text[-600:]}"
        if told.status:
            return False, f"nothing: {told.err.strip()[-300:]}"
        served = document["accuracy"] if document["accuracy"] is not None else document["r2"]
        if served is None:
            return False, "nothing, since no labels were read"
        tolerance = 1e-9 if document["accuracy"] is not None else 1e-5
        if abs(served - self.truth) > tolerance:
            return False, f"{served:.3f}"
        return self._is_one_row_right()

    def _is_one_row_right(self) -> tuple[bool, str]:
        """Tell whether the first row of the test file gets the same answer alone and beside other rows."""
        take_first(self.folder / f"test{self.suffix}", self.folder / f"one{self.suffix}")
        told, document = self.evaluate(part="one")
        assert told.status == 0, f"SILENT, MISREAD: one row alone is not answered: {told.text[-600:]}"
        right = document["accuracy"] is None or self.first is None or document["accuracy"] == self.first
        return right, f"to one row alone {document['accuracy']}"


def found(words: str, text: str) -> bool:
    """Search for a regular expression, ignoring case and line breaks."""
    return re.search(words, " ".join(text.split()), re.IGNORECASE) is not None


def write_table(frame: Frame, path: Path, edit: Callable[[str], str] = lambda text: text) -> None:
    """Write a table in the format of the path's suffix."""
    if path.suffix in (".parquet", ".pq"):
        frame.to_parquet(path)
    elif path.suffix == ".feather":
        frame.to_feather(path)
    else:
        path.write_text(edit(frame.to_csv(index=False)), encoding="utf-8")


def take_first(path: Path, to: Path) -> None:
    """Copy a data file's first row alone."""
    if path.suffix == ".npz":
        np.savez(to, **{name: values[:1] for name, values in np.load(path).items()})
    elif path.suffix in (".parquet", ".pq"):
        pq.write_table(pq.read_table(path).slice(0, 1), to)
    elif path.suffix == ".feather":
        pd.read_feather(path).head(1).to_feather(to)
    else:
        lines = path.read_bytes().splitlines()
        comments = next(index for index, line in enumerate(lines) if not line.startswith(b"#"))
        to.write_bytes(b"\n".join(lines[: comments + 2]) + b"\n")


@torch.no_grad()
def spread(net: nn.Module, x: Tensor) -> None:
    """Scale and shift the last linear layer, so that over ``x`` all answers are sure and about equally frequent.

    Every output gets mean 0 and standard deviation 4 over ``x``.
    """
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    handle = last.register_forward_hook(lambda _m, _i, out: seen.append(out.reshape(-1, out.shape[-1])))
    net(x)
    handle.remove()
    mean, deviation = seen[0].mean(0), seen[0].std(0).clamp_min(1e-6)
    last.weight.mul_(4 / deviation[:, None])
    last.bias.sub_(mean).mul_(4 / deviation)


def numbers(*names: str) -> Callable[[int, int], Frame]:
    """Give a function that makes up columns of numbers with two decimals."""

    def clean(count: int, seed: int) -> Frame:
        rng = np.random.default_rng(seed)
        return pd.DataFrame({name: rng.normal(size=count).round(2) for name in names})

    return clean


def with_codes(clean: Callable[[int, int], Frame], **columns: int) -> Callable[[int, int], Frame]:
    """Give a function that adds columns of category codes; ``columns`` gives the number of categories of each."""

    def more(count: int, seed: int) -> Frame:
        rng = np.random.default_rng(seed + 50)
        codes = {name: rng.integers(size, size=count) for name, size in columns.items()}
        return clean(count, seed).assign(**codes)

    return more


def tensors(*shape: int) -> Callable[[int, int], Tensor]:
    """Give a function that makes up normal numbers (n, *shape)."""
    return lambda count, seed: torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))


def pictures(*shape: int) -> Callable[[int, int], Tensor]:
    """Give a function that makes up images (n, *shape) of whole 255ths in [0, 1], channels of different brightness."""

    def clean(count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        light = torch.rand((count, shape[0], *[1] * (len(shape) - 1)), generator=generator)
        return ((0.7 * light + 0.3 * torch.rand((count, *shape), generator=generator)) * 255).round() / 255

    return clean


def train_input(clean: Callable[[int, int], Frame]) -> Tensor:
    """Give the training rows as the model gets them."""
    return torch.tensor(clean(SIZES["train"], SEEDS["train"]).to_numpy(np.float32))
