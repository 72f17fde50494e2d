"""A config's model and files together: which columns of the file the model gets."""

import csv
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from guards import Mistake
from guards.bundle.preparation import Prepared, prepare
from guards.config.load import load_config
from guards.notices import Notices

LISTED = [{"name": name, "kind": "numeric"} for name in tiny_models.COLUMNS[:3]]
COLOUR = {"name": "colour", "kind": "categorical", "categories": list(tiny_models.COLOURS)}
FILES = {"path": "train.csv", "calibration": "heldout.csv"}


def prepared(folder: Path, *, columns: list[dict[str, Any]], builder: str, **keys: Any) -> tuple[Prepared, Notices]:
    """Prepare the toy of tables whose files have the two columns ``more`` and ``notes`` besides its own."""
    model = {"builder": f"tiny_models:{builder}", "classes": list(tiny_models.CLASSES), "device": "cpu"}
    given = {"kind": "tabular", "columns": columns, **keys}
    path = tiny_models.write(folder, "tabular", model=model, input=given, reference=FILES)
    for name in FILES.values():
        with (folder / name).open(newline="") as file:
            header, *rows = csv.reader(file)
        with (folder / name).open("w", newline="") as file:
            write = csv.writer(file)
            write.writerow(["notes", *header, "more"])
            write.writerows([f"text {index}", *row, index % 7] for index, row in enumerate(rows))
    notices = Notices()
    return prepare(load_config(path), folder, notices), notices


def test_the_model_tells_that_the_list_is_all_that_it_gets(tmp_path: Path) -> None:
    """A list of some columns counts as all columns if the model takes that many alone, and a note says so."""
    made, notices = prepared(tmp_path, columns=[*LISTED, COLOUR], builder="tolerant_net")
    assert made.schema.names == tiny_models.COLUMNS
    assert made.train.x.shape == (300, 4)
    assert any(
        "the model takes the 4 columns that input.columns lists and not the rest" in note for note in notices.notes
    )
    assert any('["notes", "more"]' in note for note in notices.notes)
    assert notices.warnings == []


def test_the_model_tells_that_the_rest_is_input_too(tmp_path: Path) -> None:
    """A list of some columns overrides these alone if the model takes all that the file has."""
    columns = [{"name": "notes", "drop": True}, {"name": "more", "drop": True}, {"name": "age", "scale": 0.5}]
    made, _ = prepared(tmp_path, columns=columns, builder="tolerant_net")
    assert made.schema.names == tiny_models.COLUMNS
    assert [column.scale for column in made.schema.columns] == [None, None, 0.5, None]
    assert made.schema.columns[3].categories == tiny_models.COLOURS


def test_a_list_that_could_mean_two_things_is_refused(tmp_path: Path) -> None:
    """If the model takes the listed columns, and all of them, the config has to say which; then it is done."""
    columns = [*LISTED, COLOUR]
    with pytest.raises(
        Mistake, match=r"^input.columns: the list names 4 inputs, the reference has 6, and the model takes"
    ):
        prepared(tmp_path, columns=columns, builder="averaging_net")
    assert (
        prepared(tmp_path, columns=columns, builder="averaging_net", rest="drop")[0].schema.names == tiny_models.COLUMNS
    )
    made, _ = prepared(tmp_path, columns=columns, builder="averaging_net", rest="infer")
    assert made.schema.names == ("notes", *tiny_models.COLUMNS, "more")


def test_a_single_column_that_torch_spreads_is_no_whole_input(tmp_path: Path) -> None:
    """A list of one column overrides that one, if the model takes one only as torch spreads it over all of them."""
    columns = [{"name": "age", "kind": "numeric"}]
    made, _ = prepared(tmp_path, columns=columns, builder="normalising_net")
    assert len(made.schema.columns) == 6
    with pytest.raises(Mistake, match=r"^input.columns: the list names 1 input, the reference has 6, and the model"):
        prepared(tmp_path, columns=columns, builder="averaging_net")


def test_a_model_that_takes_neither_is_refused(tmp_path: Path) -> None:
    """If the model takes neither, the sentence is about all columns, which is what a list of some means."""
    with pytest.raises(Mistake, match=r"it does not take a batch of shape \(4, 6\)") as told:
        prepared(tmp_path, columns=LISTED, builder="tolerant_net")
    assert (
        'was given 6 columns, ["notes", "length", "mass", "age", "colour", "more"], and not the columns ["group'
        in told.value.sentences[-1]
    )


def test_calibration_rows_without_the_label_are_refused(tmp_path: Path) -> None:
    """A calibration file whose label has another name than the reference's is refused."""
    path = tiny_models.write(tmp_path, "tabular", reference=FILES)
    text = (tmp_path / "heldout.csv").read_text()
    (tmp_path / "heldout.csv").write_text(text.replace(",y,", ",label,", 1))
    with pytest.raises(
        Mistake, match=r"heldout.csv: no label 'y', which .*train.csv has; give the label the same name in both files"
    ):
        prepare(load_config(path), tmp_path, Notices())


def test_calibration_rows_of_another_type_are_refused(tmp_path: Path) -> None:
    """A categorical column none of whose calibration values the reference has is refused before anything is fitted."""
    path = tiny_models.write(tmp_path, "tabular", reference=FILES)
    text = (tmp_path / "heldout.csv").read_text()
    for index, colour in enumerate(tiny_models.COLOURS):
        text = text.replace(f",{colour},", f",{index},")
    (tmp_path / "heldout.csv").write_text(text)
    with pytest.raises(Mistake, match=r"heldout.csv: none of the values of column 'colour' is a category"):
        prepare(load_config(path), tmp_path, Notices())


def test_a_scale_is_the_models_alone(tmp_path: Path) -> None:
    """The model gets value * scale, and the rows that guards see are as they are in the file."""
    columns = [{**column, "scale": 10.0} for column in LISTED]
    scaled, _ = prepared(tmp_path, columns=[*columns, COLOUR], builder="tabular_net", rest="drop")
    plain, _ = prepared(tmp_path, columns=[*LISTED, COLOUR], builder="tabular_net", rest="drop")
    assert torch.equal(scaled.train.x.nan_to_num(-9), plain.train.x.nan_to_num(-9))
    whole = ~plain.train.x.isnan().any(1)
    ten = plain.train.x[whole] * torch.tensor([10.0, 10.0, 10.0, 1.0])
    assert torch.equal(scaled.model(plain.train.x[whole]).logits, plain.model(ten).logits)
