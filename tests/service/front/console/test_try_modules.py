"""The modules of the tab Try that touch no page: rows, image files, nudges, and requests as text. They run in node."""

import ast
import base64
import json
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MODULES = Path(__file__).parents[4] / "service" / "front" / "console" / "page" / "try"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed (Debian: apt-get install nodejs)")
JOBS = ["cook", "pilot"]
TABLE = {
    "kind": "tabular",
    "shape": [3],
    "columns": [
        {"name": "age", "kind": "numeric", "minimum": 0, "maximum": 120, "categories": None, "fill": 44.5},
        {"name": "job", "kind": "categorical", "minimum": None, "maximum": None, "categories": JOBS, "fill": 1},
        {"name": "income", "kind": "numeric", "minimum": None, "maximum": None, "categories": None, "fill": 50},
    ],
    "spread": None,
}  # fmt: skip
TENSOR = {"kind": "tensor", "shape": [2, 2], "columns": [], "spread": [-1, 3]}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the modules to a place where node takes them for modules."""
    folder = tmp_path_factory.mktemp("try")
    shutil.copytree(MODULES, folder / "try")
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def value(modules: Path, module: str, expression: str, **given: Any) -> Any:
    """Evaluate JavaScript with a module's exports as ``m`` and the values that are given by their names."""
    script = f"""import * as m from "./try/{module}.js";
        const {{ {", ".join(given)} }} = {json.dumps(given)};
        process.stdout.write(JSON.stringify(await ({expression})) ?? "null");"""
    assert NODE is not None
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", script],
        cwd=modules,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_form_starts_with_the_typical_row(modules: Path) -> None:
    """A table's form starts with medians and most frequent categories; a small tensor with the middle of its values."""
    assert value(modules, "rows", "m.typicalRow(rows)", rows=TABLE) == {"age": 44.5, "job": "pilot", "income": 50}
    assert value(modules, "rows", "m.typicalRow(rows)", rows=TENSOR) == [[1, 1], [1, 1]]
    wide = {"kind": "tensor", "shape": [501], "columns": [], "spread": None}
    assert value(modules, "rows", "m.typicalRow(rows)", rows=wide) is None


def test_cells_become_what_json_holds(modules: Path) -> None:
    """An empty cell is missing, a number is a number, and a wrong text is left to the server to refuse."""
    cells = (
        "[['', ' 1e3 ', 'abc'].map((text) => m.cellOf(number, text)), ['7', ' '].map((text) => m.cellOf(name, text))]"
    )
    number, name = TABLE["columns"][0], TABLE["columns"][1]  # type: ignore[index]
    assert value(modules, "rows", cells, number=number, name=name) == [[None, 1000, "abc"], ["7", None]]


def test_one_cell_changes_and_the_others_stay(modules: Path) -> None:
    """A changed cell of a table or of a tensor makes a new row; the old row stays as it was."""
    row = {"age": 1, "job": "cook", "income": None}
    changed = "[m.withCell(row, rows, 0, 9), row, m.cellAt(row, rows, 1)]"
    assert value(modules, "rows", changed, row=row, rows=TABLE) == [row | {"age": 9}, row, "cook"]
    changed = "[m.withCell(row, rows, 2, 9), m.cellAt(row, rows, 3), m.fieldsOf(rows).map(({ name }) => name)]"
    names = ["x[0, 0]", "x[0, 1]", "x[1, 0]", "x[1, 1]"]
    assert value(modules, "rows", changed, row=[[1, 2], [3, 4]], rows=TENSOR) == [[[1, 2], [9, 4]], 4, names]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[30, "cook", null]', {"row": {"age": 30, "job": "cook", "income": None}, "groups": {}}),
        (
            '{"instances": [{"age": 1}], "groups": {"sex": ["Male"]}, "ids": ["a"]}',
            {"row": {"age": 1}, "groups": {"sex": "Male"}},
        ),
    ],
)
def test_pasted_json_is_a_row_or_a_request(modules: Path, text: str, expected: Any) -> None:
    """A row as a list or an object, and a request with one row, can be pasted."""
    assert value(modules, "rows", "m.readPasted(text, rows)", text=text, rows=TABLE) == expected


@pytest.mark.parametrize(("text", "word"), [("[1,", "no JSON"), ('{"instances": [[1], [2]]}', "one row")])
def test_pasted_text_that_is_no_row_is_refused(modules: Path, text: str, word: str) -> None:
    """Text that is no JSON, or that holds several rows, is refused with a sentence."""
    caught = "(() => { try { m.readPasted(text, rows); } catch (fault) { return fault.message; } })()"
    assert word in value(modules, "rows", caught, text=text, rows=TABLE)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_holds_the_pixels(modules: Path, channels: int) -> None:
    """Pillow reads from the PNG of an array the same pixels, in the mode that a model of so many channels takes."""
    pixels = np.random.default_rng(channels).integers(0, 256, (channels, 5, 7))
    made = value(
        modules, "png", "m.encodePng(values, shape).then(m.base64)",
        values=(pixels / 255).ravel().tolist(), shape=pixels.shape,
    )  # fmt: skip
    image = Image.open(BytesIO(base64.b64decode(made)))
    assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    read = np.asarray(image).reshape(5, 7, channels).transpose(2, 0, 1)
    assert np.array_equal(read, pixels)


def test_only_pixels_fit_into_a_png(modules: Path) -> None:
    """Values outside of [0, 1] and numbers of channels that no PNG has are sent as lists."""
    fits = "[m.fitsPng([0, 1], [1, 1, 2]), m.fitsPng([0, 1.01], [1, 1, 2]), m.fitsPng([0, 1], [2, 1, 1])]"
    assert value(modules, "png", fits) == [True, False, False]


def test_nudges_are_what_they_are_called(modules: Path) -> None:
    """Noise has its deviation and comes again, blur keeps the mean and smooths, and brightness is added and clipped."""
    grey = np.full((1, 30, 30), 0.5)
    made = "Array.from(m.nudged(values, shape, { ...m.STILL, ...change }))"

    def nudged(values: Any, **change: float) -> Any:
        return np.array(
            value(modules, "nudges", made, values=values.ravel().tolist(), shape=values.shape, change=change)
        )

    noisy = nudged(grey, noise=0.1)
    assert noisy.std() == pytest.approx(0.1, rel=0.1)
    assert noisy.mean() == pytest.approx(0.5, abs=0.02)
    assert np.array_equal(noisy, nudged(grey, noise=0.1))
    point = np.zeros((1, 30, 30))
    point[0, 15, 15] = 1
    blurred = nudged(point, blur=1.5).reshape(30, 30)
    assert blurred.sum() == pytest.approx(1, abs=1e-6)
    across = ((np.arange(30) - 15) ** 2 * blurred.sum(0)).sum()
    assert across == pytest.approx(1.5**2, rel=0.05)
    assert np.allclose(blurred, blurred.T)
    assert np.allclose(nudged(grey, brightness=0.2), 0.7)
    assert np.allclose(nudged(grey, brightness=0.6), 1)
    assert np.array_equal(nudged(grey), grey.ravel())


def test_the_slider_of_a_column_reaches_beyond_what_is_allowed(modules: Path) -> None:
    """The slider goes half of the range beyond the bounds, or beyond the values that were seen."""
    ends = "[m.rangeOf(age, []), m.rangeOf(income, [10, null, 30])]"
    columns: Any = TABLE["columns"]
    assert value(modules, "nudges", ends, age=columns[0], income=columns[2]) == [[-60, 180], [-10, 70]]


def test_the_newest_question_is_answered_and_the_others_are_left_out(modules: Path) -> None:
    """While one question is being answered, only the last of the questions that come waits."""
    order = """(async () => {
        const asked = [];
        const pause = () => new Promise((on) => setTimeout(on, 5));
        const ask = m.newestOf((question) => { asked.push(question); return pause(); });
        await Promise.all([1, 2, 3, 4].map(ask));
        return asked;
    })()"""
    assert value(modules, "newest", order) == [1, 4]


def test_python_literals_are_python(modules: Path) -> None:
    """A value of JSON becomes the same value of Python."""
    given = {"a": [None, True, False, 1.5, -3], "b": {'ü "quote" \\ \n': "\U0001f600"}, "c": []}
    assert ast.literal_eval(value(modules, "request_texts", "m.literal(given)", given=given)) == given
