"""The examples train, reach the accuracy that they state, and write the files that their configs name."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from example_training import train
from safetensors.torch import load_file

from guards.config.config import parse

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data"))
NEEDED = {"adult": "adult/adult_train.csv.gz", "fashion": "fashion-mnist/train-images-idx3-ubyte.gz"}
EXAMPLES = ["digits", "diabetes", *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.data]) for name in NEEDED)]
LEAST = {"digits": 0.98, "diabetes": 0.4, "adult": 0.85, "fashion": 0.91}
SHAPES = {"digits": ((1, 8, 8), 10), "diabetes": ((10,), 1), "adult": ((14,), 2), "fashion": ((1, 28, 28), 10)}

Trained = Callable[[str], tuple[Path, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, trained_digits: tuple[Path, str]) -> Trained:
    """Train an example once and give its folder and what was printed."""

    @cache
    def once(name: str) -> tuple[Path, str]:
        if name == "digits":
            return trained_digits
        if name in NEEDED and not (DATA / NEEDED[name]).is_file():
            pytest.skip(f"no {DATA / NEEDED[name]}: set GUARDHOUSE_DATA")
        out = tmp_path_factory.mktemp(name)
        done = train(name, out, GUARDHOUSE_DATA=str(DATA))
        assert done.returncode == 0, done.stderr
        return out, done.stdout

    return once


def config(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "examples" / name / "gateway.yaml").read_text())


@pytest.mark.parametrize("name", EXAMPLES)
def test_claimed_accuracy(trained: Trained, name: str) -> None:
    """The accuracy or R2 that training prints is the one its README shows, and no less than what is asked."""
    _, printed = trained(name)
    assert printed.count("\n") == 1
    assert float(re.search(r"\d\.\d+", printed)[0]) >= LEAST[name]
    shown = re.search(r"^test .*$", (ROOT / "examples" / name / "README.md").read_text(), re.MULTILINE)[0]
    numbers = [[float(number) for number in re.findall(r"\d\.\d+", line)] for line in (printed, shown)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.01)


@pytest.mark.parametrize("name", EXAMPLES)
def test_builder_takes_weights(trained: Trained, name: str) -> None:
    """The config's builder needs nothing but its own file, and the weights fit it and give finite outputs."""
    out, _ = trained(name)
    module, function = config(name)["model"]["builder"].split(":")
    spec = importlib.util.spec_from_file_location(f"{name}_model", ROOT / "examples" / name / f"{module}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    model = getattr(loaded, function)().eval()
    model.load_state_dict(load_file(out / "model.safetensors"))
    shape, outputs = SHAPES[name]
    y = model(torch.zeros(3, *shape))
    assert y.shape == (3, outputs)
    assert y.isfinite().all()


@pytest.mark.parametrize("name", SHAPES)
def test_config_is_valid(name: str) -> None:
    """The config is valid, and has the folder's name."""
    assert parse(config(name)).name == name


@pytest.mark.parametrize("name", EXAMPLES)
def test_config_files(trained: Trained, name: str) -> None:
    """Every file that the config names is written under that name."""
    out, _ = trained(name)
    document = config(name)
    named = [document["model"]["weights"], document["reference"]["path"], document["reference"]["calibration"]]
    for path in map(Path, named):
        assert path.parent == Path("build")
        assert (out / path.name).is_file()


def test_digits_files(trained: Trained) -> None:
    """Digits are float32 images in [0, 1], each in one split alone; half the suspects are the test images inverted."""
    out, _ = trained("digits")
    splits = {name: np.load(out / f"{name}.npz") for name in ("train", "heldout", "test")}
    x = np.concatenate([split["x"] for split in splits.values()])
    assert x.dtype == np.float32
    assert x.shape == (1797, 1, 8, 8)
    assert (x.min(), x.max()) == (0, 1)
    assert len(np.unique(x, axis=0)) == len(x)
    assert all(set(split["y"]) == set(range(10)) for split in splits.values())
    suspect, test = np.load(out / "suspect.npz")["x"], splits["test"]["x"]
    assert np.array_equal(suspect[: len(test)], 1 - test)
    assert suspect.dtype == np.float32
    assert len(suspect) == 2 * len(test)


def test_diabetes_files(trained: Trained) -> None:
    """Every row of the table is in one split, inside the declared bounds and categories, in the declared order."""
    out, _ = trained("diabetes")
    table = pd.concat([pd.read_csv(out / f"{name}.csv", dtype={"sex": str}) for name in ("train", "heldout", "test")])
    columns = config("diabetes")["input"]["columns"]
    assert list(table) == [*(column["name"] for column in columns), "progression"]
    assert len(table.drop_duplicates()) == len(table) == 442
    for column in columns:
        values = table[column["name"]]
        if column["kind"] == "categorical":
            assert set(values) == set(column["categories"])
        else:
            assert values.between(column["minimum"], column["maximum"]).all()


@pytest.mark.slow
@pytest.mark.data
def test_adult_files(trained: Trained) -> None:
    """A missing value is an empty field, and the training and held-out rows are the source's training part."""
    out, _ = trained("adult")
    rows = {name: pd.read_csv(out / f"{name}.csv", dtype=str) for name in ("train", "heldout", "test")}
    source = pd.read_csv(DATA / "adult" / "adult_train.csv.gz", dtype=str, na_values="?")
    order = list(source)
    both = pd.concat([rows["train"], rows["heldout"]])
    assert both.sort_values(order, ignore_index=True).equals(source.sort_values(order, ignore_index=True))
    assert rows["test"].isna().any(axis=1).sum() == 1221
    assert not any((table == "?").any(axis=None) for table in rows.values())
    suspect = pd.read_csv(out / "suspect.csv", dtype=str, keep_default_na=False)
    assert len(suspect) == 5 * 400
    assert (suspect["age"][:400].astype(int) >= 12 * 17).all()
    assert (suspect["age"][1200:1600] == "").all()
    assert list(suspect) == order


@pytest.mark.parametrize("name", NEEDED)
def test_absent_data(name: str, tmp_path: Path) -> None:
    """Without its data an example ends with status 2 and one sentence, and writes nothing."""
    done = train(name, tmp_path, GUARDHOUSE_DATA=str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "GUARDHOUSE_DATA" in done.stderr
    assert not list(tmp_path.iterdir())


WAYS = """
import sys
sys.path.insert(0, {folder!r})
import torch, train
torch.manual_seed(0)
model = train.train(torch.rand(256, 1, 28, 28), torch.arange(256) % 10, epochs=1, **{way!r})
print(bool(model(torch.rand(3, 1, 28, 28)).isfinite().all()))
"""


@pytest.mark.parametrize("way", ["logitnorm", "adversarial"])
def test_fashion_in_other_ways(way: str) -> None:
    """The fashion example trains with --logitnorm and with --adversarial, too."""
    ways = {other: other == way for other in ("logitnorm", "adversarial")}
    code = WAYS.format(folder=str(ROOT / "examples" / "fashion"), way=ways)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
    shown = subprocess.run(
        [sys.executable, ROOT / "examples" / "fashion" / "train.py", "--help"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"--{way}" in shown.stdout
