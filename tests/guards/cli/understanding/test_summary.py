"""The summary of what fit understood: columns, classes, model and quality, as JSON and in print."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import tiny_models
import torch
from rich.console import Console
from safetensors.torch import save_file

from guards.bundle.labelled import Labelled
from guards.bundle.model_quality.quality import Quality, quality
from guards.bundle.preparation import prepare
from guards.cli.understanding.show import show, show_quality
from guards.cli.understanding.summary import Summary, accuracies, summarise
from guards.config.load import load_config
from guards.data.table import TableColumn
from guards.notices import Notices

CSV = {"path": "train.csv", "calibration": "heldout.csv", "label": "y"}


def understood(config: Path) -> Summary:
    return summarise(prepare(load_config(config), config.parent, Notices()))


def printed(summary: Summary, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    show(summary, console)
    return console.export_text()


def table(folder: Path, **changes: Any) -> Path:
    model = {"builder": "tiny_models:tabular_net", "device": "cpu"}
    config = tiny_models.write(
        folder, "tabular", reference=CSV, **{"model": model, "input": {"kind": "tabular"}} | changes
    )
    for name in ("train.csv", "heldout.csv"):
        lines = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join([lines[0], *lines[1:]]) + "\n")
    return config


def test_columns_are_told_as_they_were_read(tmp_path: Path) -> None:
    """Every column has its kind, its missing share, three values of the file, and what stands in for a missing one."""
    config = table(tmp_path)
    lines = (tmp_path / "train.csv").read_text().splitlines()
    columns = dict(zip(lines[0].split(","), zip(*[line.split(",") for line in lines[1:]], strict=True), strict=True))
    summary = understood(config)
    found = {column["name"]: column for column in summary["columns"]}
    assert list(found) == [*tiny_models.COLUMNS, "y", "group_region"]
    for name in tiny_models.COLUMNS:
        values = columns[name]
        assert found[name]["role"] == "input"
        assert found[name]["type"] == "csv"
        assert found[name]["missing"] == pytest.approx(values.count("") / len(values))
        assert found[name]["examples"] == list(dict.fromkeys(value for value in values if value))[:3]
    assert [found[name]["kind"] for name in tiny_models.COLUMNS] == ["numeric"] * 3 + ["categorical"]
    length = [float(value) for value in columns["length"] if value]
    assert found["length"]["imputed"] == pytest.approx(np.median(length))
    assert found["colour"]["categories"] == 3
    counts = {name: columns["colour"].count(name) for name in tiny_models.COLOURS}
    assert found["colour"]["imputed"] == max(counts, key=lambda name: counts[name])
    assert [found[name]["role"] for name in ("y", "group_region")] == ["label", "group"]


def test_columns_that_are_no_input_are_named(tmp_path: Path) -> None:
    """A column of the file that the config leaves out is named, and so are label and groups."""
    config = table(tmp_path)
    prepared = prepare(load_config(config), config.parent, Notices())
    assert prepared.reference.table is not None
    names = np.array([f"i{row}" for row in range(300)], dtype=object)
    prepared.reference.table.columns["id"] = TableColumn(names, "text")
    summary = summarise(prepared)
    unused = [column for column in summary["columns"] if column["role"] == "unused"]
    assert [(column["name"], column["examples"]) for column in unused] == [("id", ["i0", "i1", "i2"])]
    text = printed(summary)
    assert "not used by the model: id" in text
    assert "the label: y" in text
    assert "groups: group_region" in text


def test_classes_have_their_shares_in_logit_order(tmp_path: Path) -> None:
    """The classes come in the order of the outputs, with their shares of both parts."""
    summary = understood(tiny_models.write(tmp_path, "tensor"))
    y = np.load(tmp_path / "train.npz")["y"]
    assert [each["name"] for each in summary["classes"]] == list(tiny_models.CLASSES)
    assert [each["train"] for each in summary["classes"]] == pytest.approx((np.bincount(y) / len(y)).tolist())
    assert sum(each["calibration"] or 0 for each in summary["classes"]) == pytest.approx(1)
    assert "3 classes, in the order of the outputs" in printed(summary)


def test_images_are_told_by_their_range(tmp_path: Path) -> None:
    """The range of images of 0 to 255 is printed as in the file and as the model gets them."""
    config = tiny_models.write(tmp_path, "image")
    for name in ("train.npz", "heldout.npz"):
        arrays = dict(np.load(tmp_path / name))
        np.savez(tmp_path / name, **{**arrays, "x": (arrays["x"] * 255).astype(np.uint8)})
    summary = understood(config)
    x = np.load(tmp_path / "train.npz")["x"]
    found = summary["input"]
    assert (found["kind"], found["shape"], found["type"]) == ("image", [1, 6, 6], "uint8")
    assert (found["minimum"], found["maximum"]) == pytest.approx((x.min() / 255, x.max() / 255))
    assert found["mean"] == pytest.approx(x.mean() / 255, rel=1e-5)
    assert summary["columns"] == []
    assert "input: image of shape [1, 6, 6], uint8 in the file" in printed(summary)


def test_the_model_is_told(tmp_path: Path) -> None:
    """The model has its parameters, its weights, its features and its outputs."""
    model = {"builder": "tiny_models:tensor_net", "weights": "w.safetensors", "features": "body", "device": "cpu"}
    summary = understood(tiny_models.write(tmp_path, "tensor", model=model))
    save_file(tiny_models.tensor_net().state_dict(), tmp_path / "w.safetensors")
    found = summary["model"]
    assert found["parameters"] == sum(each.numel() for each in tiny_models.tensor_net().parameters())
    assert (found["weights"], found["feature_layer"], found["feature_width"]) == (
        "w.safetensors",
        "output of layer 'body'",
        8,
    )
    assert (found["outputs"], found["output"], found["device"]) == (3, "logits", "cpu")
    binary = {"builder": "tiny_models:binary_net", "device": "cpu", "classes": ["no", "yes"]}
    config = tiny_models.write(tmp_path, "tensor", model=binary)
    for name in ("train.npz", "heldout.npz"):
        arrays = dict(np.load(tmp_path / name))
        np.savez(tmp_path / name, **{**arrays, "y": arrays["y"] % 2})
    assert understood(config)["model"]["output"] == "one logit"


@pytest.mark.parametrize("width", [80, 120])
def test_wide_tables_are_cut_and_counted(tmp_path: Path, width: int) -> None:
    """Of hundreds of columns and classes the first are printed, the rest counted, and no line is too long."""
    summary = understood(table(tmp_path))
    first, classes = summary["columns"][0], summary["classes"][0]
    summary["columns"] = [{**first, "name": f"a_rather_long_name_{i}", "examples": ["x" * 60] * 3} for i in range(300)]
    summary["classes"] = [{**classes, "name": f"class_{i}"} for i in range(500)]
    text = printed(summary, width)
    assert "and 260 more columns" in text
    assert "and 480 more" in text
    assert max(map(len, text.splitlines())) <= width
    assert len(text.splitlines()) < 400
    assert "a_rather" in text


def test_text_of_files_is_printed_as_it_is(tmp_path: Path) -> None:
    """Values that look like markup or hold line breaks are printed, and not obeyed."""
    summary = understood(table(tmp_path))
    summary["columns"][0]["examples"] = ["[red]", "[/bold]", "a\nb"]
    text = printed(summary)
    assert "[red], [/bold], 'a\\nb'" in text


def values(seed: int = 0, count: int = 400, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(count, generator=generator)
    return value, value + noise * torch.randn(count, generator=generator)


def test_accuracy_is_scikit_learns() -> None:
    """Accuracy and the majority's share are what a count by hand gives."""
    logits = torch.randn((200, 3), generator=torch.Generator().manual_seed(0))
    y = torch.randint(3, (200,), generator=torch.Generator().manual_seed(1))
    found = quality(Labelled(logits, y), tiny_models.CLASSES)
    assert found is not None
    assert found.value == sklearn.metrics.accuracy_score(y, logits.argmax(1))
    assert found.rival == y.bincount().max().item() / 200
    assert found.rival_name == tiny_models.CLASSES[int(y.bincount().argmax())]
    assert found.interval[0] < found.value < found.interval[1]


def test_r2_and_rmse_are_scikit_learns() -> None:
    """R2 and both RMSEs are what scikit-learn gives."""
    value, y = values()
    found = quality(Labelled(value[:, None], y), ())
    assert found is not None
    assert found.value == pytest.approx(sklearn.metrics.r2_score(y, value))
    assert found.rmse == pytest.approx(sklearn.metrics.root_mean_squared_error(y, value))
    assert found.rival_rmse == pytest.approx(y.std(correction=0).item())
    assert quality(Labelled(value[:, None], torch.ones(400)), ()) is None
    assert quality(Labelled(value[:, None], None), ()) is None
    perfect = quality(Labelled(y[:, None], y), ())
    assert perfect is not None
    assert (perfect.value, perfect.rmse, perfect.rmse_interval) == (1.0, 0.0, (0.0, 0.0))


@pytest.mark.parametrize("count", [100, 400])
def test_intervals_of_r2_and_rmse_cover_the_truth(count: int) -> None:
    """In 19 of 20 samples the interval of R2 holds the true R2, and the interval of the RMSE the true RMSE."""
    r2 = rmse = 0
    for seed in range(600):
        value, y = values(seed, count, noise=0.7)
        found = quality(Labelled(value[:, None], y), ())
        assert found is not None
        assert found.rmse_interval is not None
        r2 += found.interval[0] <= 1 - 0.49 / 1.49 <= found.interval[1]
        rmse += found.rmse_interval[0] <= 0.7 <= found.rmse_interval[1]
    assert 0.92 < r2 / 600 < 0.98
    assert 0.92 < rmse / 600 < 0.98


def test_quality_is_printed_and_written() -> None:
    """The accuracy on both parts is printed beside its baseline, and a part without labels is named as such."""
    value, y = values()
    found: dict[str, Quality | None] = {"train": quality(Labelled(value[:, None], y), ()), "calibration": None}
    console = Console(file=io.StringIO(), width=120, record=True)
    show_quality(found, {"train": 9000, "calibration": 10}, console)
    text = console.export_text()
    assert "400 of 9,000" in text
    assert "no labels" in text
    assert "the mean's RMSE" in text
    assert found["train"] is not None
    assert accuracies(found)["calibration"] is None
    assert (accuracies(found)["train"] or {})["value"] == found["train"].value
    silent = Console(file=io.StringIO(), width=120, record=True)
    show_quality({"train": None, "calibration": None}, {"train": 1, "calibration": 1}, silent)
    assert silent.export_text() == ""
