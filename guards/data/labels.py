"""Reads the labels of data files: finds their names and their order, and turns each row's label into a number."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from guards.data.distinct_values import Values
from guards.data.name_order import alike, by_value, folded, is_boolean, is_number, other_order
from guards.data.number_columns import numbers_of
from guards.data.table import TableColumn
from guards.data.text_formats import DATE, likeliest
from guards.input.column import check_name
from guards.input.spelling import Spellings, key_of
from guards.notices import Notices
from guards.sentences import as_list, row_numbers
from guards.types import Mistake

__all__ = ["class_names", "indices", "resolve_classes", "targets"]

TWO = 2
MANY_NUMBERS = 100
FEW_ROWS = 10
DECLARE = "list the labels under model.classes in the order of the model's outputs"
REGRESSION = "if the model predicts a number, set model.task to regression; if not, " + DECLARE


def resolve_classes(
    declared: tuple[str, ...] | None, labels: TableColumn | None, *, regression: bool, notices: Notices
) -> tuple[str, ...] | None:
    """Give the class labels: declared by the config, or sorted from the reference; () for a regression.

    None means that only the number of the model's outputs can tell how many classes there are.

    Raises:
        Mistake: the reference's labels cannot name classes, or their order is not sure.
    """
    if regression:
        return ()
    if declared is not None or labels is None:
        return declared
    names = class_names(labels, notices)
    try:
        for name in names:
            check_name(name)
    except ValueError as unnamed:
        raise Mistake(f"reference.label: {unnamed}, or write a missing label as the file's missing value") from None
    if len(names) < TWO:
        found = f"no label but {names[0]!r}" if names else "no labels"
        raise Mistake(f"model.classes: the reference has {found}: list every class, in the order of the outputs")
    return names


def class_names(labels: TableColumn, notices: Notices) -> tuple[str, ...]:
    """Sort the label names of a reference: numbers by value, false before true, texts by code point.

    A number is named by its shortest digits, so that 7.0 is the label "7".

    Raises:
        Mistake: the labels are no classes, or their order is not sure.
    """
    if labels.type in ("nested", "date"):
        raise Mistake(
            f"reference.label: the column holds {labels.type} values, which cannot be labels: name another column"
        )
    values = Values.of(labels)
    names = [str(text) for text in values.texts]
    twins = alike(names)
    if twins is not None:
        raise Mistake(
            f"reference.label: the labels {twins[0]!r} and {twins[1]!r} differ only in how they are written: write "
            f"them in one way in the file, or, if they are two labels, {DECLARE}"
        )
    if names and all(map(is_boolean, names)):
        return by_value(names)
    if labels.categories is not None:
        return _declared_by_the_file(names, labels.categories)
    number = [is_number(name) for name in names]
    if all(number):
        return _numbers(values, labels, notices) if names else ()
    if any(number) and not (all(map(str.isdecimal, names)) and len(set(map(len, names))) == 1):
        other = names[number.index(False)]
        raise Mistake(
            f"reference.label: some labels are numbers, such as {names[number.index(True)]!r}, and some are not, such "
            f"as {other!r}, so that their order is not sure: {DECLARE}; if {other!r} means that a row has no label, "
            "remove these rows from the file"
        )
    return _texts(names, values, notices)


def _numbers(values: Values, labels: TableColumn, notices: Notices) -> tuple[str, ...]:
    fraction = np.array([key_of(text)[1] % 1 != 0 for text in values.texts])  # type: ignore[operator]
    if fraction.any():
        raise Mistake(
            f"reference.label: the labels are numbers with fractions ({values.example(fraction)}), which cannot "
            f"name classes: {REGRESSION}"
        )
    whole = sorted({int(key_of(text)[1]) for text in values.texts})  # type: ignore[call-overload]
    counted = whole[0] in (0, 1) and whole[-1] - whole[0] + 1 == len(whole)
    rows = values.count(np.ones(len(values.texts), dtype=np.bool_))
    if len(whole) > MANY_NUMBERS and not (counted and rows >= FEW_ROWS * len(whole)):
        raise Mistake(
            f"reference.label: {len(whole)} different numbers in {rows} rows look like a regression: {REGRESSION}"
        )
    names = tuple(map(str, whole))
    if labels.type == "text" and tuple(sorted(names)) != names:
        notices.doubt(
            "reference.label: the labels are texts that are numbers, and were sorted by their value, "
            f"{as_list(names)}; sorted as texts, they are {as_list(sorted(names))}: write the order that the model was "
            "trained with under model.classes"
        )
    return names


def _texts(names: list[str], values: Values, notices: Notices) -> tuple[str, ...]:
    form = likeliest(values, np.ones(len(names), dtype=np.bool_))
    if form is not None and form[0] is DATE:
        raise Mistake(
            f"reference.label: the labels look like dates or times ({values.example(form[1])}), which cannot name "
            "classes: name another column"
        )
    if form is not None and not any(map(is_boolean, names)):
        raise Mistake(
            f"reference.label: the labels look like {form[0].what} ({values.example(form[1])}): {form[0].advice}; or, "
            f"if they are names, {DECLARE}"
        )
    ordered, other = tuple(sorted(names)), other_order(names)
    if other is not None:
        notices.doubt(
            f"reference.label: the labels were sorted by the alphabet, {as_list(ordered)}; by their meaning, they are "
            f"{as_list(other)}: write the order that the model was trained with under model.classes"
        )
    return ordered


def _declared_by_the_file(names: list[str], categories: tuple[str, ...]) -> tuple[str, ...]:
    ordered = by_value(names) if all(map(is_number, names)) else tuple(sorted(names))
    if ordered == categories:
        return categories
    raise Mistake(
        f"reference.label: the file lists the labels in the order {as_list(categories)}, and sorted they are "
        f"{as_list(ordered)}: write the order that the model was trained with under model.classes (the codes of pandas "
        f"follow the first order, LabelEncoder of scikit-learn the second)"
    )


def indices(labels: TableColumn, classes: tuple[str, ...], path: Path) -> torch.Tensor:
    """Turn labels into class indices (n,) int64; a label means the class of its name, or of the same number or boolean.

    Raises:
        Mistake: a row has no label, or its label is not one of the classes.
    """
    values, spellings = Values.of(labels), Spellings(classes)
    _all_labelled(values.codes < 0, path)
    index = {name: place for place, name in enumerate(classes)}
    codes = np.empty(len(values.texts), dtype=np.int64)
    for place, text in enumerate(values.texts):
        try:
            name = spellings.name_of(text)
        except ValueError:
            raise Mistake(
                f"{path}, row {values.firsts[place]}: {text!r} could mean two of the classes {as_list(classes)}: write "
                "the label as one of them"
            ) from None
        if name is None:
            raise Mistake(
                f"{path}, row {values.firsts[place]}: {text!r} is none of the classes {as_list(classes)}"
                f"{_hint(str(text), classes)}"
            )
        codes[place] = index[name]
    return torch.from_numpy(codes[values.codes])


def _hint(text: str, classes: tuple[str, ...]) -> str:
    """Say which class a label may mean, although it is not the name of any class."""
    twin = next((name for name in classes if folded(name) == folded(text)), None)
    if twin is not None:
        return f": write {twin!r}, in the same capitals, spaces and Unicode form"
    if text.isdecimal() and int(text) < len(classes) and not any(map(is_number, classes)):
        return ": if the file's numbers are places in this list, from 0, write the names in place of the numbers"
    return ""


def targets(labels: TableColumn, path: Path) -> torch.Tensor:
    """Turn the labels of a regression into values (n,) float32.

    Raises:
        Mistake: a row has no label, or its label is not a finite number.
    """
    numbers = numbers_of(labels, f"{path}, the label", hint="if the labels are names, set model.task to classification")
    _all_labelled(~np.isfinite(numbers), path)
    return torch.tensor(numbers, dtype=torch.float32)


def _all_labelled(absent: npt.NDArray[np.bool_], path: Path) -> None:
    rows = np.flatnonzero(absent)
    if len(rows):
        raise Mistake(
            f"{path}, {row_numbers(rows.tolist())}: no label; remove these rows from the file, or write their labels "
            "into the file"
        )
