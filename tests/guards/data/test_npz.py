"""Arrays of .npz files become rows, or a sentence says what is wrong with the file."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from guards import Mistake
from guards.config.config import parse
from guards.data.npz import read_npz, rows_from_npz, table_of_npz
from guards.data.rows import load_rows
from guards.input.column import Column
from guards.input.schema import InputSchema, InputSpec
from guards.notices import Notices

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
    made = tiny_models.rows("tensor", 20)
    assert made.y is not None
    groups = np.array(made.groups["region"])
    other = {"note": np.array("hello"), "names": objects("not", {"read": 1})}
    np.savez(tmp_path / "r.npz", x=made.x.numpy(), y=made.y.numpy(), group_region=groups, **other)
    notices = Notices()
    config, schema = parse(tiny_models.document("tensor")), tiny_models.schema("tensor")
    rows = load_rows(tmp_path / "r.npz", config, schema, tiny_models.CLASSES, notices)
    assert rows.x.tolist() == made.x.tolist()
    assert rows.y is not None
    assert rows.y.tolist() == made.y.tolist()
    assert rows.groups == made.groups
    assert notices == Notices()


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("name", ["X", "data", "arr_0", "images"])
def test_rows_of_another_name(tmp_path: Path, name: str) -> None:
    """Rows under another usual name are taken with a note, if there is one such array alone."""
    notices = Notices()
    path = saved(tmp_path / "r.npz", **{name: np.ones((3, 5)), "y": np.arange(3)})
    assert read_npz(path, notices=notices)["x"].shape == (3, 5)
    assert notices.notes == [f"{path}: the rows are read from the array `{name}`, since there is no `x`"]
    saved(path, **{name: np.ones((3, 5)), "features": np.ones((3, 5))})
    with refused(
        f"the file has no rows under `x`; there are {sorted([name, 'features'])}; save the rows under the name x"
    ):
        read_npz(path)


def test_the_label_has_the_name_of_the_config(tmp_path: Path) -> None:
    """The labels are the array that `reference.label` names, else `y`; a name that must be there is refused if not."""
    path = saved(tmp_path / "r.npz", x=np.ones((3, 5)), y=np.zeros(3), kind=np.ones(3))
    assert read_npz(path, label="kind")["y"].tolist() == [1, 1, 1]
    assert read_npz(path, label="other")["y"].tolist() == [0, 0, 0]
    with refused(f"reference.label: no array 'other' in {path}; there are ['kind', 'x', 'y']"):
        read_npz(path, label="other", required=True)


def test_labels_that_may_have_been_forgotten_are_warned_of(tmp_path: Path) -> None:
    """A file without the label's array, but with one of a usual name, is warned of."""
    notices = Notices()
    path = saved(tmp_path / "r.npz", arr_0=np.ones((3, 5)), arr_1=np.zeros(3))
    assert "y" not in read_npz(path, notices=notices)
    assert "so the rows have no labels; if `arr_1` holds the labels, write `label: arr_1` under" in notices.warnings[0]


def arrays(**values: Any) -> dict[str, Any]:
    return {"x": np.zeros((3, 5), np.float32), **values}


def rows_of(
    kind: str, *, classes: tuple[str, ...] = tiny_models.CLASSES, notices: Notices | None = None, **values: Any
) -> Any:
    return rows_from_npz(values, tiny_models.schema(kind), classes=classes, path=Path("r.npz"), notices=notices)


def noticed(kind: str, **values: Any) -> tuple[Any, Notices]:
    notices = Notices()
    return rows_of(kind, notices=notices, **values), notices


def test_bytes_are_divided_by_255() -> None:
    """uint8 is scaled to [0, 1], as in requests, for a tensor with a note. Floats are taken as they are."""
    x = np.arange(36, dtype=np.uint8).reshape(1, 1, 6, 6) * 7
    rows, notices = noticed("image", x=x)
    assert rows.x.numpy() == pytest.approx(x / 255)
    assert np.array_equal(rows_of("image", x=rows.x.numpy()).x.numpy(), rows.x.numpy())
    assert notices == Notices()
    rows, notices = noticed("tensor", x=np.full((2, 5), 255, np.uint8))
    assert rows.x.max() == 1
    assert "`x` holds uint8, which is divided by 255, as in requests" in notices.notes[0]
    assert notices.warnings == []


@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_bytes_that_are_no_share_of_255_are_warned_of(kind: str) -> None:
    """uint8 that holds 0 and 1 alone is warned of: divided by 255 it is nearly nothing."""
    shape = (2, *tiny_models.SHAPES[kind])
    _, notices = noticed(kind, x=np.ones(shape, np.uint8))
    assert "`x` holds uint8 that reaches from 0 to 1, and is divided by 255" in notices.warnings[0]
    assert rows_of(kind, x=np.ones(shape, np.bool_)).x.max() == 1


@pytest.mark.parametrize("kind", ["image", "tensor"])
@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">f8", "<i8", "?"])
def test_numbers_of_any_type_are_float32(kind: str, dtype: str) -> None:
    """Numbers of any width and byte order, in any order of axes in memory, are the same float32 rows."""
    x = np.asfortranarray(
        (np.arange(2 * math.prod(tiny_models.SHAPES[kind])) % 2).reshape(2, *tiny_models.SHAPES[kind]).astype(dtype)
    )
    rows = rows_of(kind, x=x).x
    assert rows.dtype == torch.float32
    assert rows.is_contiguous()
    assert np.array_equal(rows.numpy(), x.astype(np.float32))


@pytest.mark.parametrize("kind", ["image", "tensor"])
@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-1e39, "-inf")])
def test_values_that_are_no_number(kind: str, value: float, shown: str) -> None:
    """NaN, infinity and what float32 cannot hold are warned of with the row and the place."""
    x = np.zeros((3, *tiny_models.SHAPES[kind]))
    x[1].reshape(-1)[2] = value
    place = [0, 0, 2] if kind == "image" else [2]
    (warning,) = noticed(kind, x=x)[1].warnings
    assert warning.startswith(
        f"r.npz, row 1, place {place}: the value is {shown} in float32; a row of kind {kind} needs"
    )
    assert warning.endswith("; a server refuses such rows")


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.linspace(0, 245, 36), "image values reach from 0 to 245; scale them to [0, 1] or give uint8: save x / 255"),
        (np.arange(36), "reach from 0 to 35; scale them to [0, 1] or give uint8: save x.astype(numpy.uint8) if the"),
        (np.arange(36) * 7, "reach from 0 to 245; scale them to [0, 1] or give uint8: save x.astype(numpy.uint8)"),
        (np.linspace(0, 16, 36), "save x / 255 if the largest value that a pixel can have is 255, or x / 16 if 16 is"),
        (np.arange(36, dtype=np.uint16) * 1800, "give uint8: save x / 65535"),
        (np.linspace(-2, 2, 36), "if they were normalised (by a mean and a standard deviation), save them without"),
    ],
)
def test_images_on_another_scale(x: Any, sentence: str) -> None:
    """An image outside of [0, 1] is refused with what it looks like."""
    with refused(sentence):
        rows_of("image", x=x.reshape(1, 1, 6, 6))


def test_images_that_were_divided_twice_are_warned_of() -> None:
    """Floats that reach no further than 1/255 are warned of."""
    _, notices = noticed("image", x=np.linspace(0, 1 / 255, 36).reshape(1, 1, 6, 6))
    assert "which looks as if they were divided by 255 twice" in notices.warnings[0]


@pytest.mark.parametrize("shape", [(2, 6, 6), (2, 6, 6, 1)])
def test_an_axis_of_one(shape: tuple[int, ...]) -> None:
    """Grey pictures without a channel, or with the channel last, are read, with a note."""
    x = np.linspace(0, 1, 72, dtype=np.float32)
    rows, notices = noticed("image", x=x.reshape(shape))
    assert np.array_equal(rows.x.numpy(), x.reshape(2, 1, 6, 6))
    assert notices.notes == [
        f"r.npz: rows of shape {list(shape[1:])} are read as [1, 6, 6]: the shapes differ only in an axis of length 1"
    ]


@pytest.mark.parametrize(
    ("given", "expected", "sentence"),
    [
        ((8, 9, 3), (3, 8, 9), "this looks like channels last: save x.transpose(0, 3, 1, 2)"),
        ((3, 9, 8), (3, 8, 9), "this looks like the axes in another order: save x.transpose(0, 1, 3, 2)"),
        ((9, 8), (8, 9), "this looks like the axes in another order: save x.transpose(0, 2, 1)"),
        ((216,), (3, 8, 9), "if the rows were flattened from this shape, save x.reshape(-1, 3, 8, 9)"),
        ((4, 9), (8, 9), "a row of `x` has shape [4, 9], the config's input has [8, 9]"),
    ],
)
def test_axes_in_another_order(given: tuple[int, ...], expected: tuple[int, ...], sentence: str) -> None:
    """Rows of another shape are refused, with the call that gives them the right shape."""
    schema = InputSchema(kind="tensor", shape=expected)
    x = np.arange(2 * math.prod(given), dtype=np.float32).reshape(2, *given)
    with refused(sentence) as found:
        rows_from_npz({"x": x}, schema, classes=(), path=Path("r.npz"))
    call = str(found.value).partition("save ")[2]
    if call:
        mended = eval(call, {"x": x})  # noqa: S307 - our own sentence
        assert rows_from_npz({"x": mended}, schema, classes=(), path=Path("r.npz")).x.shape[1:] == expected


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([0, 2, 1]), [0, 2, 1]),
        (np.array([[0], [2], [1]]), [0, 2, 1]),
        (np.array([0, 2, 1], np.uint8), [0, 2, 1]),
        (np.array(["ant", "cat", "bee"]), [0, 2, 1]),
        (np.array([b"ant", b"cat", b"bee"]), [0, 2, 1]),
        (np.array([False, True, True]), [0, 1, 1]),
        (np.array([0.0, 2.0, 1.0]), [0, 2, 1]),
        (np.eye(3)[[0, 2, 1]], [0, 2, 1]),
        (np.eye(3, dtype=bool)[[0, 2, 1]], [0, 2, 1]),
    ],
)
def test_labels_of_npz(y: Any, expected: list[int]) -> None:
    """Labels are class indices or names, in one column or flat, as whole numbers of any type, or one-hot."""
    assert rows_of("tensor", **arrays(y=y)).y.tolist() == expected


def test_labels_that_are_read_in_another_way_are_said() -> None:
    """One-hot labels and whole numbers stored as floats are taken with a note."""
    assert "`y` is one-hot; it is read as class indices" in noticed("tensor", **arrays(y=np.eye(3)))[1].notes[0]
    assert "`y` holds whole numbers as float64" in noticed("tensor", **arrays(y=np.zeros(3)))[1].notes[0]


def test_indices_that_are_names_of_other_classes_are_warned_of() -> None:
    """A class index that is also the name of another class is warned of: the index counts."""
    rows, notices = noticed("tensor", classes=("2", "1", "0"), **arrays(y=np.array([0, 1, 2])))
    assert rows.y.tolist() == [0, 1, 2]
    assert "are indices of classes: 0 means '2', not the class named '0'" in notices.warnings[0]
    _, notices = noticed("tensor", classes=("0", "1", "2"), **arrays(y=np.array([0, 1, 2])))
    assert notices == Notices()


def test_groups_are_texts() -> None:
    """Groups are names: texts, bytes, numbers by their shortest digits, booleans; an empty one is missing."""
    given = {
        "text": np.array(["f", "", "ü"]),
        "bytes": np.array(["f", "", "ü"]).astype("U1").astype(object).astype(str),
        "raw": np.array([b"f", b"", "ü".encode()]),
        "whole": np.array([1, 2, 10]),
        "real": np.array([1.0, NAN, 0.5]),
        "truth": np.array([True, False, True]),
    }
    rows = rows_of("tensor", **arrays(**{f"group_{name}": values for name, values in given.items()}))
    assert rows.groups == {
        "text": ("f", None, "ü"),
        "bytes": ("f", None, "ü"),
        "raw": ("f", None, "ü"),
        "whole": ("1", "2", "10"),
        "real": ("1", None, "0.5"),
        "truth": ("True", "False", "True"),
    }
    with refused("texts are stored as bytes that are not UTF-8"):
        rows_of("tensor", **arrays(group_a=np.array([b"\xe9", b"a", b"b"])))


def test_values_of_npz() -> None:
    """A regression's labels are numbers of any type."""
    for y in (np.array([1, 2, 3]), np.array([[1.0], [2.0], [3.0]])):
        assert rows_of("tensor", classes=(), **arrays(y=y)).y.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "values", "sentence"),
    [
        ({}, {"x": np.zeros((3, 4))}, "a row of `x` has shape [4], the config's input has [5]"),
        (
            {},
            arrays(y=np.array([0.0, 1.5, 2.0])),
            "`y` holds float64, such as 1.5; it needs class indices or names; for a",
        ),
        ({}, arrays(y=np.array([0.0, NAN, 2.0])), "row 1: the row has no label (NaN in `y`)"),
        ({}, arrays(y=np.array(["ant", "", "bee"])), "row 1: '' is none of the classes"),
        ({}, arrays(y=np.zeros(3, complex)), "`y` holds complex128; it needs class indices or names"),
        (
            {},
            arrays(y=np.array([0, 1, 7])),
            "`y` reaches from 0 to 7, but there are 3 classes; if 0 stands for 'ant' and so",
        ),
        (
            {},
            arrays(y=np.array([1, 2, 3])),
            "`y` reaches from 1 to 3, but there are 3 classes; if 1 stands for 'ant' and so",
        ),
        (
            {},
            arrays(y=np.array([1, 1, 3])),
            "there are 3 classes; save indices from 0 to 2, or the names of the classes",
        ),
        ({"classes": ("1", "2", "3")}, arrays(y=np.array([1, 1, 3])), "they are names of classes: save them as texts"),
        (
            {},
            arrays(y=np.full((3, 3), 1 / 3)),
            "`y` has shape [3, 3]; it needs one entry per row: the index of the class",
        ),
        ({}, arrays(y=np.eye(4)[:3]), "`y` is one-hot with 4 columns, but there are 3 classes"),
        ({}, arrays(y=np.array(["ant", "dog", "bee"])), "row 1: 'dog' is none of the classes"),
        ({}, arrays(y=np.zeros((3, 2), int)), "`y` has shape [3, 2]; it needs one entry per row"),
        ({"classes": ()}, arrays(y=np.array([0, 1, NAN])), "row 2: `y` is nan, which is not finite in float32"),
        (
            {"classes": ()},
            arrays(y=np.array(["a", "b", "c"])),
            "`y` holds <U1; a regression needs a number for each row",
        ),
    ],
)
def test_npz_that_does_not_fit(options: Any, values: Any, sentence: str) -> None:
    """A shape or a label that does not fit is refused in a sentence."""
    with refused(sentence):
        rows_of("tensor", **options, **values)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"y": np.zeros(3)}, "the file has no rows under `x`; there are ['y']"),
        ({"x": np.zeros((0, 5))}, "the file has no rows under `x`; there are ['x']"),
        ({"x": np.array(3.0)}, "the file has no rows under `x`; there are ['x']"),
        ({"x": np.array(["a", "b"])}, "`x` holds <U1, not numbers"),
        ({"x": np.zeros((3, 5), complex)}, "`x` holds complex128, not numbers"),
        (arrays(y=np.zeros(2)), "`y` has shape [2] for 3 rows"),
        (arrays(y=np.array(1)), "`y` has shape [] for 3 rows"),
        (arrays(group_a=np.array(["f"])), "`group_a` has shape [1] for 3 rows"),
        (arrays(group_a=np.full((3, 2), "f")), "`group_a` has shape [3, 2]; it needs one entry per row"),
        ({"x": np.zeros(3, [("a", "f8")])}, "`x` holds [('a', '<f8')], not numbers"),
        ({"x": np.array(["2024-01-02"], "M8[D]")}, "`x` holds datetime64[D], not numbers"),
        (arrays(y=objects("ant", "bee", None)), "or numpy.asarray(values, dtype=str)"),
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
    with refused("`x` holds Python objects, which are never loaded; save numbers or texts, such as"):
        read_npz(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros((3, 5)))
    with refused("the file holds a single array; save the array with numpy.savez"):
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
    """Declared columns name the columns of x; undeclared ones are numbered; indices become categories."""
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


def test_columns_of_an_npz_that_the_config_overrides() -> None:
    """Columns that are named by their number are declared, the others stay as they are."""
    table = table_of_npz(
        {"x": np.array([[1, 0], [2, 1]])}, spec(categorical("x1", categories=["u", "v"])), Path("r.npz")
    )
    assert {name: column.cells.tolist() for name, column in table.columns.items()} == {"x0": [1, 2], "x1": ["u", "v"]}


def test_a_table_with_fewer_columns_than_the_file() -> None:
    """A schema that leaves out columns of `x` takes its own by the names of the config."""
    schema = InputSchema(kind="tabular", shape=(1,), columns=(Column(name="b", kind="numeric"),))
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    rows = rows_from_npz({"x": x}, schema, classes=(), path=Path("r.npz"), spec=spec(numeric("a"), numeric("b")))
    assert rows.x.tolist() == [[2], [4]]
    with refused("a row of `x` has shape [2], the config's input has [1]"):
        rows_from_npz({"x": x}, schema, classes=(), path=Path("r.npz"), spec=spec())


def test_a_table_of_three_axes() -> None:
    """A table whose rows have a last axis of length 1 is read as if they had none."""
    x = np.array([[1.5, 0], [2.5, 1]])
    assert table_of_npz({"x": x[..., None]}, spec(), Path("r.npz")).columns["x0"].cells.tolist() == [1.5, 2.5]
    x = np.array([[1.0, 2, 3, 0]])
    assert rows_of("tabular", x=x[..., None]).x.tolist() == x.tolist()
