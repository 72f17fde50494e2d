"""Arrays of .npz files to rows, and the sentence for everything that is wrong with one."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys

from guards import Mistake
from guards.config import parse
from guards.data.npz import read_npz, rows_from_npz, table_of_npz
from guards.data.rows import load_rows
from guards.schema import InputSpec

NAN = math.nan


def spec(*columns: dict[str, Any], kind: str = "tabular") -> InputSpec:
    return InputSpec.model_validate({"kind": kind, "columns": columns})


def numeric(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "kind": "numeric", **keys}


def categorical(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "kind": "categorical", **keys}


def objects(*values: object) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def test_npz_is_read(tmp_path: Path) -> None:
    """Rows, class indices and groups are read; other arrays are left alone."""
    made = toys.rows("tensor", 20)
    assert made.y is not None
    groups = np.array(made.groups["region"])
    np.savez(tmp_path / "r.npz", x=made.x.numpy(), y=made.y.numpy(), group_region=groups, note=np.array("hello"))
    rows = load_rows(tmp_path / "r.npz", parse(toys.document("tensor")), toys.schema("tensor"), toys.CLASSES)
    assert rows.x.tolist() == made.x.tolist()
    assert rows.y is not None
    assert rows.y.tolist() == made.y.tolist()
    assert rows.groups == made.groups


def arrays(**values: Any) -> dict[str, Any]:
    return {"x": np.zeros((3, 5), np.float32), **values}


def rows_of(kind: str, *, classes: tuple[str, ...] = toys.CLASSES, **values: Any) -> Any:
    return rows_from_npz(values, toys.schema(kind), classes=classes, path=Path("r.npz"))


def test_bytes_of_images_are_divided_by_255() -> None:
    """uint8 pictures are scaled to [0, 1], floats are taken as they are."""
    x = np.arange(36, dtype=np.uint8).reshape(1, 1, 6, 6) * 7
    scaled = rows_of("image", x=x).x
    assert scaled.numpy() == pytest.approx(x / 255)
    assert np.array_equal(rows_of("image", x=scaled.numpy()).x.numpy(), scaled.numpy())
    assert rows_of("tensor", x=np.full((2, 5), 255, np.uint8)).x.max() == 255
    with refused("image values reach from 0 to 245; scale them to [0, 1] or give uint8"):
        rows_of("image", x=x.astype(np.float32))


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([0, 2, 1]), [0, 2, 1]),
        (np.array([[0], [2], [1]]), [0, 2, 1]),
        (np.array([0, 2, 1], np.uint8), [0, 2, 1]),
        (np.array(["ant", "cat", "bee"]), [0, 2, 1]),
        (np.array([b"ant", b"cat", b"bee"]), [0, 2, 1]),
        (np.array([False, True, True]), [0, 1, 1]),
    ],
)
def test_labels_of_npz(y: Any, expected: list[int]) -> None:
    """Labels are class indices or names, in one column or flat."""
    assert rows_of("tensor", **arrays(y=y)).y.tolist() == expected


def test_values_of_npz() -> None:
    """A regression's labels are numbers of any type."""
    for y in (np.array([1, 2, 3]), np.array([[1.0], [2.0], [3.0]])):
        assert rows_of("tensor", classes=(), **arrays(y=y)).y.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "values", "sentence"),
    [
        ({}, {"x": np.zeros((3, 4))}, "a row of `x` has shape [4], the config's input has [5]"),
        ({}, arrays(y=np.array([0.0, 1.0, 2.0])), "`y` holds float64; it needs class indices or names"),
        ({}, arrays(y=np.array([0, 1, 3])), "`y` reaches from 0 to 3, but there are 3 classes"),
        ({}, arrays(y=np.array([0, 1, -1])), "`y` reaches from -1 to 1, but there are 3 classes"),
        ({}, arrays(y=np.array(["ant", "dog", "bee"])), "row 1: 'dog' is none of the classes"),
        ({}, arrays(y=np.zeros((3, 2), int)), "`y` has shape [3, 2]; it needs one entry per row"),
        ({"classes": ()}, arrays(y=np.array([0, 1, NAN])), "`y` holds float64, or is not finite; a regression"),
        ({"classes": ()}, arrays(y=np.array(["a", "b", "c"])), "`y` holds <U1, or is not finite; a regression"),
    ],
)
def test_npz_that_does_not_fit(options: Any, values: Any, sentence: str) -> None:
    """A shape or a label that does not fit is refused in a sentence."""
    with refused(sentence):
        rows_of("tensor", **options, **values)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"y": np.zeros(3)}, "it has no rows under `x`; there are ['y']"),
        ({"x": np.zeros((0, 5))}, "it has no rows under `x`; there are ['x']"),
        ({"x": np.array(3.0)}, "it has no rows under `x`; there are ['x']"),
        ({"x": np.array(["a", "b"])}, "`x` holds <U1, not numbers"),
        ({"x": np.zeros((3, 5), complex)}, "`x` holds complex128, not numbers"),
        (arrays(y=np.zeros(2)), "`y` has shape [2] for 3 rows"),
        (arrays(y=np.array(1)), "`y` has shape [] for 3 rows"),
        (arrays(group_a=np.array(["f"])), "`group_a` has shape [1] for 3 rows"),
    ],
)
def test_npz_without_sound_arrays(tmp_path: Path, content: dict[str, Any], sentence: str) -> None:
    """No rows, rows that are no numbers, and labels or groups of another length are refused."""
    np.savez(tmp_path / "r.npz", **content)
    with refused(sentence):
        read_npz(tmp_path / "r.npz")


def test_broken_npz(tmp_path: Path) -> None:
    """A file that is missing, no archive, damaged, a bare array or full of Python objects is refused in a sentence."""
    path = tmp_path / "r.npz"
    with refused("r.npz: no such file"):
        read_npz(path)
    np.savez(path, x=np.random.default_rng(0).random((50, 50)))
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    for content in (b"", b"nonsense", whole[:-20], whole[: len(whole) // 2], bytes(damaged)):
        path.write_bytes(content)
        with refused("r.npz: cannot be read as .npz: "):
            read_npz(path)
    np.savez(path, x=objects({"a": 1}, None))
    with refused("cannot be read as .npz: Object arrays cannot be loaded"):
        read_npz(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros((3, 5)))
    with refused("it is a single array; save it with numpy.savez"):
        read_npz(path)


def test_table_in_an_npz() -> None:
    """A table's x holds numbers and category indices; what is no index is an unseen category."""
    x = np.array([[1, 2, 3, 0], [NAN, 2, 3, 2], [1, 2, 3, NAN], [1, 2, 3, 7], [1, 2, 3, 0.5], [1, 2, 3, -1]])
    rows = rows_of("tabular", x=x)
    assert np.array_equal(rows.x[:, 3].numpy(), [0, 2, NAN, -1, -1, -1], equal_nan=True)
    assert np.array_equal(rows.x[:, :3].numpy(), x[:, :3], equal_nan=True)
    with refused("r.npz, row 1, column mass: NaN, Infinity and numbers beyond float32"):
        rows_of("tabular", x=np.array([[0, 0, 0, 0], [0, 1e39, 0, 0]]))


def test_columns_of_an_npz() -> None:
    """Declared columns name those of x; undeclared ones are numbered; indices become categories."""
    x = np.array([[1.5, 0], [2.5, 1], [NAN, 9]])
    given = spec(numeric("a"), categorical("b", categories=["u", "v"]))
    table = table_of_npz({"x": x}, given, Path("r.npz"))
    assert np.array_equal(table.columns["a"].cells, x[:, 0], equal_nan=True)
    assert list(table.columns["b"].cells) == ["u", "v", None]
    assert set(table_of_npz({"x": x, "y": np.ones(3)}, spec(), Path("r.npz")).columns) == {"x0", "x1"}
    with refused("r.npz: `x` has shape [3, 2]; a table needs (rows, 1)"):
        table_of_npz({"x": x}, spec(numeric("a")), Path("r.npz"))
    with refused("r.npz: `x` has shape [3]; a table needs (rows, columns)"):
        table_of_npz({"x": x[:, 0]}, spec(), Path("r.npz"))
    with refused("input.columns.1: an .npz holds category indices; declare `categories`"):
        table_of_npz({"x": x}, spec(numeric("a"), categorical("b")), Path("r.npz"))
