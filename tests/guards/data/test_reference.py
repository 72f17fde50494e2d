"""The reference of a config: its label in every kind of file, and the scale of its calibration rows."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
import yaml

from guards import Mistake
from guards.config.load import load_config
from guards.data.reference import ReferenceFile, read_reference, read_rows
from guards.notices import Notices


def reference(config: Path, **changes: Any) -> tuple[ReferenceFile, Notices]:
    document = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(document | changes))
    notices = Notices()
    return read_reference(load_config(config), config.parent, notices), notices


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "parquet", "feather", "npz"])
def test_a_label_that_is_not_there_is_refused_in_every_kind_of_file(suffix: str, tmp_path: Path) -> None:
    """A `reference.label` that the file does not have is refused, and what is there is listed."""
    config = tiny_models.write(
        tmp_path, "tabular", reference={"path": "train.csv", "calibration": "heldout.csv", "label": "y"}
    )
    frame, path = pd.read_csv(tmp_path / "train.csv"), tmp_path / f"t.{suffix}"
    if suffix in ("parquet", "feather"):
        getattr(frame, f"to_{suffix}")(path)
    elif suffix == "npz":
        np.savez(path, x=np.zeros((5, 4)), y=np.zeros(5, int))
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    found, _ = reference(config, reference={"path": path.name, "label": "y"})
    assert found.path == path
    what = "array" if suffix == "npz" else "column"
    with pytest.raises(Mistake, match=re.escape(f"reference.label: no {what} 'outcome' in {path}; there are [")):
        reference(config, reference={"path": path.name, "label": "outcome"})


def test_of_many_columns_those_like_the_label_are_listed(tmp_path: Path) -> None:
    """If a table is wide, the names that are most like the label's are listed first, and the others counted."""
    config = tiny_models.write(tmp_path, "tabular", reference={"path": "train.csv", "label": "outcome"})
    names = [*(f"pixel{index}" for index in range(500)), "Outcomes"]
    pd.DataFrame([range(501)], columns=names).to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(Mistake, match=r"there are \['Outcomes', .*\] and 481 more columns") as refused:
        reference(config)
    assert len(str(refused.value)) < 1000


def test_a_table_without_labels_is_said(tmp_path: Path) -> None:
    """A table without labels can be read if all its columns are declared and no label is, and a note says so."""
    config = tiny_models.write(tmp_path, "tabular", reference={"path": "train.csv", "label": "y"})
    pd.read_csv(tmp_path / "train.csv").drop(columns="y").to_csv(tmp_path / "t.csv", index=False)
    found, notices = reference(config, reference={"path": "t.csv"})
    assert found.classes == tiny_models.CLASSES
    assert any("no column 'y'" in note and note.endswith("the rows are read without labels") for note in notices.notes)
    with pytest.raises(Mistake, match=r"reference\.label: no column 'y'"):
        reference(config, input={"kind": "tabular"})


def test_an_npz_names_the_array_of_its_labels(tmp_path: Path) -> None:
    """`reference.label` is the name of the array of labels, and names of classes are found in that array."""
    config = tiny_models.write(tmp_path, "tensor", model={"builder": "tiny_models:tensor_net"})
    np.savez(tmp_path / "t.npz", x=np.zeros((3, 5)), kind=np.array([b"bee", b"cat", b"ant"]))
    found, notices = reference(config, reference={"path": "t.npz", "label": "kind"})
    assert found.classes == tiny_models.CLASSES
    assert notices == Notices()


@pytest.mark.parametrize("kind", ["image", "tensor"])
@pytest.mark.parametrize("name", ["t.csv", "t.npy", "t.parquet", "parts"])
def test_rows_that_are_no_table_come_as_npz(kind: str, name: str, tmp_path: Path) -> None:
    """Images and tensors come as .npz; another file and a missing file are refused."""
    config = tiny_models.write(tmp_path, kind)
    with pytest.raises(Mistake, match=f"{name}: no such file"):
        reference(config, reference={"path": name})
    (tmp_path / name).mkdir() if name == "parts" else (tmp_path / name).touch()
    with pytest.raises(Mistake, match=rf"reference\.path: rows of kind {kind} come as \.npz \(numpy\.savez"):
        reference(config, reference={"path": name})


def test_calibration_rows_on_another_scale_are_warned_of(tmp_path: Path) -> None:
    """Calibration rows that were not scaled as the reference's rows were are warned of."""
    config = tiny_models.write(tmp_path, "tensor")
    for factor, expected in ((1, 0), (255, 1)):
        with np.load(tmp_path / "heldout.npz") as file:
            np.savez(tmp_path / "other.npz", **{**file, "x": file["x"] * factor})
        found, notices = reference(config, reference={"path": "train.npz", "calibration": "other.npz"})
        read_rows(
            found, load_config(config), tmp_path, notices, schema=found.readings[0].sure(), classes=tiny_models.CLASSES
        )
        assert len(notices.warnings) == expected
        assert all("other.npz: 90 % of the values lie from" in warning for warning in notices.warnings)


@pytest.mark.parametrize("kind", ["image", "tabular"])
def test_equal_rows_are_warned_of(kind: str, tmp_path: Path) -> None:
    """If all rows for fitting are equal, such as black images or missing values, a warning says so; else none does."""
    config = tiny_models.write(tmp_path, kind)
    with np.load(tmp_path / "train.npz") as file:
        arrays = dict(file)
    for expected in (0, 1):
        np.savez(tmp_path / "t.npz", **arrays)
        found, notices = reference(config, reference={"path": "t.npz", "calibration": "heldout.npz"})
        schema = tiny_models.schema(kind)
        read_rows(found, load_config(config), tmp_path, notices, schema=schema, classes=tiny_models.CLASSES)
        said = [warning for warning in notices.warnings if f"all {len(arrays['x'])} rows are equal" in warning]
        assert len(said) == expected
        arrays["x"] = np.full_like(arrays["x"], 0.0 if kind == "image" else np.nan)


@pytest.mark.parametrize("name", ["train.npz", "heldout.npz"])
def test_a_fit_takes_no_rows_that_a_server_refuses(name: str, tmp_path: Path) -> None:
    """A value that is not finite is refused in the rows for fitting and for calibration."""
    config = tiny_models.write(tmp_path, "tensor")
    with np.load(tmp_path / name) as file:
        arrays = dict(file)
    arrays["x"][7, 2] = np.nan
    np.savez(tmp_path / name, **arrays)
    found, notices = reference(config)
    with pytest.raises(Mistake, match=re.escape(f"{name}, row 7, place [2]: the value is nan in float32")):
        read_rows(
            found, load_config(config), tmp_path, notices, schema=found.readings[0].sure(), classes=tiny_models.CLASSES
        )


@pytest.mark.parametrize(("shape", "expected"), [([9, 9, 3], 1), ([3, 9, 9], 0), ([8, 100, 1], 0), ([4, 4, 4], 0)])
def test_a_shape_with_channels_last_is_warned_of(shape: list[int], expected: int, tmp_path: Path) -> None:
    """A config whose image has its channels last is warned of."""
    config = tiny_models.write(tmp_path, "image")
    _, notices = reference(config, input={"kind": "image", "shape": shape})
    assert len(notices.warnings) == expected
    assert all("looks like channels last; channels come first: write [3, 9, 9]" in each for each in notices.warnings)
