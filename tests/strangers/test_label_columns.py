"""Labels and their order: numbers sort as numbers, names as names, in every kind of file."""

import numpy as np
import pandas as pd
import pytest
from newcomers import SIZES, Newcomer, mlp, numbers, tensors, train_input

TABLE = numbers("length", "mass", "age")
SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".parquet"])


def labelled(newcomer: Newcomer, classes: tuple[object, ...], *, suffix: str = ".csv", outputs: int = 0) -> None:
    """Write a table whose labels are ``classes`` in the order of the model's outputs."""
    net = newcomer.build(mlp(3, outputs or len(classes)), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=classes, suffix=suffix)
    newcomer.config(model={"weights": newcomer.weights(net)})


@SUFFIXES
def test_minus_one_comes_before_one(newcomer: Newcomer, suffix: str) -> None:
    """Labels -1 and 1 are ordered as numbers."""
    labelled(newcomer, (-1, 1), suffix=suffix, outputs=1)
    newcomer.expect(read=True)


@SUFFIXES
def test_negative_labels_are_ordered_as_numbers(newcomer: Newcomer, suffix: str) -> None:
    """Labels -10, -2, 0 and 3 are ordered as numbers."""
    labelled(newcomer, (-10, -2, 0, 3), suffix=suffix)
    newcomer.expect(read=True)


@SUFFIXES
def test_labels_with_a_point_are_ordered_as_numbers(newcomer: Newcomer, suffix: str) -> None:
    """Labels 2.0 and 10.0, which a missing label made floats, are ordered as numbers."""
    labelled(newcomer, (2.0, 10.0), suffix=suffix)
    newcomer.expect(read=True)


def test_twelve_labels_are_ordered_as_numbers(newcomer: Newcomer) -> None:
    """Labels 0 to 11 are ordered as numbers."""
    labelled(newcomer, tuple(range(12)))
    newcomer.expect(read=True)


def test_text_labels_that_are_numbers_are_ordered_as_numbers(newcomer: Newcomer) -> None:
    """Strings "2" and "10" of a Parquet file are ordered as numbers, as in a CSV; or the order must be declared."""
    labelled(newcomer, ("2", "10", "30"), suffix=".parquet")
    newcomer.expect(read=True, refused=r"order|classes", warned=r"order|classes")


@pytest.mark.parametrize("classes", [("class 2", "class 10"), ("<5", "5-10", ">10")])
def test_names_with_numbers_in_them_are_declared_or_warned_of(newcomer: Newcomer, classes: tuple[str, ...]) -> None:
    """An order that only a reader knows ("class 2" before "class 10") is asked for, or shows in the accuracy."""
    labelled(newcomer, classes)
    newcomer.expect(read=True, refused=r"order|classes", warned=r"order|classes")


def test_names_in_mixed_case_are_sorted_as_scikit_learn_does(newcomer: Newcomer) -> None:
    """Labels are sorted by code points, capitals first, as LabelEncoder does; or the order is asked for."""
    labelled(newcomer, ("Bee", "Cat", "ant"))
    newcomer.expect(read=True, refused=r"order|classes", warned=r"order|classes")


@SUFFIXES
def test_truth_values_are_labels(newcomer: Newcomer, suffix: str) -> None:
    """Labels False and True of a binary model are false first."""
    labelled(newcomer, (False, True), suffix=suffix, outputs=1)
    newcomer.expect(read=True)


def test_seven_is_seven_in_every_file(newcomer: Newcomer) -> None:
    """A training file with 7.0 and a test file with 7 have the same label."""
    labelled(newcomer, (3.0, 7.0))
    path = newcomer.folder / "test.csv"
    frame = pd.read_csv(path)
    frame.assign(y=frame["y"].astype(int)).to_csv(path, index=False)
    newcomer.expect(read=True)


@SUFFIXES
def test_label_column_that_is_not_there_is_refused(newcomer: Newcomer, suffix: str) -> None:
    """A misspelt reference.label is an error, even if all columns are declared."""
    net = newcomer.build(mlp(3, 2), train_input(TABLE))
    newcomer.tables(net, TABLE, suffix=suffix)
    columns = [{"name": name, "kind": "numeric"} for name in ("length", "mass", "age")]
    newcomer.config(
        model={"weights": newcomer.weights(net), "classes": ["no", "yes"]},
        input={"columns": columns},
        reference={"label": "target"},
    )
    newcomer.expect(refused=r"label.*target")


def test_label_that_the_calibration_file_lacks_is_refused(newcomer: Newcomer) -> None:
    """A calibration file whose label column has another name is an error, and not a file without labels."""
    labelled(newcomer, ("no", "yes"))
    path = newcomer.folder / "heldout.csv"
    path.write_text(path.read_text().replace("age,y", "age,label", 1))
    newcomer.expect(refused=r"heldout\.csv.*'y'|label")


def test_missing_labels_are_named(newcomer: Newcomer) -> None:
    """Rows without a label name the file and a row."""
    labelled(newcomer, ("no", "yes"))
    path = newcomer.folder / "train.csv"
    lines = path.read_text().splitlines()
    lines[41] = lines[41].rsplit(",", 1)[0] + ","
    path.write_text("\n".join(lines) + "\n")
    newcomer.expect(refused=r"train\.csv.*(row 40|line 42)")


def test_label_only_the_calibration_file_has_is_named(newcomer: Newcomer) -> None:
    """A label of the calibration rows that training never saw is named with its row."""
    labelled(newcomer, ("no", "yes"))
    path = newcomer.folder / "heldout.csv"
    path.write_text(path.read_text().replace(",yes\n", ",maybe\n", 1))
    newcomer.expect(refused=r"heldout\.csv.*maybe")


def test_full_stop_behind_the_labels_of_the_test_file_is_named(newcomer: Newcomer) -> None:
    """Labels of a test file that end in a full stop, as in a census file, are no classes, and the notice names them."""
    labelled(newcomer, ("<=50K", ">50K"))
    path = newcomer.folder / "heldout.csv"
    path.write_text(path.read_text().replace("50K\n", "50K.\n"))
    newcomer.expect(refused=r"heldout\.csv.*50K\.")


def test_labels_in_two_letter_cases_are_named(newcomer: Newcomer) -> None:
    """Labels "Yes" and "yes" make three labels for a model of two outputs: the labels are listed."""
    labelled(newcomer, ("no", "yes"))
    path = newcomer.folder / "train.csv"
    path.write_text(path.read_text().replace(",yes\n", ",Yes\n", 40))
    newcomer.expect(refused=r"Yes", warned=r"Yes")


# Labels of arrays


def arrayed(newcomer: Newcomer, classes: tuple[object, ...], **more: object) -> None:
    """Write tensors whose labels are ``classes`` in the order of the model's outputs."""
    clean = tensors(4)
    net = newcomer.build(mlp(4, len(classes)), clean(500, 1))
    newcomer.arrays(net, clean, classes=classes, **more)
    reference = {"label": more["label"]} if "label" in more else {}
    newcomer.config(
        model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [4]}, reference=reference
    )


def test_class_indices_as_floats_are_read_or_refused(newcomer: Newcomer) -> None:
    """Labels 0.0, 1.0, 2.0 of an .npz are the class indices 0, 1, 2, or refused with their type."""
    arrayed(newcomer, (0, 1, 2), dress_y=lambda y: y.astype(np.float64))
    newcomer.expect(read=True, refused=r"`?y`?.*float")


def test_names_that_are_numbers_are_ordered_in_arrays_too(newcomer: Newcomer) -> None:
    """Strings "2.0" and "10.0" of an .npz are ordered as numbers, as in a CSV."""
    arrayed(newcomer, ("2.0", "10.0"))
    newcomer.expect(read=True, refused=r"order|classes", warned=r"order|classes")


def test_minus_one_and_one_are_ordered_in_arrays_too(newcomer: Newcomer) -> None:
    """Strings "-1" and "1" of an .npz are ordered as numbers."""
    arrayed(newcomer, ("-1", "1"))
    newcomer.expect(read=True)


def test_names_as_bytes_are_read(newcomer: Newcomer) -> None:
    """Labels of type S3 are names."""
    arrayed(newcomer, ("ant", "bee", "cat"), dress_y=lambda y: y.astype("S3"))
    newcomer.expect(read=True)


def test_labels_from_one_are_refused(newcomer: Newcomer) -> None:
    """Labels 1 to 3 of an .npz are no class indices of three classes: refused with both numbers, or read."""
    arrayed(newcomer, (1, 2, 3))
    newcomer.expect(read=True, refused=r"\b1\b.*\b3\b")


def test_labels_from_one_with_an_output_to_spare_are_warned_of(newcomer: Newcomer) -> None:
    """Labels 1 to 3 with a model of three outputs and declared classes 0 to 3 are caught by their number."""
    arrayed(newcomer, (1, 2, 3))
    newcomer.config(
        model={"weights": "model.safetensors", "classes": ["a", "b", "c", "d"]}, input={"kind": "tensor", "shape": [4]}
    )
    newcomer.expect(refused=r"classes|outputs|shape")


def test_negative_labels_of_arrays_are_refused(newcomer: Newcomer) -> None:
    """Labels -1 and 1 of an .npz are no class indices: refused with both numbers, or read."""
    arrayed(newcomer, (-1, 1))
    newcomer.expect(read=True, refused=r"-1\b.*\b1\b")


def test_one_hot_labels_are_refused(newcomer: Newcomer) -> None:
    """Labels (n, 3) of zeros and ones are refused with their shape, or read as one-hot."""
    arrayed(newcomer, (0, 1, 2), dress_y=lambda y: np.eye(3, dtype=np.float32)[y])
    newcomer.expect(read=True, refused=r"one-hot|\[500, 3\]")


def test_label_array_of_another_name_is_read(newcomer: Newcomer) -> None:
    """`reference.label: target` names the label's array of an .npz."""
    arrayed(newcomer, (0, 1, 2), label="target")
    newcomer.expect(read=True)


def test_label_array_that_is_not_there_is_refused(newcomer: Newcomer) -> None:
    """A misspelt reference.label of an .npz is an error."""
    arrayed(newcomer, (0, 1, 2))
    newcomer.config(
        model={"weights": "model.safetensors"},
        input={"kind": "tensor", "shape": [4]},
        reference={"label": "labels"},
    )
    newcomer.expect(refused=r"label.*labels|labels.*label")


def test_regression_with_numbers_in_text_is_read(newcomer: Newcomer) -> None:
    """A regression's target in a Parquet file of strings is a number, or refused with its column."""
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=None, suffix=".parquet")
    for part in SIZES:
        path = newcomer.folder / f"{part}.parquet"
        frame = pd.read_parquet(path)
        frame.assign(y=frame["y"].map(repr)).to_parquet(path)
    newcomer.config(model={"weights": newcomer.weights(net), "task": "regression"})
    newcomer.expect(read=True, refused="label|'y'")


def test_regression_that_is_served_as_a_classifier_is_noticed(newcomer: Newcomer) -> None:
    """A forgotten `task: regression` makes three hundred labels of numbers, and a notice names `task`."""
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=None)
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused=r"task|regression|classes", warned=r"task|regression")
