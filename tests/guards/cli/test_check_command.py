"""`guardhouse check` and `fit`: both print what they understood, and `--strict` refuses warnings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import yaml

Guardhouse = Callable[..., tuple[int, str, str]]
CSV = {"path": "train.csv", "calibration": "heldout.csv", "label": "y"}
UNDERSTOOD = {"rows", "input", "columns", "classes", "model", "accuracy", "notes", "warnings"}


def printed(text: str) -> str:
    return " ".join(text.split())


def sound(folder: Path, **changes: Any) -> Path:
    """Write a toy whose labels are what its model says, so that nothing is to be warned of."""
    config = tiny_models.write(folder, "tensor", **changes)
    model = tiny_models.model("tensor")
    for name, seed in (("train.npz", 0), ("heldout.npz", 50)):
        arrays = dict(np.load(folder / name))
        y = model(tiny_models.inputs("tensor", len(arrays["x"]), seed)).logits.argmax(1).numpy()
        np.savez(folder / name, **{**arrays, "y": y})
    return config


def misread(folder: Path) -> Path:
    """Write the same with two labels exchanged in the config."""
    ant, bee, cat = tiny_models.CLASSES
    model = tiny_models.document("tensor")["model"] | {"classes": [bee, ant, cat]}
    config = sound(folder, model=model)
    names = np.array(tiny_models.CLASSES)
    for name in ("train.npz", "heldout.npz"):
        arrays = dict(np.load(folder / name))
        np.savez(folder / name, **{**arrays, "y": names[arrays["y"]]})
    return config


def test_check_prints_what_fit_would_understand(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """`check` prints the tables of `fit`, says that the config is ready, and writes nothing."""
    config = sound(tmp_path)
    before = sorted(tmp_path.iterdir())
    status, out, err = guardhouse("check", config)
    assert (status, sorted(tmp_path.iterdir())) == (0, before)
    for words in (
        "3 classes, in the order of the outputs",
        "input: tensor of shape [5], float32",
        "tiny_models:tensor_net",
    ):
        assert words in printed(out)
    assert "training: 300 │ 100.0% [98.8%, 100.0%]" in printed(out)
    assert out.splitlines()[-1] == f"{config}: ready to fit"
    assert "warning" not in err
    status, fitted, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert status == 0
    shared = [line for line in out.splitlines()[:-1] if line.strip() and "Linear gets" not in line]
    assert all(line in fitted.splitlines() for line in shared)


def test_check_is_one_document(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """`check --json` prints one document of what was understood, and nothing else on standard output."""
    status, out, err = guardhouse("check", sound(tmp_path), "--json")
    document = json.loads(out)
    assert status == 0
    assert set(document) == UNDERSTOOD | {"ready"}
    assert document["ready"] is True
    assert document["warnings"] == []
    assert document["rows"] == {"train": 300, "calibration": 400}
    assert document["accuracy"]["train"]["value"] == document["accuracy"]["calibration"]["value"] == 1
    assert document["accuracy"]["train"]["measure"] == "accuracy"
    assert "ready to fit" not in err


def test_fit_is_one_document(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """`fit --json` prints one document that has the guards' figures and the bundle's id, too."""
    from guards import Bundle

    status, out, _ = guardhouse("fit", sound(tmp_path), "--out", tmp_path / "b", "--json")
    document = json.loads(out)
    assert status == 0
    assert set(document) == UNDERSTOOD | {"guards", "bundle"}
    assert document["bundle"] == Bundle.load(tmp_path / "b").id
    assert list(document["guards"]) == ["quality", "ood", "unsure", "any"]
    assert document["guards"]["ood"]["share"] == 0.5
    low, high = document["guards"]["any"]["false_alarm_interval"]
    assert low < document["guards"]["any"]["false_alarm_rate"] < high


def test_fit_and_check_measure_alike(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """The quality that `fit` takes from the rows' outputs is what `check` measures on all of few rows."""
    config = tiny_models.write(tmp_path, "tensor")
    _, checked, _ = guardhouse("check", config, "--json")
    _, fitted, _ = guardhouse("fit", config, "--out", tmp_path / "b", "--json")
    assert json.loads(checked)["accuracy"] == json.loads(fitted)["accuracy"]


@pytest.mark.parametrize("command", ["check", "fit"])
def test_strict_refuses_warnings(command: str, tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A misread model is warned of; with `--strict` the warning is a mistake, and no bundle is written."""
    config = misread(tmp_path)
    out_option = ["--out", tmp_path / "b"] if command == "fit" else []
    status, out, err = guardhouse(command, config, *out_option, "--strict")
    assert status == 2
    assert not (tmp_path / "b").exists()
    assert "model.classes: the outputs fit the labels in another order" in printed(err)
    assert "set model.classes to ['ant', 'bee', 'cat']" in printed(err)
    assert "warning:" not in err
    assert "ready to fit" not in out
    status, out, err = guardhouse(command, config, *out_option)
    assert status == 0
    assert "warning: model.classes: the outputs fit the labels in another order" in printed(err)
    assert out.splitlines()[-1].endswith("ready to fit, with 1 warning") or command == "fit"
    assert (tmp_path / "b").exists() == (command == "fit")


def test_strict_check_still_prints_its_document(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """The document of a refused config has its mistakes and its warnings."""
    status, out, err = guardhouse("check", misread(tmp_path), "--strict", "--json")
    document = json.loads(out)
    assert (status, document["ready"]) == (2, False)
    assert printed(document["warnings"][0]) in printed(err)


def test_strict_refuses_before_fitting(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A warning that is found before fitting ends a strict fit at once."""
    config = sound(tmp_path)
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"reference": {"path": "train.npz"}}))
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b", "--strict")
    assert status == 2
    assert "reference.calibration is not given" in printed(err)
    assert "guards" not in err
    assert not (tmp_path / "b").exists()


def test_a_warning_of_fitting_is_strict_too(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A warning that only fitting finds leaves no bundle either."""
    config = sound(tmp_path, guards=[])
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b", "--strict")
    assert (status, err.splitlines()[-1]) == (2, "no guards are configured: every row will be allowed")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("command", ["check", "fit"])
def test_the_training_file_does_not_calibrate(command: str, tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A config whose calibration file is a copy of the training file is refused by both commands."""
    config = sound(tmp_path)
    (tmp_path / "heldout.npz").write_bytes((tmp_path / "train.npz").read_bytes())
    status, out, err = guardhouse(command, config, *(["--out", tmp_path / "b"] if command == "fit" else []))
    assert (status, out) == (2, "")
    assert "holds the same rows as reference.path" in printed(err)


def test_mistakes_are_told_together(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Mistakes of the reference and mistakes of the weights are reported together."""
    model = {"builder": "tiny_models:tabular_net", "weights": "nowhere.safetensors", "device": "cpu"}
    columns = [{"name": name, "kind": "numeric"} for name in ("weight", "height", "length")]
    config = tiny_models.write(
        tmp_path,
        "tabular",
        reference=CSV,
        model=model | {"weights": "w.safetensors"},
        input=tiny_models.document("tabular")["input"],
    )
    document = yaml.safe_load(config.read_text())
    document["model"]["weights"] = "nowhere.safetensors"
    document["reference"]["path"] = "missing.csv"
    document["input"]["columns"] = columns
    config.write_text(yaml.safe_dump(document))
    status, out, err = guardhouse("check", config)
    assert (status, out) == (2, "")
    assert "missing.csv: no such file" in err
    assert "nowhere.safetensors" in err


def test_parts_that_cannot_be_fitted_are_told_together(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """`check` reports all monitors of missing columns together, before anything is fitted."""
    monitors = [
        {"name": name, "kind": "groups", "attribute": name, "source": {"column": name}} for name in ("sex", "race")
    ]
    status, out, err = guardhouse("check", sound(tmp_path, monitors=monitors))
    assert (status, out) == (2, "")
    assert "monitors.0: " in err
    assert "monitors.1: " in err


def test_check_of_a_table(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """The columns of a table are printed with their kinds and values of the file."""
    model = {"builder": "tiny_models:tabular_net", "device": "cpu"}
    config = tiny_models.write(tmp_path, "tabular", reference=CSV, model=model, input={"kind": "tabular"})
    status, out, _ = guardhouse("check", config)
    assert status == 0
    assert "4 columns, in the model's order" in out
    assert "categorical 3" in out
    first = (tmp_path / "train.csv").read_text().splitlines()[1].split(",")
    assert first[3] in out
    status, out, _ = guardhouse("check", config, "--json")
    assert [column["name"] for column in json.loads(out)["columns"]] == [*tiny_models.COLUMNS, "y", "group_region"]


def test_check_of_a_regression(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A regression is measured by R2 and RMSE."""
    labeller = tiny_models.model("tabular", "tiny_models:value_net", task="regression")
    model = {"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"}
    config = tiny_models.write(tmp_path, "tabular", model=model, guards=[])
    for name, seed in (("train.npz", 0), ("heldout.npz", 50)):
        rows = tiny_models.rows("tabular", 400, seed, labeller=labeller)
        assert rows.y is not None
        np.savez(tmp_path / name, x=rows.x.numpy(), y=rows.y.numpy())
    status, out, _ = guardhouse("check", config, "--json")
    found = json.loads(out)["accuracy"]["train"]
    assert status == 0
    assert (found["measure"], found["rows"]) == ("r2", 400)
    assert found["rmse"] == pytest.approx(0.3, abs=0.05)
    status, out, _ = guardhouse("check", config)
    assert "R2 and RMSE of the model as it was understood" in out


def test_what_was_noticed_is_told_beside_a_mistake(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A warning that was found before a mistake is printed above it: it may explain the mistake."""
    config = sound(tmp_path)
    document = yaml.safe_load(config.read_text()) | {"reference": {"path": "train.npz"}, "coverage": 0.9999}
    config.write_text(yaml.safe_dump(document))
    status, _, err = guardhouse("check", config)
    assert status == 2
    assert "warning: reference.calibration is not given" in printed(err)
    assert "a coverage of 0.9999" in err.splitlines()[-1]
