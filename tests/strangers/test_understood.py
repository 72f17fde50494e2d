"""`fit` and `check` print what they understood, and both print the same."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from newcomers import SIZES, Newcomer, mlp, numbers, pictures, train_input, with_codes
from sklearn.metrics import r2_score

ROOT = Path(__file__).parents[2]
TABLE = numbers("length", "mass", "age")
CLASSES = ("ant", "bee", "cat")
COLOURED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.colour, self.head = nn.Embedding(3, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.cat([x[:, :3], self.colour(x[:, 3].long())], 1))


def build():
    return Net()
"""


def plain(newcomer: Newcomer) -> None:
    """Write a plain table with its net."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=CLASSES)
    newcomer.config(model={"weights": newcomer.weights(net)})


def coloured(newcomer: Newcomer) -> dict[str, float]:
    """Write a table with a category and holes; the true accuracies by part come back."""
    clean = with_codes(TABLE, colour=3)
    net = newcomer.build(COLOURED, train_input(clean))
    colours = np.array(["blue", "green", "red"])
    newcomer.tables(net, clean, classes=CLASSES, dress=lambda frame: frame.assign(colour=colours[frame["colour"]]))
    newcomer.config(model={"weights": newcomer.weights(net)})
    truths = {}
    for seed, part in enumerate(SIZES, 1):
        x = torch.tensor(clean(SIZES[part], seed).to_numpy(np.float32))
        with torch.no_grad():
            own = [CLASSES[code] for code in net(x).argmax(1)]
        truths[part] = float((pd.read_csv(newcomer.folder / f"{part}.csv")["y"] == own).mean())
    return truths


def leaves(document: object) -> Iterator[object]:
    """Walk through a JSON document's keys and values."""
    if isinstance(document, dict):
        yield from document
    if isinstance(document, dict | list):
        for inner in document.values() if isinstance(document, dict) else document:
            yield from leaves(inner)
    else:
        yield document


def has(document: object, number: float) -> bool:
    """Tell whether a number is somewhere in a document."""
    return any(
        isinstance(leaf, float | int) and not isinstance(leaf, bool) and abs(leaf - number) < 1e-6
        for leaf in leaves(document)
    )


@pytest.mark.parametrize("command", ["fit", "check"])
def test_columns_classes_and_accuracy_are_printed(newcomer: Newcomer, command: str) -> None:
    """Both print each column with its kind and values, the classes in logit order, and the accuracies."""
    truths = coloured(newcomer)
    told = newcomer.fit() if command == "fit" else newcomer.call("check", newcomer.folder / "gateway.yaml")
    assert told.status == 0, told.text
    lines = told.text.splitlines()
    for name, kind in {"length": "numeric", "mass": "numeric", "age": "numeric", "colour": "categorical"}.items():
        assert any(re.search(rf"\b{name}\b.*\b{kind}\b", line) for line in lines), f"UNSAID: {name}: {told.text}"
    assert any(re.search(r"\bcolour\b.*(blue|green|red)", line) for line in lines), "UNSAID: values of colour"
    assert re.search(r"ant\W+bee\W+cat", told.text), f"UNSAID: the classes: {told.text}"
    for part in ("train", "heldout"):
        percent, share = f"{truths[part] * 100:.1f}", f"{truths[part]:.3f}"
        short = share.rstrip("0")
        found = any(number in told.text for number in (percent, share, short, short.removeprefix("0")))
        assert found, f"UNSAID: accuracy {share} on {part}: {told.text}"


def test_check_prints_one_document(newcomer: Newcomer) -> None:
    """`check --json` prints one JSON document with the columns, the classes and both accuracies; nothing is written."""
    truths = coloured(newcomer)
    before = sorted(newcomer.folder.iterdir())
    told = newcomer.call("check", newcomer.folder / "gateway.yaml", "--json")
    assert told.status == 0, told.text
    document = json.loads(told.out)
    assert {"length", "colour", "categorical", *CLASSES} <= {leaf for leaf in leaves(document) if isinstance(leaf, str)}
    assert has(document, truths["train"]), document
    assert has(document, truths["heldout"]), document
    assert [path for path in sorted(newcomer.folder.iterdir()) if path.name != "__pycache__"] == before


def test_check_of_a_regression_says_r2(newcomer: Newcomer) -> None:
    """`check --json` has the R2 of a regression on the calibration rows."""
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=None)
    newcomer.config(model={"weights": newcomer.weights(net), "task": "regression"})
    with torch.no_grad():
        values = net(torch.tensor(TABLE(SIZES["heldout"], 2).to_numpy(np.float32)))[:, 0].numpy()
    truth = r2_score(pd.read_csv(newcomer.folder / "heldout.csv")["y"], values)
    told = newcomer.call("check", newcomer.folder / "gateway.yaml", "--json")
    assert told.status == 0, told.text
    numbers_said = [leaf for leaf in leaves(json.loads(told.out)) if isinstance(leaf, float)]
    assert any(abs(number - truth) < 1e-3 for number in numbers_said), numbers_said


def swapped(newcomer: Newcomer) -> None:
    """Write labels in another order than the model's."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("cat", "ant", "bee"))
    newcomer.config(model={"weights": newcomer.weights(net)})


def leaking(newcomer: Newcomer) -> None:
    """Write a config that calibrates on the training file."""
    plain(newcomer)
    newcomer.config(model={"weights": "model.safetensors"}, reference={"calibration": "train.csv"})


def dropping(newcomer: Newcomer) -> None:
    """Write a net with dropout that is always on."""
    plain(newcomer)
    source = (
        mlp(3, 3)
        .replace("nn.Tanh()", "Always()")
        .replace(
            "def build",
            "class Always(nn.Module):\n    def forward(self, x):\n"
            "        return nn.functional.dropout(x, 0.5, training=True)\n\n\ndef build",
        )
    )
    newcomer.code(source)


def paid(newcomer: Newcomer) -> None:
    """Write a column of money."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(
        net,
        TABLE,
        classes=CLASSES,
        dress=lambda frame: frame.assign(mass=[f"${1000 * value:,.2f}" for value in frame["mass"]]),
    )
    newcomer.config(model={"weights": newcomer.weights(net)})


def wide_open(newcomer: Newcomer) -> None:
    """Write images that reach to 255."""
    clean = pictures(1, 6, 6)
    net = newcomer.build(mlp(36, 3).replace("Sequential(", "Sequential(nn.Flatten(), "), clean(500, 1))
    newcomer.arrays(net, clean, dress=lambda x: (x * 255).numpy())
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "image", "shape": [1, 6, 6]})


CASES = {"sound": plain, "order": swapped, "leak": leaking, "dropout": dropping, "money": paid, "range": wide_open}


@pytest.mark.parametrize("name", CASES)
def test_check_and_fit_say_the_same(newcomer: Newcomer, name: str) -> None:
    """`check` warns and refuses as `fit` does, with the same sentences, and `--strict` works for both."""
    CASES[name](newcomer)
    fitted = newcomer.fit()
    checked = newcomer.call("check", newcomer.folder / "gateway.yaml")
    hidden = str(newcomer.folder)
    assert checked.status == fitted.status, checked.text
    assert set(checked.lines("warning")) <= set(fitted.lines("warning"))
    if name == "sound":
        assert checked.status == 0
        assert not checked.lines("warning")
        assert newcomer.call("check", newcomer.folder / "gateway.yaml", "--strict").status == 0
    elif fitted.status == 2:
        sentences = [line for line in checked.err.replace(hidden, "").splitlines() if line.strip()]
        assert sentences
        assert sentences[-1] in fitted.err
    else:
        assert checked.lines("warning"), "SILENT: check finds nothing"
        strict = newcomer.call("check", newcomer.folder / "gateway.yaml", "--strict")
        assert strict.status == 2
        assert "Traceback" not in strict.text
        assert "No such option" not in strict.text


def test_strict_writes_no_bundle(newcomer: Newcomer) -> None:
    """With `--strict` a warning ends `fit` before a bundle is written."""
    swapped(newcomer)
    told = newcomer.fit("--strict")
    assert told.status == 2
    assert "No such option" not in told.text
    assert not (newcomer.folder / "bundle").exists()


def test_strict_on_sound_files_writes_a_bundle(newcomer: Newcomer) -> None:
    """With `--strict` sound files are fitted."""
    plain(newcomer)
    told = newcomer.fit("--strict")
    assert told.status == 0, told.text
    assert newcomer.evaluate()[1]["accuracy"] == newcomer.truth


def test_exit_status_of_the_process(newcomer: Newcomer) -> None:
    """In a shell of its own, a refusal is status 2, one sentence on standard error, and no traceback."""
    dropping(newcomer)
    command = [sys.executable, "-m", "service", "fit", "gateway.yaml", "--out", "bundle"]
    ended = subprocess.run(
        command, cwd=newcomer.folder, env={"PYTHONPATH": str(ROOT), "COLUMNS": "2000", "PATH": "/usr/bin"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert re.search(r"dropout|random|chance|twice", ended.stderr, re.IGNORECASE)
    assert not (newcomer.folder / "bundle").exists()


@pytest.mark.slow
def test_large_table_is_checked_in_ten_seconds(newcomer: Newcomer) -> None:
    """`check` on 100,000 rows of 15 columns takes less than ten seconds of CPU, torch's import included."""
    names = [f"n{index}" for index in range(10)]
    clean = with_codes(numbers(*names), **{f"c{index}": 6 for index in range(5)})
    net = newcomer.build(mlp(15, 3), train_input(clean))
    towns = np.array(["Bonn", "Graz", "Lyon", "Oslo", "Rome", "York"])
    newcomer.tables(
        net,
        clean,
        classes=CLASSES,
        dress=lambda frame: frame.assign(**{f"c{index}": towns[frame[f"c{index}"]] for index in range(5)}),
        sizes={"train": 80_000, "heldout": 20_000, "test": 300},
    )
    newcomer.config(model={"weights": newcomer.weights(net)})
    command = [sys.executable, "-m", "service", "check", str(newcomer.folder / "gateway.yaml")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert ended.returncode == 0, ended.stderr
    assert seconds < 10, f"{seconds:.1f} s"
